"""Worker processes, of which one works at a time."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_STAT = Path("/proc/stat")
ATTEMPTS = 4
QUIET = 0.1  # CPU seconds of others per second that are taken for nothing
SETTLE = 0.05  # seconds for the thread pool of the last worker to stop spinning


class WorkerError(RuntimeError):
    """A worker ended; the text is the end of what it printed."""


class Worker:
    """One framework with one row, its first step done. ``skipped`` says why there is none."""

    def __init__(self, python: str, framework: str, row: str, **options: float) -> None:
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        command = [python, "-W", "ignore", "-m", "tests.benchmarks.worker", framework, row, *words]
        self.framework = framework
        self._printed = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by close()
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=self._printed, text=True
        )
        self.started = self._answer()
        self.skipped: str | None = self.started.get("skipped")

    def ask(self, request: str) -> dict[str, Any]:
        """The answer to one line."""
        assert self._process.stdin is not None
        time.sleep(SETTLE)
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        return self._answer()

    def seconds_per_step(self, steps: int) -> tuple[float, bool]:
        """Of a block of steps, and whether nothing else kept the machine busy meanwhile.

        A block that was disturbed is timed again, a few times at most.
        """
        for attempt in range(ATTEMPTS):
            time.sleep(SETTLE * 4**attempt)
            before = time.perf_counter(), self._seconds_of_others()
            seconds: float = self.ask(f"time {steps}")["seconds"]
            passed, stolen = time.perf_counter() - before[0], self._seconds_of_others() - before[1]
            if stolen < QUIET * passed:
                return seconds, True
        return seconds, False

    def _seconds_of_others(self) -> float:
        """CPU seconds that all processes but this worker have used; 0 where nothing tells."""
        if not _STAT.exists():
            return 0.0
        user, nice, system, _idle, _wait, *rest = map(int, _STAT.read_text().split()[1:9])
        own = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = user + nice + system + sum(rest) - int(own[11]) - int(own[12])
        return float(ticks / os.sysconf("SC_CLK_TCK"))

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._printed.seek(0)
            end = self._printed.read()[-2000:]
            raise WorkerError(f"{self.framework} failed:\n{end}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._printed.close()


def measured(
    module: str, *words: str, python: str = sys.executable, timeout: float | None = None
) -> dict[str, Any]:
    """What a module of this package prints as JSON, in a process of its own."""
    command = [python, "-W", "ignore", "-m", f"tests.benchmarks.{module}", *words]
    found = subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=timeout
    )
    answer: dict[str, Any] = json.loads(found.stdout)
    return answer
