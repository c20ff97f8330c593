"""Threads and asyncio tasks that record at the same time, each under guards of its own."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import graphopt as go
from graphopt.ir.model import schema, seeds
from graphopt.ir.model.name_scopes import name_scope_of
from graphopt.ir.types.where import UNKNOWN, at, here
from graphopt.passes.engine import evaluate
from graphopt.static import Program, Scope, global_scope, program_guard, scope_guard

WAIT = 20  # seconds, for a thread that failed


class Meeting:
    """Two threads that wait for each other, as often as they meet."""

    def __init__(self):
        self.barrier = threading.Barrier(2, timeout=WAIT)

    def meet(self):
        self.barrier.wait()

    def run(self, first, second):
        """The results of two functions that run at the same time."""
        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(self._guarded, f) for f in (first, second)]
        return [future.result() for future in futures]

    def _guarded(self, function):
        try:
            return function()
        except BaseException:
            self.barrier.abort()
            raise


@pytest.fixture
def meeting():
    return Meeting()


def never():
    """Nobody to wait for."""


def network(width, depth, meet):
    """A training Program and its startup Program, each line recorded when ``meet`` returns."""
    main, startup = Program(), Program()
    go.seed(width)
    with program_guard(main, startup):
        meet()
        h = go.static.data("x", [None, 3])
        for _ in range(depth):
            meet()
            with go.static.name_scope("layer"):
                h = go.static.nn.fc(h, width, activation="relu")
        meet()
        loss = go.mean(h)
        meet()
        go.optimizer.Adam(0.1).minimize(loss)
        meet()
    return main, startup


def texts(programs):
    return [program.text() for program in programs]


def test_two_threads_record_what_each_would_alone(meeting):
    for width in range(2, 12):
        found = meeting.run(
            lambda width=width: network(width, 1, meeting.meet),
            lambda width=width: network(width + 20, 1, meeting.meet),
        )
        alone = [network(width, 1, never), network(width + 20, 1, never)]
        assert [[p.name for p in main.all_parameters()] for main, _ in found] == [
            ["fc_0.w_0", "fc_0.b_0"]
        ] * 2
        assert [texts(pair) for pair in found] == [texts(pair) for pair in alone]
        assert [[op.scope for op in m.global_block().ops] for m, _ in found] == [
            [op.scope for op in m.global_block().ops] for m, _ in alone
        ]


def test_threads_that_nobody_keeps_in_step():
    """Whatever they are doing when the interpreter turns to the other one."""
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda width: network(width, 3, never), range(2, 22)))
    assert [texts(p) for p in found] == [texts(network(w, 3, never)) for w in range(2, 22)]


def test_a_thread_starts_with_the_processs_own_programs(meeting):
    def current():
        return go.static.default_main_program(), go.static.default_startup_program()

    with program_guard(Program(), Program()):
        first, second = meeting.run(current, current)
        assert first == second
        assert not {*first} & {*current()}


def test_guards_nest_in_each_thread(meeting):
    def fail_inside(program):
        with program_guard(program):
            meeting.meet()
            assert go.static.default_main_program() is program
            raise KeyError

    def nested():
        outer, inner = Program(), Program()
        meeting.meet()
        with program_guard(outer):
            meeting.meet()
            with pytest.raises(KeyError):
                fail_inside(inner)
            meeting.meet()
            assert go.static.default_main_program() is outer
        meeting.meet()
        return go.static.default_main_program() not in (outer, inner)

    assert meeting.run(nested, nested) == [True] * 2


def test_tasks_record_what_each_would_alone():
    async def task(width):
        main, startup = Program(), Program()
        go.seed(width)
        with program_guard(main, startup):
            await asyncio.sleep(0)
            with go.static.name_scope(f"width{width}"):
                await asyncio.sleep(0)
                h = go.static.nn.fc(go.static.data("x", [None, 3]), width)
            await asyncio.sleep(0)
            go.optimizer.SGD(0.1).minimize(go.mean(h))
        return [*texts((main, startup)), main.global_block().ops[0].scope]

    async def together(*widths):
        return await asyncio.gather(*map(task, widths))

    alone = [asyncio.run(task(width)) for width in (2, 3, 4)]
    assert asyncio.run(together(2, 3, 4)) == alone
    assert [scope for *_, scope in alone] == ["/width2/", "/width3/", "/width4/"]


def test_a_task_starts_with_its_makers_guard():
    main = Program()

    async def current():
        return go.static.default_main_program()

    async def maker():
        with program_guard(main):
            made = asyncio.create_task(current())
        return await made, go.static.default_main_program()

    inside, after = asyncio.run(maker())
    assert inside is main
    assert after is go.static.default_main_program()


def test_tasks_have_name_scopes_of_their_own_in_one_program():
    main = go.static.default_main_program()
    x = go.static.data("x", [2])

    async def task(name):
        with go.static.name_scope(name):
            await asyncio.sleep(0)
            y = go.exp(x)
            await asyncio.sleep(0)
        assert name_scope_of(main) == "/"
        return next(op.scope for op in main.global_block().ops if op.outputs[0] is y)

    async def together():
        return await asyncio.gather(task("left"), task("right"))

    assert asyncio.run(together()) == ["/left/", "/right/"]


def test_scopes_of_two_threads(meeting):
    shared, feed = global_scope(), {"x": np.ones((4, 3), "f4")}

    def train(steps):
        main, startup = network(2, 1, never)
        scope, exe = Scope(), go.static.Executor()
        meeting.meet()
        with scope_guard(scope):
            meeting.meet()
            exe.run(startup)
            for _ in range(steps):
                exe.run(main, feed)
            meeting.meet()
            assert global_scope() is scope
            weight = main.all_parameters()[0].get_value()
        assert global_scope() is shared
        return weight

    found = meeting.run(lambda: train(1), lambda: train(3))
    meeting.meet = never
    np.testing.assert_array_equal(found, [train(1), train(3)])
    assert not np.array_equal(*found)
    assert shared.find_var("fc_0.w_0") is None


def test_a_thread_runs_in_the_processs_scope(meeting):
    with scope_guard(Scope()):
        first, second = meeting.run(global_scope, global_scope)
        assert first is second
        assert global_scope() is not first


def test_where_ops_are_recorded(meeting):
    def fixed():
        with at(UNKNOWN):
            meeting.meet()
            meeting.meet()
            return here().line

    def free():
        meeting.meet()
        line = here().line
        meeting.meet()
        return line

    first, second = meeting.run(fixed, free)
    assert first == 0
    assert second == free.__code__.co_firstlineno + 2


def test_loops_of_two_threads(meeting):
    """A loop whose body widens its values begins anew: its own recording, and no other's."""

    def loop(length):
        main = Program()
        with program_guard(main, Program()):
            value = go.zeros([length])

            def body(i, value):
                meeting.meet()
                return i + 1, go.concat([value, value])

            go.static.nn.while_loop(lambda i, _: i < 3, body, [go.zeros([], "int64"), value])
        return main.text(where=False)

    found = meeting.run(lambda: loop(2), lambda: loop(5))
    meeting.meet = never
    assert found == [loop(2), loop(5)]


