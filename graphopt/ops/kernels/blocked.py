"""onnxruntime's ops on channels in blocks: [n, c, h, w] held as [n, c / b, h, w, b].

Its optimizer puts them in place of a Conv with constant weights. Weights that are trained are not
constant, so ``passes.formulate`` writes these ops itself. They are float32 only, and no file holds
them: another build of onnxruntime, or another processor, has other blocks or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.ir.model.schema import Attr, AttrDef, Formal, OpDef, register_composite
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import Inferred, TensorType

DOMAIN = "com.microsoft.nchwc"
LANES = 4  # onnxruntime reorders channels by four, and fills up the last block itself


@dataclass(frozen=True)
class Blocks:
    """Records ops on blocked tensors; ``size`` channels are a block."""

    g: Tape
    size: int

    def filled(self, channels: int) -> int:
        """The channels of full blocks that hold so many."""
        return -(-channels // self.size) * self.size

    def reorder(self, x: Variable) -> Variable:
        """[n, c, h, w] in blocks; the channels that are missing in the last block are 0."""
        y: Variable = self.g.emit(f"{DOMAIN}::ReorderInput", x)
        n, c, *area = x.shape
        return _known(y, n, self.filled(c), *area)

    def exchanged(self, x: Variable, outer: int, inner: int) -> Variable:
        """[*, outer, inner, b] as [*, inner, outer, b], in any shape. Blocks are moved whole.

        A reordering of channels that come last: many times as quick as a Transpose.
        """
        last = self.g.reshape(x, -1, outer, 1, inner * self.size)
        y: Variable = self.g.emit(f"{DOMAIN}::ReorderInput", last, channels_last=1)
        return _known(y, last.shape[0], inner, outer, self.size)

    def restore(self, x: Variable, channels: int) -> Variable:
        """Blocks as [n, channels, h, w]."""
        y: Variable = self.g.emit(f"{DOMAIN}::ReorderOutput", x, channels=channels)
        return y

    def conv(self, x: Variable, filters: Variable, *bias: Variable, **attrs: Attr) -> Variable:
        """A convolution; of fewer channels than a block has, x is plain."""
        y: Variable = self.g.emit(f"{DOMAIN}::Conv", x, filters, *bias, **attrs)
        return y

    def means(self, x: Variable) -> Variable:
        """The means of x in blocks over h and w: [n, c]."""
        return self.g.reshape(self.g.emit(f"{DOMAIN}::GlobalAveragePool", x), 0, -1)

    def scaled(self, x: Variable, scale: Variable, *moved: Variable) -> Variable:
        """Each channel of x in blocks times a number, plus another: [c] each. One pass."""
        filters = self.g.reshape(scale, -1, 1, 1, 1)
        return self.conv(x, filters, *moved, group=x.shape[1])

    def products(self, x: Variable, y: Variable) -> Variable:
        """The sums of x y over h and w: [n, c]. One pass: y are filters as large as x."""
        (n, c, *area), g = x.shape, self.g
        image, filters = g.reshape(x, 1, n * c, *area), g.reshape(y, n * c, 1, *area)
        return g.reshape(self.conv(image, filters, group=n * c), n, c)

    def surrounded(self, x: Variable, pads: Sequence[int]) -> Variable:
        """Zeros around h and w: pads are (top, left, bottom, right).

        A convolution with filters of one 1 is several times as quick as a Pad.
        """
        if not any(pads):
            return x
        ones = self.g.const(np.ones((x.shape[1], 1, 1, 1), np.float32))
        return self.conv(x, ones, group=x.shape[1], pads=[*pads])


def _known(x: Variable, *shape: int) -> Variable:
    x.tensor_type = TensorType(x.dtype, shape)
    return x


Types = Sequence["TensorType | None"]


def _reordered(types: Types, attrs: Mapping[str, Attr]) -> list[Inferred]:
    """Only who records the op knows the size of a block."""
    x = types[0]
    assert x is not None
    assert x.shape is not None
    return [Inferred(x.dtype, (x.shape[0], None, *x.shape[2:]))]


def _restored(types: Types, attrs: Mapping[str, Attr]) -> list[Inferred]:
    x = types[0]
    assert x is not None
    assert x.shape is not None
    return [Inferred(x.dtype, (x.shape[0], attrs["channels"], *x.shape[2:]))]


def _convolved(types: Types, attrs: Mapping[str, Attr]) -> list[Inferred]:
    x, w = types[0], types[1]
    assert x is not None
    assert w is not None
    assert x.shape is not None
    assert w.shape is not None
    area: list[int | None] = []
    for k in range(2):
        length, kernel = x.shape[2 + k], w.shape[2 + k]
        if not isinstance(length, int) or not isinstance(kernel, int):
            area.append(None)
            continue
        span = (kernel - 1) * attrs["dilations"][k] + 1
        room = length + attrs["pads"][k] + attrs["pads"][k + 2] - span
        area.append(room // attrs["strides"][k] + 1)
    return [Inferred(x.dtype, (x.shape[0], w.shape[0], *area))]


def _averaged(types: Types, attrs: Mapping[str, Attr]) -> list[Inferred]:
    x = types[0]
    assert x is not None
    assert x.shape is not None
    return [Inferred(x.dtype, (*x.shape[:2], *[1] * (len(x.shape) - 2)))]


CONV = {
    "activation": AttrDef("STRING", required=False, default=None),
    "dilations": AttrDef("INTS", required=False, default=[1, 1]),
    "group": AttrDef("INT", required=False, default=1),
    "pads": AttrDef("INTS", required=False, default=[0, 0, 0, 0]),
    "strides": AttrDef("INTS", required=False, default=[1, 1]),
}

for _definition in (
    OpDef(
        f"{DOMAIN}::ReorderInput", DOMAIN, 1, (Formal("X"),), (Formal("Y"),),
        {"channels_last": AttrDef("INT", required=False, default=0)}, infer=_reordered,
    ),
    OpDef(
        f"{DOMAIN}::ReorderOutput", DOMAIN, 1, (Formal("X"),), (Formal("Y"),),
        {"channels": AttrDef("INT", required=True, default=None)}, infer=_restored,
    ),
    OpDef(
        f"{DOMAIN}::GlobalAveragePool", DOMAIN, 1, (Formal("X"),), (Formal("Y"),), infer=_averaged,
    ),
    OpDef(
        f"{DOMAIN}::Conv", DOMAIN, 1,
        (Formal("X"), Formal("W"), Formal("B", optional=True), Formal("Sum", optional=True)),
        (Formal("Y"),), CONV, infer=_convolved,
    ),
):  # fmt: skip
    register_composite(_definition)
