"""What a step may write over: shown by steps in any order, on memory that is shared."""

from random import Random

import numpy as np
import onnx
import pytest
from onnx.reference.op_run import OpRun
from onnx.reference.ops import load_op

import graphopt as go
from graphopt.onnxio.write import inlined, lower
from graphopt.passes.memory.asgd_rows import History
from graphopt.passes.memory.overwrite import Donate, InPlace
from graphopt.passes.memory.overwrite_proof import VIEWS
from graphopt.passes.pipelines import OPTIMISE, Pipeline, Setting
from graphopt.passes.select.prune import Prune, assigns_state
from tests.passes.both_runtimes import FUSED, as_step

HEADER = """
param w : f32[3, 4]
param b : f32[4]
state s : f32[3, 4]
state lr : f32[]
feed x : f32[5, 3]
feed dy : f32[5, 4]
feed k : i64[2]
feed row : f32[1, 5]
state c : i64[1]
"""
GRADIENT = "dw : f32[3, 4] = Gemm(x, dy, transA=1)\n"
SGD = "-- update\nw <- SGD(w, dw, lr)\n"
# ops: (what may be written over as they are, and after InPlace)
CASES = {
    "nothing else reads": (GRADIENT + SGD, {"w"}, {"w"}),
    "the input's gradient reads": (
        "dx : f32[5, 3] = Gemm(dy, w, transB=1)\n" + GRADIENT + SGD, set(), {"w"},
    ),
    "what the gradient needs reads": (
        "d : f32[5, 4] = MatMul(x, w)\ne : f32[5, 4] = Mul(d, dy)\n"
        "dw : f32[3, 4] = Gemm(x, e, transA=1)\n" + SGD, {"w"}, {"w"},
    ),
    "a view is read late": (
        "v : f32[12] = Reshape(w, [12])\ne : f32[12] = Exp(v)\n" + GRADIENT + SGD, set(), {"w"},
    ),
    "a view alone": ("v : f32[12] = Reshape(w, [12])\n" + GRADIENT + SGD, set(), {"w"}),
    "a view is read behind": (
        "v : f32[12] = Reshape(w, [12])\n" + GRADIENT + SGD + "e : f32[12] = Exp(v)\n",
        set(), set(),
    ),
    "many read": (
        "p : f32[3, 4] = Exp(w)\nq : f32[3, 4] = Sin(w)\nr : f32[3, 4] = Cos(w)\n"
        + GRADIENT + SGD, set(), set(),
    ),
    "another dtype reads": ("p : f64[3, 4] = Cast(w, to=f64)\n" + GRADIENT + SGD, set(), set()),
    "a read behind sees what is new": (
        GRADIENT + SGD + "-- forward\ne : f32[3, 4] = Exp(w)\n", {"w"}, {"w"},
    ),
    "assigned twice": (GRADIENT + SGD + "w <- SGD(w, dw, lr)\n", {"w"}, {"w"}),
    "a position that may be wrong": (
        "e : f32[2, 4] = Gather(w, k)\n" + GRADIENT + SGD, set(), set(),
    ),
    "a position for something else": (
        "e : f32[2, 4] = Gather(dy, k)\n" + GRADIENT + SGD, set(), set(),
    ),
    "a position that was right before": (
        "r : f32[2, 3] = Gather(x, k)\nf : f32[2, 4] = MatMul(r, w)\n"
        "z : f32[5, 4] = Mul(dy, 0.0)\nu : i64[2, 1] = Unsqueeze(k, [1])\n"
        'n : f32[5, 4] = ScatterND(z, u, f, reduction="add")\n'
        "dw : f32[3, 4] = Gemm(x, n, transA=1)\n" + SGD, {"w"}, {"w"},
    ),
    "positions that another result was right for": (
        "i : i64[1], j : i64[1] = Split(k, [1, 1])\n"
        "r : f32[1, 3] = Gather(x, i)\nq : f32[1, 3] = Gather(x, j)\n"
        "u : f32[1, 4] = MatMul(r, w)\nz : f32[5, 4] = Mul(dy, u)\n"
        "dw : f32[3, 4] = Gemm(x, z, transA=1)\n" + SGD, set(), set(),
    ),
    "positions that are drawn anew": (
        "i : i64[1, 2] = Multinomial(row, dtype=i64, sample_size=2)\n"
        "j : i64[1, 2] = Multinomial(row, dtype=i64, sample_size=2)\n"
        "r : f32[1, 2, 3] = Gather(x, i)\nq : f32[1, 2, 3] = Gather(x, j)\n"
        "u : f32[1, 2, 4] = MatMul(r, w)\nt : f32[1] = ReduceSum(u, [1, 2], keepdims=0)\n"
        "z : f32[5, 4] = Mul(dy, t)\ndw : f32[3, 4] = Gemm(x, z, transA=1)\n" + SGD, set(), set(),
    ),
    "positions that are counted on": (
        "r : f32[1, 3] = Gather(x, c)\nu : f32[1, 4] = MatMul(r, w)\nz : f32[5, 4] = Mul(dy, u)\n"
        "dw : f32[3, 4] = Gemm(x, z, transA=1)\n-- update\nc <- Add(c, [1])\n"
        "w <- SGD(w, dw, lr)\n-- forward\nq : f32[1, 3] = Gather(x, c)\n", set(), set(),
    ),
    "two states of a rule": (
        GRADIENT + "-- update\nw, s <- Momentum(w, dw, s, lr)\n", {"w", "s"}, {"w", "s"},
    ),
    "broadcast state": (GRADIENT + "-- update\ns <- Add(w, s)\n", {"s"}, {"s"}),
    "moved while it is read": ("-- update\ns <- Softmax(s)\n", set(), set()),
    "moved, and then assigned": (
        "m : f32[3, 4] = Softmax(s)\n-- update\ns <- Identity(m)\n", set(), set(),
    ),
    "assigned by the user": ("-- forward\ns <- Mul(s, lr)\n", set(), set()),
    "moved while a view is read": (
        "v : f32[12] = Reshape(s, [12])\nu : f32[3, 4] = Reshape(v, [3, 4])\n"
        "-- update\ns <- Softmax(u)\n", set(), set(),
    ),
    "a view that is read element by element": (
        "v : f32[12] = Reshape(s, [12])\nu : f32[3, 4] = Reshape(v, [3, 4])\n"
        "-- update\ns <- Mul(u, lr)\n", {"s"}, {"s"},
    ),
}  # fmt: skip