def drawn():
    return [seeds.next_seed(Program()) for _ in range(3)]


def in_a_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def seeded(value):
    go.seed(value)
    return drawn()


def test_a_thread_has_seeds_of_its_own():
    expected = seeded(7)
    go.seed(7)
    found = [seeds.next_seed(Program())]
    assert in_a_thread(lambda: seeded(7)) == expected
    assert in_a_thread(lambda: seeded(8)) != expected
    assert in_a_thread(drawn) != expected
    assert [*found, *drawn()][:3] == expected


def test_threads_without_a_seed_share_others():
    expected = seeded(7)
    first, second = in_a_thread(drawn), in_a_thread(drawn)
    assert not {*expected} & {*first, *second}
    assert not {*first} & {*second}
    go.seed(7)
    assert in_a_thread(drawn) == first
    go.seed(8)
    assert in_a_thread(drawn) != first


def test_a_task_has_seeds_of_its_own():
    async def task(value):
        go.seed(value)
        found = []
        for _ in range(3):
            await asyncio.sleep(0)
            found.append(seeds.next_seed(Program()))
        return found

    async def together():
        return await asyncio.gather(task(7), task(8))

    alone = [seeded(7), seeded(8)]
    go.seed(9)
    assert asyncio.run(together()) == alone
    assert drawn() == seeded(9)


class Emptied(dict):
    """A cache that another thread clears whenever it is not being asked."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.clear()


@pytest.mark.parametrize(("module", "cache"), [(schema, "_memo"), (evaluate, "_evaluators")])
def test_a_cache_may_be_cleared_at_any_time(monkeypatch, module, cache):
    monkeypatch.setattr(module, cache, Emptied())
    y = go.exp(go.static.data("x", [2, 3]))
    assert y.shape == (2, 3)
    op = go.static.default_main_program().global_block().ops[-1]
    found = evaluate.evaluated(op, [np.zeros(2, "f4")])
    assert found is not None
    np.testing.assert_array_equal(found[0], np.ones(2))
