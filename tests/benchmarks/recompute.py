"""Peak memory and time of a deep network with and without recompute.

    python -m tests.benchmarks.recompute [--layers 32] [--width 512] [--batch 4096]

Each measurement is a process of its own; memory is its peak resident size above what it holds
before the first step.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

import graphopt as go


def measure(layers, width, batch, every):
    """Peak MiB above the start, and median seconds of a step; ``every`` 0 is without recompute."""
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        x = go.static.data("x", [None, width])
        h, kept = x, []
        for k in range(layers):
            h = go.nn.functional.gelu(go.static.nn.fc(h, width))
            if every and k % every == every - 1 and k + 1 < layers:
                kept.append(h)
        loss = go.mean(go.square(h))
        go.optimizer.SGD(1e-6).minimize(loss, checkpoints=kept)
    exe = go.static.Executor()
    exe.run(startup)
    feed = {"x": np.random.default_rng(0).normal(size=(batch, width)).astype("f4")}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        exe.run(main, feed=feed, fetch_list=[loss])
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak - before) / 1024, float(np.median(seconds))


def main():
    """Print one line per setting."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--every", type=int)
    a = parser.parse_args()
    if a.every is not None:
        peak, seconds = measure(a.layers, a.width, a.batch, a.every)
        sys.stdout.write(f"checkpoint every {a.every:2} layers: {peak:6.0f} MiB, {seconds:.2f} s\n")
        return
    for every in (0, 2, 4, 8):
        command = [sys.executable, "-m", "tests.benchmarks.recompute", "--every", str(every)]
        sizes = ["--layers", str(a.layers), "--width", str(a.width), "--batch", str(a.batch)]
        subprocess.run([*command, *sizes], check=True)


if __name__ == "__main__":
    main()