def donated(step):
    """The names of what is written over, however small."""
    return {v.name for v in Donate(least=0).run(step).donated}


def borrowed(step):
    """The names of the states whose memory takes another result first."""
    return [v.name for v in Donate(least=0).run(step).borrowed.values()]


@pytest.mark.parametrize("name", CASES)
def test_cases(name):
    ops, before, after = CASES[name]
    step = as_step(HEADER + ops)
    assert donated(step) == before
    assert donated(InPlace(least=0).run(step)) == after


@pytest.mark.parametrize("name", [name for name, (_, _, after) in CASES.items() if after])
def test_cases_in_any_order(name, rng):
    """Whatever the order, on shared memory: what each op makes is what it makes on its own.

    Views share their operand's memory here, so they are not looked at; a runtime copies those that
    are asked for.
    """
    step = as_step(HEADER + CASES[name][0])
    made = [op for op in step.global_block().ops if op.type not in VIEWS]
    step.fetch = [v for op in made for v in op.writes()]
    step = Donate(least=0).run(InPlace(least=0).run(step))
    values = {v.name: rng.uniform(0.5, 2, v.shape).astype(v.dtype) for v in step.inputs()}
    assert {v.name for v in step.donated} == CASES[name][2]
    check_any_order(step, values)


def test_small_states_are_left_alone():
    step = as_step(HEADER + "dx : f32[5, 3] = Gemm(dy, w, transB=1)\n" + GRADIENT + SGD)
    assert InPlace().run(step).text() == step.text()
    assert Donate().run(step).donated == frozenset()


ROWS = """
param w : f32[3, 4]
state d : f32[3, 4]
state y : f32[9, 3, 4]
state m : i64[1]
state lr : f32[]
feed x : f32[5, 3]
feed dy : f32[5, 4]
-- backward
"""


def over_rows(ops):
    """A step of ASGD over a row, in order."""
    step = as_step(ROWS + ops + "-- update\nw, d, y, m <- ASGD(w, dw, d, y, m, lr)\n")
    return InPlace(least=0).run(History().run(step))


def test_a_gradient_takes_the_place_of_its_row_and_waits_for_it():
    step = over_rows(GRADIENT)
    assert "ASGDSum" in step.text()
    assert donated(step) == {"w", "d", "y@ROW"}
    assert borrowed(step) == ["d"]


def test_a_gradient_that_is_no_product_has_a_row_of_its_own():
    step = over_rows("e : f32[3, 4] = Gemm(x, dy, transA=1)\ndw : f32[3, 4] = Exp(e)\n")
    assert "ASGDRow" in step.text()
    assert donated(step) == {"w", "d"}
    assert not borrowed(step)


def test_a_sum_that_is_read_elsewhere_is_not_taken_apart_in_its_place():
    step = over_rows("e : f32[3, 4] = Exp(d)\n" + GRADIENT)
    assert donated(step) == {"w", "y@ROW"}
    assert not borrowed(step)


