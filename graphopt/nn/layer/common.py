"""Linear maps, tables, dropout, paddings, sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.initializer import XavierUniform
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.nn import functional
from graphopt.nn.functional.input import padding_row
from graphopt.nn.layer.layers import FunctionLayer, Layer, LayerAttr, required
from graphopt.scoping import default_startup_program
from graphopt.tensor.manipulation import flatten
from graphopt.tensor.operands import Axes, TensorLike


class Dropout(Layer):
    """Zero each element with probability p in training        x: [*n].

    >>> drop = Dropout(0.1)
    >>> drop.eval()
    >>> drop(x)
    <Variable x : f32[N, 4]>
    """

    def __init__(
        self,
        p: float = 0.5,
        axis: Axes = None,
        mode: str = "upscale_in_train",
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.p, self.axis, self.mode, self.name = p, axis, mode, name

    def forward(self, x: TensorLike) -> Variable:
        """x with elements dropped."""
        return functional.dropout(x, self.p, self.axis, self.training, self.mode, self.name)

    def extra_repr(self) -> str:
        """p, axis, mode."""
        return f"p={self.p}, axis={self.axis}, mode={self.mode}"


class Embedding(Layer):
    """Rows of a table        x: int[*n]   weight: [num_embeddings, embedding_dim].

    The row padding_idx is zero, and stays it.

    >>> Embedding(10, 3)(label)
    <Variable gather_0 : f32[N, 3]>
    """

    PREFIX = "embedding"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        sparse: bool = False,
        weight_attr: LayerAttr = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.shape = [num_embeddings, embedding_dim]
        row = None if padding_idx is None else padding_row(padding_idx, num_embeddings)
        self.padding_idx, self.sparse = row, sparse
        made = self.create_parameter(self.shape, weight_attr, default_initializer=XavierUniform())
        self.weight = required(made, "Embedding: weight_attr")
        if row is not None:
            zero_row(self.weight, row)

    def forward(self, x: TensorLike) -> Variable:
        """The rows of x."""
        return functional.embedding(x, self.weight, self.padding_idx, self.sparse)

    def extra_repr(self) -> str:
        """The shape of the table, padding_idx."""
        pad = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.shape[0]}, {self.shape[1]}{pad}"


def zero_row(weight: Parameter, row: int) -> None:
    """Make one row of a table zero in the startup Program."""
    block = default_startup_program().global_block()
    twin = block.var(weight.name)
    zeros = np.zeros((1, weight.shape[1]), weight.dtype)
    Tape(block).emit("ScatterND", twin, np.array([[row]]), zeros, into=[twin])


class Flatten(FunctionLayer):
    """The dims from start_axis to stop_axis made one        x: [*n]."""

    def __init__(self, start_axis: int = 1, stop_axis: int = -1) -> None:
        super().__init__(flatten, start_axis=start_axis, stop_axis=stop_axis)


class Identity(Layer):
    """x as it is; the arguments are ignored        x: [*n]."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def forward(self, x: Variable) -> Variable:
        """x."""
        return x


class Linear(Layer):
    """X weight + bias        x: [*n, in_features]   weight: [in, out]   bias: [out].

    >>> linear = Linear(4, 2)
    >>> linear.parameters()
    [<Parameter linear_0.w_0 : f32[4, 2]>, <Parameter linear_0.b_0 : f32[2]>]
    >>> linear(x)
    <Variable add_0 : f32[N, 2]>
    """

    PREFIX = "linear"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        weight_attr: LayerAttr = None,
        bias_attr: LayerAttr = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.in_features, self.out_features = in_features, out_features
        made = self.create_parameter([in_features, out_features], weight_attr)
        self.weight = required(made, "Linear: weight_attr")
        self.bias = self.create_parameter([out_features], bias_attr, is_bias=True)

    def forward(self, x: TensorLike) -> Variable:
        """X weight + bias."""
        return functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The features."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class _Pad(FunctionLayer):
    N = 0
    FORMAT = ""

    def __init__(
        self,
        padding: int | Sequence[int],
        mode: str = "constant",
        value: float = 0.0,
        data_format: str | None = None,
        name: str | None = None,
    ) -> None:
        sides = [padding] * (2 * self.N) if isinstance(padding, int) else list(padding)
        super().__init__(
            functional.pad,
            name,
            pad=sides,
            mode=mode,
            value=value,
            data_format=data_format or self.FORMAT,
        )


class Pad1D(_Pad):
    """Elements around a line; padding: both sides, or [left, right]        x: [n, c, l]."""

    N, FORMAT = 1, "NCL"


class Pad2D(_Pad):
    """Elements around an image; see nn.functional.pad for the modes        x: [n, c, h, w].

    padding: all sides, or [left, right, top, bottom]

    >>> Pad2D([1, 1, 2, 2])(image)
    <Variable pad_0 : f32[N, 3, 12, 10]>
    """

    N, FORMAT = 2, "NCHW"


class Pad3D(_Pad):
    """Elements around a cube; padding: all sides, or from the last dim on        x: [n, c, *d]."""

    N, FORMAT = 3, "NCDHW"


class Upsample(FunctionLayer):
    """An image in another size; see nn.functional.interpolate        x: [n, c, h, w].

    >>> Upsample(scale_factor=2)(image)
    <Variable gather_1 : f32[N, 3, 16, 16]>
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool = False,
        align_mode: int = 0,
        data_format: str = "NCHW",
        name: str | None = None,
    ) -> None:
        super().__init__(
            functional.interpolate,
            name,
            size=size,
            scale_factor=scale_factor,
            mode=mode,
            align_corners=align_corners,
            align_mode=align_mode,
            data_format=data_format,
        )
