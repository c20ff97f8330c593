"""Race graphopt against other frameworks on this machine.

python -m tests.benchmarks [--rows mlp_b8,lenet_b64] [--frameworks graphopt,JAX] [--rounds 9]
"""

import argparse
import json
import os
import platform
import sys
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.benchmarks import build_times, chart, report
from tests.benchmarks.peers import PEERS
from tests.benchmarks.race import DisagreementError, Pythons, check, race, say
from tests.benchmarks.rows import TIMED
from tests.benchmarks.workers import ROOT, WorkerError, measured

ONCE = ("batch_num", "compile")
MODULES = {"paddlepaddle": "paddle"}
ORT_TRAINING = "ORT training"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    everything = ",".join([*TIMED, *ONCE])
    parser.add_argument("--rows", default=everything, help=f"any of {everything}")
    parser.add_argument("--frameworks", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=9, help="blocks timed of each")
    parser.add_argument(
        "--ort-training", metavar="PYTHON", help="an interpreter that has onnxruntime-training"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs/assets/benchmark.json", help="a .png goes beside"
    )
    return parser.parse_args()


def interpreters(wanted: list[str], ort_training: str | None) -> Pythons:
    """Which python runs each framework; those that are missing are said and left out."""
    found = {}
    for name in wanted:
        package = PEERS[name].package
        if name == ORT_TRAINING:
            if ort_training:
                found[name] = ort_training
            else:
                say(f"{name}: skipped, --ort-training names no interpreter")
        elif find_spec(MODULES.get(package, package)):
            found[name] = sys.executable
        else:
            say(f"{name}: skipped, {package} is not installed")
    return found


def processor() -> str:
    """The name of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def measure(rows: list[str], pythons: Pythons, rounds: int) -> dict[str, Any]:
    """Everything asked for, as the JSON file holds it."""
    rates: dict[str, float] = measured("rates")
    machine = {"processor": processor(), "cores": os.cpu_count(), **rates}
    found: dict[str, Any] = {"date": str(date.today()), "machine": machine, "rows": {}}
    found |= {"python": platform.python_version(), "failed": []}
    for name in rows:
        say(name)
        try:
            _measure_row(name, pythons, rounds, found)
        except (DisagreementError, WorkerError) as failure:
            say(f"FAILED {name}: {failure}")
            found["failed"].append(name)
    return found


def _measure_row(name: str, pythons: Pythons, rounds: int, found: dict[str, Any]) -> None:
    if name in TIMED:
        check(TIMED[name], pythons)
        found["rows"][name] = race(TIMED[name], pythons, rounds, found["machine"])
    elif name == "batch_num":
        found[name] = build_times.sweep(sys.executable, rounds)
    else:
        found[name] = build_times.compile_times(pythons)
        found["chains"] = build_times.chains(sys.executable)


def main() -> None:
    """Measure, print, write, draw."""
    asked = arguments()
    pythons = interpreters(asked.frameworks.split(","), asked.ort_training)
    found = measure(asked.rows.split(","), pythons, asked.rounds)
    sys.stdout.write("\n" + report.tables(found))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(found, indent=1) + "\n")
    if found["rows"]:
        chart.draw(found, asked.out.with_suffix(".png"))
    if found["failed"]:
        sys.exit(f"failed: {', '.join(found['failed'])}")


if __name__ == "__main__":
    main()