OPTIMIZERS = {
    "ASGD": lambda: go.optimizer.ASGD(0.05, batch_num=2),
    "ASGD, decayed": lambda: go.optimizer.ASGD(0.05, batch_num=3, weight_decay=0.01),
    "SGD": lambda: go.optimizer.SGD(0.05),
    "Momentum": lambda: go.optimizer.Momentum(0.05, use_nesterov=True),
    "Adam": lambda: go.optimizer.Adam(0.05),
    "AdamW": lambda: go.optimizer.AdamW(0.05, weight_decay=0.1),
    "RMSProp": lambda: go.optimizer.RMSProp(0.05, momentum=0.9),
    "Adagrad": lambda: go.optimizer.Adagrad(0.05),
    "Adadelta": lambda: go.optimizer.Adadelta(0.05),
    "Lamb": lambda: go.optimizer.Lamb(0.05),
    "NAdam": lambda: go.optimizer.NAdam(0.05),
    "RAdam": lambda: go.optimizer.RAdam(0.05),
    "Rprop": lambda: go.optimizer.Rprop(0.05),
}


def training_step(optimizer):
    """A step of a small network of ids, pruned and ordered as the runtime does; and its state."""
    main, startup = go.static.Program(), go.static.Program()
    startup.random_seed = 5
    with go.static.program_guard(main, startup):
        x, y = go.static.data("x", [6], "int64"), go.static.data("y", [6], "int64")
        h = go.nn.functional.relu(go.nn.Linear(4, 5)(go.nn.Embedding(7, 4)(x)))
        loss = go.nn.functional.cross_entropy(go.nn.Linear(5, 3)(h), y)
        optimizer().minimize(loss)
    ops = main.global_block().ops
    roots = tuple(k for k, op in enumerate(ops) if assigns_state(op))
    step = Prune((loss.name,), ("x", "y"), roots).run(main)
    step = Pipeline("optimise", OPTIMISE).run(step, Setting(shapes={"x": (6,), "y": (6,)}))
    with go.static.scope_guard(go.static.Scope()):
        go.static.Executor().run(startup)
        values = startup.state_dict()
    return Donate(least=0).run(InPlace(least=0).run(History().run(step))), values


class Shuffled:
    """Runs the nodes of a step in any order that the data allow, over memory that is shared.

    ``home`` has, by the name of an output, the input whose memory it takes.
    """

    def __init__(self, step):
        lowered = lower(step)
        self.model = inlined(lowered.model)
        self.inputs = [i.name for i in self.model.graph.input]
        self.given = [*lowered.fetched, *lowered.next_state.values(), *lowered.new_rows]
        over = {v.name for v in step.donated}
        rows = [row.row.name for row in step.rows]
        self.home = {new: old for old, new in lowered.next_state.items() if old in over}
        replaced = zip(rows, lowered.new_rows, strict=True)
        self.home |= {new: old for old, new in replaced if old in over}
        self.home |= lowered.borrowed

    def run(self, values, random, late=""):
        """All values after a run; what is written over is copied into its place.

        Nodes that read ``late`` run when nothing else can.
        """
        known = {n: np.array(values[n]) for n in self.inputs}
        known |= {t.name: onnx.numpy_helper.to_array(t) for t in self.model.graph.initializer}
        homes = {n: known[n] for n in self.home.values()}
        waiting = list(self.model.graph.node)
        while waiting:
            ready = [n for n in waiting if all(not i or i in known for i in n.input)]
            node = random.choice([n for n in ready if late not in n.input] or ready)
            waiting.remove(node)
            for name, value in zip(node.output, self._compute(node, known), strict=False):
                if name in self.home:
                    homes[self.home[name]][...] = value
                    value = homes[self.home[name]]
                known[name] = value
        return known

    def _compute(self, node, known):
        version = self.model.opset_import[0].version
        own = {op.__name__: op for op in FUSED}
        runs = own.get(node.op_type) or load_op(node.domain, node.op_type, version)
        log = {"log": lambda *_: None, "opsets": {"": version}, "new_ops": {}, "verbose": 0}
        assert issubclass(runs, OpRun)
        return runs(node, log).run(*[known[i] if i else None for i in node.input])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_order_gives_the_same(name, rng):
    step, values = training_step(OPTIMIZERS[name])
    assert len(step.donated) > 3
    values |= {"x": rng.integers(0, 7, 6), "y": rng.integers(0, 3, 6)}
    for v in step.inputs():
        if v.name not in values:
            values[v.name] = np.asarray(rng.normal(size=v.shape) + 2, v.dtype)
    assert {*step.inputs()} >= step.donated
    check_any_order(step, values)


def check_any_order(step, values):
    """The Step gives the same in many orders on shared memory as in one without."""
    shared, plain = Shuffled(step), Shuffled(step)
    assert len(shared.home) == len(step.donated) + len(step.borrowed)
    plain.home = {}
    expected = plain.run(values, Random(0))
    for late in ["", *{*shared.home, *shared.home.values()}]:
        after = shared.run(values, Random(late), late)
        for output in shared.given:
            np.testing.assert_array_equal(after[output], expected[output], err_msg=output)
