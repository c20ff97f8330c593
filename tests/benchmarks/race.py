"""Every framework on one row: first that they compute the same, then how long a step takes."""

import statistics
import sys
import time
from contextlib import ExitStack
from typing import Any

import numpy as np

from tests.benchmarks.peers import PEERS
from tests.benchmarks.rows import Row, work
from tests.benchmarks.workers import Worker

CHECK_RATE = 0.1
CHECK_STEPS = 4  # with batch_num 2: the third replaces a gradient, the fourth shows it
TOLERANCE = 1e-4  # relative, of a loss
BLOCK = 0.4  # seconds, the least that is timed at once
WARM_UP = 0.3  # seconds

Pythons = dict[str, str]  # of each framework that is raced
Samples = dict[str, list[float]]


class DisagreementError(RuntimeError):
    """Two frameworks train differently."""


def say(text: str) -> None:
    """One line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def losses(python: str, framework: str, row: Row, batch_num: int) -> list[float] | None:
    """Of the first steps; None where the framework does not offer the row."""
    worker = Worker(python, framework, row.name, rate=CHECK_RATE, batch_num=batch_num)
    try:
        if worker.skipped:
            return None
        found: list[float] = list(worker.started["loss"])
        if not row.scan:
            found += [value for [value] in worker.ask(f"losses {CHECK_STEPS - 1}")["losses"]]
        return found
    finally:
        worker.close()


def check(row: Row, pythons: Pythons) -> None:
    """Compare the losses of the first steps, each optimizer with its like.

    ASGD is compared at batch_num 2. SGD is ASGD at batch_num 1.

    Raises:
        DisagreementError: a loss differs from that of the first framework.
    """
    for optimizer, batch_num in (("ASGD", 2), ("SGD", 1)):
        like = [name for name in pythons if PEERS[name].optimizer == optimizer]
        if not like:
            continue
        names = like if optimizer == "ASGD" else [*list(pythons)[:1], *like]
        found = {name: losses(pythons[name], name, row, batch_num) for name in names}
        _compare(row, {name: values for name, values in found.items() if values})


def _compare(row: Row, found: dict[str, list[float]]) -> None:
    for name, values in found.items():
        first, expected = next(iter(found.items()))
        if not np.allclose(values, expected, rtol=TOLERANCE, atol=0):
            raise DisagreementError(f"{row.name}: {name} {values}, but {first} {expected}")


def race(row: Row, pythons: Pythons, rounds: int, machine: dict[str, float]) -> dict[str, Any]:
    """Time all frameworks in turn, block after block; what the JSON file says of the row."""
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as running:
        workers = {}
        for name, python in pythons.items():
            worker = Worker(python, name, row.name)
            running.callback(worker.close)
            if worker.skipped:
                say(f"  {name}: skipped, {worker.skipped}")
                found[name] = {"skipped": worker.skipped}
            else:
                workers[name] = worker
        blocks = {name: block_of(worker, row) for name, worker in workers.items()}
        samples = in_turn(workers, blocks, rounds)
        found |= {name: _summary(worker, samples[name]) for name, worker in workers.items()}
    _add_ratios(found)
    return {"about": row.about, "floor_ms": floor(row, machine), "frameworks": found}


def in_turn(workers: dict[str, Worker], blocks: dict[str, int], rounds: int) -> Samples:
    """Milliseconds of a step in each block, round after round over the workers."""
    samples: Samples = {name: [] for name in workers}
    disturbed = 0
    for _ in range(rounds):
        for name, worker in workers.items():
            seconds, quiet = worker.seconds_per_step(blocks[name])
            samples[name].append(1e3 * seconds)
            disturbed += not quiet
    if disturbed:
        say(f"  {disturbed} of {rounds * len(workers)} blocks were disturbed by other processes")
    return samples


def block_of(worker: Worker, row: Row) -> int:
    """Warm up; the number of steps (of a scan row: calls) in a block."""
    start, steps, seconds = time.perf_counter(), 1, 0.0
    while time.perf_counter() - start < WARM_UP or seconds * steps < BLOCK / 4:
        seconds = worker.ask(f"time {steps}")["seconds"] * (row.scan or 1)
        steps *= 2
    return max(1, int(np.ceil(BLOCK / seconds)))


def _summary(worker: Worker, samples: list[float]) -> dict[str, Any]:
    memory = worker.ask("memory")
    return {
        "version": worker.started["version"],
        "optimizer": PEERS[worker.framework].optimizer,
        "ms": statistics.median(samples),
        "first_step_s": worker.started["first_step"],
        "peak_bytes": memory["peak"],
        "imports_bytes": memory["imported"],
        "samples_ms": samples,
    }


def _add_ratios(found: dict[str, dict[str, Any]]) -> None:
    """``ratio``: to the best framework other than graphopt."""
    peers = [one["ms"] for name, one in found.items() if name != "graphopt" and "ms" in one]
    for one in found.values():
        if "ms" in one and peers:
            one["ratio"] = one["ms"] / min(peers)


def floor(row: Row, machine: dict[str, float]) -> float:
    """Milliseconds that the work of one step takes at this machine's rates; see ``rows.Work``.

    Data that stay in the caches move faster than memory is copied, and SGD moves less than the
    ASGD that is counted: either can be below it.
    """
    least = work(row)
    moved = least.state_bytes + least.activation_bytes
    return 1e3 * (least.flops / machine["flops"] + moved / machine["bytes"])
