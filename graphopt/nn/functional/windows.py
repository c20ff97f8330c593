"""What convolutions and pools share: paddings, strides and the place of the channels.

The tables say what depends on the number of spatial dims; Layout and Window do the work for any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from graphopt.errors import ArgumentError, ShapeError
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import here
from graphopt.tensor.operands import need_rank

IntOrInts: TypeAlias = int | Sequence[int]  # one for all spatial dims, or one a dim
Padding: TypeAlias = int | str | Sequence[int] | Sequence[Sequence[int]]  # see conv2d

CHANNELS_FIRST = {1: "NCL", 2: "NCHW", 3: "NCDHW"}
CHANNELS_LAST = {1: "NLC", 2: "NHWC", 3: "NDHWC"}


@dataclass(frozen=True)
class Layout:
    """Where an operand with ``n`` spatial dims has its channels."""

    n: int
    channels_last: bool

    @staticmethod
    def of(function: str, x: Variable, n: int, data_format: str) -> Layout:
        """The layout that ``data_format`` names.

        Raises:
            ArgumentError: an unknown format, or x has another number of dims.
        """
        if data_format not in (CHANNELS_FIRST[n], CHANNELS_LAST[n]):
            raise ArgumentError(
                f"{function}: data_format cannot be {data_format!r}",
                where=here(),
                fix=f"use {CHANNELS_FIRST[n]} or {CHANNELS_LAST[n]}",
            )
        need_rank(x, function, n + 2)
        return Layout(n, data_format == CHANNELS_LAST[n])

    def first(self, g: Tape, x: Variable) -> Variable:
        """x with the channels first."""
        perm = [0, self.n + 1, *range(1, self.n + 1)]
        return g.Transpose(x, perm=perm) if self.channels_last else x

    def back(self, g: Tape, x: Variable) -> Variable:
        """A result as the user's layout has it."""
        perm = [0, *range(2, self.n + 2), 1]
        return g.Transpose(x, perm=perm) if self.channels_last else x


def spatial(function: str, argument: str, value: IntOrInts, n: int, *, least: int = 1) -> list[int]:
    """The value as ``n`` ints, one a spatial dim: itself, or one int for all.

    Raises:
        ArgumentError: an int is below ``least``, or their number is neither 1 nor ``n``.
    """
    values = list(value) if isinstance(value, Sequence) else [value]
    if len(values) == 1:
        values = values * n
    if len(values) != n or not all(isinstance(v, int) and v >= least for v in values):
        raise ArgumentError(
            f"{function}: {argument} cannot be {value!r}",
            where=here(),
            fix=f"give one int of at least {least}, or {n} of them",
        )
    return values


@dataclass(frozen=True)
class Window:
    """A window that moves over the spatial dims of x (channels first)."""

    kernel: Sequence[int]
    stride: Sequence[int]
    dilation: Sequence[int]

    def pads(
        self, function: str, padding: Padding, x: Variable, layout: Layout
    ) -> tuple[list[int], str]:
        """ONNX's pads (all begins, then all ends) and auto_pad.

        The pads count where auto_pad is 'NOTSET'. It is another only for 'SAME' while the dims of
        x are not known.

        Raises:
            ArgumentError: a padding that has none of Paddle's forms.
        """
        n = layout.n
        if not isinstance(padding, (int, str, list, tuple)):
            raise self._no_padding(function, padding)
        if isinstance(padding, str):
            return self._automatic(function, padding, x)
        if isinstance(padding, int):
            return [padding] * (2 * n), "NOTSET"
        pairs = [p for p in padding if not isinstance(p, int)]
        items = _pairs(pairs, layout) if pairs else list(padding)
        flat = [p for p in items if isinstance(p, int)]
        if len(flat) == len(items) == n:
            return [*flat, *flat], "NOTSET"
        if len(flat) == len(items) == 2 * n:
            return [*flat[::2], *flat[1::2]], "NOTSET"
        if len(flat) == len(items) == 1:
            return flat * (2 * n), "NOTSET"
        raise self._no_padding(function, padding)

    def _no_padding(self, function: str, padding: object) -> ArgumentError:
        n = len(self.kernel)
        return ArgumentError(
            f"{function}: padding cannot be {padding!r}",
            where=here(),
            fix=f"give an int, {n} ints, {2 * n} ints, pairs per dim, 'SAME' or 'VALID'",
        )

    def check_fits(self, function: str, x: Variable, pads: Sequence[int]) -> None:
        """Refuse a window that is larger than x with its padding, as far as dims are known.

        Raises:
            ShapeError: it is larger.
        """
        n, sizes = len(self.kernel), x.shape[2:]
        spans = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]
        room = [s + pads[k] + pads[n + k] for k, s in enumerate(sizes)]
        if any(s != -1 and span > r for s, span, r in zip(sizes, spans, room, strict=True)):
            raise ShapeError(
                f"{function}: a window of {' x '.join(map(str, spans))} is larger than x",
                operands=[(x.name, x.tensor_type), ("padding", list(pads))],
                where=here(),
                fix="make the window smaller, or the padding larger",
            )

    def _automatic(self, function: str, padding: str, x: Variable) -> tuple[list[int], str]:
        kind = padding.upper()
        n = len(self.kernel)
        if kind == "VALID":
            return [0] * (2 * n), "NOTSET"
        if kind != "SAME":
            raise ArgumentError(
                f"{function}: padding cannot be {padding!r}", where=here(), fix="'SAME' or 'VALID'"
            )
        if -1 in x.shape[2:]:
            return [0] * (2 * n), "SAME_UPPER"
        total = [
            max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
            for size, k, s, d in zip(
                x.shape[2:], self.kernel, self.stride, self.dilation, strict=True
            )
        ]
        return [*(t // 2 for t in total), *(t - t // 2 for t in total)], "NOTSET"


def _pairs(items: Sequence[Sequence[int]], layout: Layout) -> list[int]:
    """The ints of the spatial dims, of pairs for all dims or for the spatial dims alone."""
    if len(items) == layout.n + 2:
        items = items[1:-1] if layout.channels_last else items[2:]
    return [p for pair in items for p in pair]
