"""Where in the user's code an op was recorded: captured always, resolved only when shown."""

from __future__ import annotations

import linecache
import os
import sys
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from types import CodeType

from graphopt.ir.types.context import Setting

PACKAGE = str(Path(__file__).absolute().parents[2]) + os.sep  # graphopt/


class Where:
    """A bytecode position. Capturing keeps the code object and an offset, nothing else."""

    __slots__ = ("code", "lasti")

    def __init__(self, code: CodeType | None, lasti: int) -> None:
        self.code = code
        self.lasti = lasti

    def _position(self) -> tuple[int | None, int | None, int | None, int | None]:
        if self.code is None:
            return None, None, None, None
        positions = islice(self.code.co_positions(), self.lasti // 2, None)
        return next(positions, (None, None, None, None))

    @property
    def file(self) -> str:
        """The path of the source file, or ''."""
        return "" if self.code is None else self.code.co_filename

    @property
    def line(self) -> int:
        """The line number, or 0."""
        return self._position()[0] or 0

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}" if self.code else "unknown location"

    def lines(self) -> list[str]:
        """``at file:line, in function``, the source line, and a caret line under the call."""
        if self.code is None:
            return ["at unknown location"]
        line, end, start_col, end_col = self._position()
        head = f"at {self.file}:{line or '?'}, in {self.code.co_qualname}"
        source = linecache.getline(self.file, line) if line else ""
        if not source.strip():
            return [head]
        return [head, *_underlined(source, start_col, end_col if end == line else None)]


UNKNOWN = Where(None, 0)


class InFile(Where):
    """A node of a file."""

    __slots__ = ("node", "source")

    def __init__(self, source: str, node: str) -> None:
        super().__init__(None, 0)
        self.source = source
        self.node = node

    @property
    def file(self) -> str:
        """The file's name."""
        return self.source

    def __str__(self) -> str:
        return f"{self.source}:{self.node}"

    def lines(self) -> list[str]:
        """``at node …, in file``."""
        return [f"at node {self.node}, in {self.source}"]


def _underlined(source: str, start: int | None, end: int | None) -> list[str]:
    """The source line, and carets under its columns [start, end); columns count UTF-8 bytes."""
    text = source.rstrip()
    stripped = text.lstrip()
    if start is None:
        return ["  " + stripped]
    indent = len(text) - len(stripped)
    raw = text.encode()
    left = len(raw[:start].decode(errors="replace"))
    right = len(text) if end is None else len(raw[:end].decode(errors="replace"))
    return ["  " + stripped, "  " + " " * (left - indent) + "^" * max(right - left, 1)]


_fixed: ContextVar[Where | None] = ContextVar("graphopt_where", default=None)


def here() -> Where:
    """The innermost frame outside the package; never raises."""
    fixed = _fixed.get()
    if fixed is not None:
        return fixed
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        if frame.f_back is None:
            return UNKNOWN
        frame = frame.f_back
    return Where(frame.f_code, frame.f_lasti)


def at(where: Where) -> Setting[Where | None]:
    """Ops recorded inside are at ``where``, whoever calls."""
    return Setting(_fixed, where)
