"""What every place can count on: host memory, and the provider that runs there."""

from __future__ import annotations

from graphopt.runtime.ort.memory import Memory

HOST = Memory("cpu", in_view=True)
HOST_PROVIDER = "CPUExecutionProvider"
