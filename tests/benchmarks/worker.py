"""One framework training one row, driven over stdin and stdout.

    python -m tests.benchmarks.worker FRAMEWORK ROW [--rate 1e-6] [--batch-num 20]

Says one JSON line when the first step is done, then answers requests, one a line: ``time N`` with
the seconds per step over N steps, ``losses N`` with the losses of N steps, ``memory`` with bytes.
"""

import argparse
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tests.benchmarks.peers import PEERS, NotOffered
from tests.benchmarks.rows import BATCH_NUM, LEARNING_RATE, ROWS


def memory():
    """Peak resident bytes of this process so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status has no VmHWM")


def seconds_per_step(trainer, steps, per_call):
    """Mean over a block of steps; frameworks that queue steps are waited for at its end."""
    start = time.perf_counter()
    for _ in range(steps):
        loss = trainer.step()
    trainer.wait(loss)
    return (time.perf_counter() - start) / (steps * per_call)


def first_losses(trainer):
    """The loss of one step, or of the first few of one call."""
    return np.ravel(trainer.wait(trainer.step())).tolist()[:10]


def main():
    """Build, report, then answer until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("framework", choices=PEERS)
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--batch-num", type=int, default=BATCH_NUM)
    a = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr  # what a framework prints is not an answer

    def say(**fields):
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    row, peer = ROWS[a.row], PEERS[a.framework]
    build = peer.trainer()
    imported = memory()
    start = time.perf_counter()
    try:
        trainer = build(row, a.rate, a.batch_num)
        loss = first_losses(trainer)
    except NotOffered as reason:
        say(skipped=str(reason))
        return
    first = time.perf_counter() - start
    say(first_step=first, loss=loss, version=version(peer.package))
    for line in sys.stdin:
        request, *count = line.split()
        if request == "time":
            say(seconds=seconds_per_step(trainer, int(count[0]), row.scan or 1))
        elif request == "losses":
            say(losses=[first_losses(trainer) for _ in range(int(count[0]))])
        elif request == "memory":
            say(peak=memory(), imported=imported)


if __name__ == "__main__":
    main()
