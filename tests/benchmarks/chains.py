"""graphopt on a chain of ops: seconds to record, to differentiate, and to the end of a first step.

python -m tests.benchmarks.chains 10000
"""

import json
import sys
import time

import numpy as np

import graphopt as go


def measure(length: int) -> dict[str, float]:
    """A chain of ``length`` forward ops over a parameter [8, 8]."""
    times = [time.perf_counter()]
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        x = go.static.data("x", [8, 8])
        h = x * go.create_parameter([8, 8], "float32")
        for _ in range(length // 2):
            h = go.tanh(h + x)
        loss = go.mean(h)
        times.append(time.perf_counter())
        go.optimizer.ASGD(1e-6, batch_num=2).minimize(loss)
    times.append(time.perf_counter())
    exe = go.static.Executor()
    exe.run(startup)
    exe.run(main, feed={"x": np.ones((8, 8), "f4")}, fetch_list=[loss])
    times.append(time.perf_counter())
    recorded, differentiated, ran = np.diff(times).tolist()
    return {
        "length": length,
        "ops": len(main.global_block().ops),
        "record_s": recorded,
        "minimize_s": differentiated,
        "first_run_s": ran,
    }


if __name__ == "__main__":
    json.dump(measure(int(sys.argv[1])), sys.stdout)
