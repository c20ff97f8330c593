"""What is measured once rather than per step: batch_num, and the time to a first step."""

import statistics
import subprocess
from contextlib import ExitStack
from typing import Any

import numpy as np

from tests.benchmarks.race import TOLERANCE, DisagreementError, Pythons, block_of, in_turn, say
from tests.benchmarks.rows import COMPILED, SWEPT
from tests.benchmarks.workers import Worker, measured

BATCH_NUMS = (1, 10, 100, 1000)
COMPILERS = ("graphopt", "JAX")
LENGTHS = (1_000, 10_000, 50_000)
REPEATS = 3
LONGEST = 60  # seconds for one chain


def sweep(python: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of a step and peak memory at each batch_num, in turn."""
    with ExitStack() as running:
        workers = {}
        for n in map(str, BATCH_NUMS):
            workers[n] = Worker(python, "graphopt", SWEPT.name, batch_num=int(n))
            running.callback(workers[n].close)
            workers[n].ask(f"time {n}")  # every row of the table is in memory before it is timed
        blocks = {n: block_of(worker, SWEPT) for n, worker in workers.items()}
        samples = in_turn(workers, blocks, rounds)
        peaks = {n: worker.ask("memory")["peak"] for n, worker in workers.items()}
    once = statistics.median(samples["1"])
    return {
        n: {
            "ms": statistics.median(samples[n]),
            "ratio": statistics.median(samples[n]) / once,
            "peak_bytes": peaks[n],
            "samples_ms": samples[n],
        }
        for n in workers
    }


def compile_times(pythons: Pythons) -> dict[str, Any]:
    """Seconds from the start of building to the end of the first step, a process each time."""
    found: dict[str, Any] = {}
    for row in COMPILED.values():
        names = [name for name in COMPILERS if name in pythons]
        times: dict[str, list[float]] = {name: [] for name in names}
        lost = {}
        for name in names * REPEATS:
            worker = Worker(pythons[name], name, row.name)
            times[name].append(worker.started["first_step"])
            [lost[name]] = worker.started["loss"]
            worker.close()
        if not np.allclose(list(lost.values()), lost[names[0]], rtol=TOLERANCE, atol=0):
            raise DisagreementError(f"{row.name}: first losses {lost}")
        found[row.name] = {
            "about": row.about,
            "frameworks": {
                name: {"s": statistics.median(ts), "samples_s": ts} for name, ts in times.items()
            },
        }
    return found


def chains(python: str) -> list[dict[str, Any]]:
    """Long Programs; one that takes too long is said and left out."""
    found = []
    for length in LENGTHS:
        try:
            found.append(measured("chains", str(length), python=python, timeout=LONGEST))
        except subprocess.TimeoutExpired:
            say(f"  a chain of {length} ops takes more than {LONGEST} s")
    return found
