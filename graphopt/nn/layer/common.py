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
    """Zero each element with probability ``p`` while training        x: [*n].

    ``axis`` and ``mode`` are those of ``nn.functional.dropout``. After ``eval()`` x passes as it
    is (with mode 'downscale_in_infer' times 1 - ``p``).

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
        """Record the dropout of x."""
        return functional.dropout(x, self.p, self.axis, self.training, self.mode, self.name)

    def extra_repr(self) -> str:
        """Probability, axis, mode."""
        return f"p={self.p}, axis={self.axis}, mode={self.mode}"


class Embedding(Layer):
    """Rows of a table that is trained        x: int[*n]   weight: [num_embeddings, embedding_dim].

    The result is [*n, ``embedding_dim``], in the rows that x names. The row ``padding_idx``, which
    may count from the end, is zero and stays so. ``weight_attr`` says how the table is made:
    XavierUniform by default. ``sparse`` is accepted as in Paddle and changes nothing.

    >>> Embedding(10, 3)(label)
    <Variable gather_0 : f32[N, 3]>

    Raises:
        ArgumentError: ``padding_idx`` is not a row, or ``weight_attr`` is False.
        ArgumentTypeError: ``padding_idx`` is not an int.
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
        """Record the look-up of the rows that x names."""
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
    """Make the dims from ``start_axis`` to ``stop_axis`` one        x: [*n].

    >>> Flatten()(image)
    <Variable reshape_0 : f32[N, 192]>
    """

    def __init__(self, start_axis: int = 1, stop_axis: int = -1) -> None:
        super().__init__(flatten, locals())


class Identity(Layer):
    """x as it is; ``args`` and ``kwargs`` are accepted as in Paddle and change nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def forward(self, x: Variable) -> Variable:
        """Give x back."""
        return x


class Linear(Layer):
    """x weight + bias        x: [*n, i]   weight: [i, o]   bias: [o]   result: [*n, o].

    i is ``in_features``, o ``out_features``. ``weight_attr`` and ``bias_attr`` say how weight and
    bias are made: XavierUniform and zeros by default, and no bias where its attr is False.

    >>> linear = Linear(4, 2)
    >>> linear.parameters()
    [<Parameter linear_0.w_0 : f32[4, 2]>, <Parameter linear_0.b_0 : f32[2]>]
    >>> linear(x)
    <Variable add_0 : f32[N, 2]>

    Raises:
        ArgumentError: ``weight_attr`` is False.
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
        """Record x weight + bias."""
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
        data_format = data_format or self.FORMAT
        options = {"pad": sides, "mode": mode, "value": value, "data_format": data_format}
        super().__init__(functional.pad, {**options, "name": name})


class Pad1D(_Pad):
    """Put elements around sequences        x: [n, c, l].

    ``padding`` is one int for both sides, or [left, right]. ``mode``, ``value`` and ``data_format``
    ('NCL' by default) are those of ``nn.functional.pad``.
    """

    N, FORMAT = 1, "NCL"


class Pad2D(_Pad):
    """Put elements around images        x: [n, c, h, w].

    ``padding`` is one int for all sides, or [left, right, top, bottom]. ``mode``, ``value`` and
    ``data_format`` ('NCHW' by default) are those of ``nn.functional.pad``.

    >>> Pad2D([1, 1, 2, 2])(image)
    <Variable pad_0 : f32[N, 3, 12, 10]>
    """

    N, FORMAT = 2, "NCHW"


class Pad3D(_Pad):
    """Put elements around volumes        x: [n, c, d, h, w].

    ``padding`` is one int for all sides, or [left, right, top, bottom, front, back]. ``mode``,
    ``value`` and ``data_format`` ('NCDHW' by default) are those of ``nn.functional.pad``.
    """

    N, FORMAT = 3, "NCDHW"


class Upsample(FunctionLayer):
    """Images in another size        x: [n, c, h, w]   result: [n, c, h', w'].

    ``size``, ``scale_factor``, ``mode``, ``align_corners``, ``align_mode`` and ``data_format`` are
    those of ``nn.functional.interpolate``.

    >>> Upsample(scale_factor=2)(image)
    <Variable gather_1 : f32[N, 3, 16, 16]>
    """

    def __init__(
        self, size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None, mode: str = "nearest",
        align_corners: bool = False, align_mode: int = 0, data_format: str = "NCHW",
        name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(functional.interpolate, locals())
