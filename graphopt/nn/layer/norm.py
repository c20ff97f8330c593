"""Normalizations as layers. Scales start at 1, shifts at 0; False for an attr leaves one out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphopt.errors import ArgumentError
from graphopt.initializer import Constant
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import integer
from graphopt.ir.types.where import here
from graphopt.nn import functional
from graphopt.nn.layer.layers import Layer, LayerAttr, statistic
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, need_rank

ONE = Constant(1.0)


class _Affine(Layer):
    """A layer with a scale and a shift of some shape."""

    def _affine(self, shape: list[int], weight_attr: LayerAttr, bias_attr: LayerAttr) -> None:
        self.weight = self.create_parameter(shape, weight_attr, default_initializer=ONE)
        self.bias = self.create_parameter(shape, bias_attr, is_bias=True)


class _BatchNorm(_Affine):
    RANKS: tuple[int, ...] = (2, 3, 4, 5)

    def __init__(
        self, num_features: int, momentum: float = 0.9, epsilon: float = 1e-5,
        weight_attr: LayerAttr = None, bias_attr: LayerAttr = None, data_format: str = "NCHW",
        use_global_stats: bool | None = None, name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        self.num_features, self.momentum, self.epsilon = num_features, momentum, epsilon
        self.data_format, self.use_global_stats = data_format, use_global_stats
        self._affine([num_features], weight_attr, bias_attr)
        self._mean = statistic(self.full_name(), num_features, 0.0, None, self._dtype)
        self._variance = statistic(self.full_name(), num_features, 1.0, None, self._dtype)

    def forward(self, x: TensorLike) -> Variable:
        """Normalize x; in training mode the running statistics are assigned."""
        value = as_variable(recorder(x), x)
        need_rank(value, type(self).__name__, *self.RANKS)
        return functional.batch_norm(
            value,
            self._mean,
            self._variance,
            self.weight,
            self.bias,
            training=self.training,
            momentum=self.momentum,
            epsilon=self.epsilon,
            data_format=self.data_format,
            use_global_stats=self.use_global_stats,
        )

    def extra_repr(self) -> str:
        """Size, momentum, epsilon."""
        return f"num_features={self.num_features}, momentum={self.momentum}, epsilon={self.epsilon}"


class BatchNorm1D(_BatchNorm):
    """Each channel to mean 0 and variance 1 over the batch        x: [n, c] or [n, c, l].

    The arguments are those of ``BatchNorm2D``: ``num_features`` c, ``momentum``, ``epsilon``,
    ``weight_attr``, ``bias_attr``, ``data_format`` ('NLC' for x: [n, l, c]), ``use_global_stats``.
    """

    PREFIX = "batch_norm1d"
    RANKS = (2, 3)


class BatchNorm2D(_BatchNorm):
    """Each channel to mean 0 and variance 1 over the batch        x: [n, c, h, w].

    See ``nn.functional.batch_norm`` for the formula. Parameters: weight and bias, and the running
    mean and variance, which are not trained: they are assigned in training mode, and used in test
    mode.

    Args:
        num_features: c.
        momentum: the share of the running statistics that a run keeps.
        epsilon: is added to the variance.
        weight_attr: how the weight is made; False for none.
        bias_attr: how the bias is made; False for none.
        data_format: 'NHWC' for x: [n, h, w, c]; channels are first in every other format.
        use_global_stats: whether the running statistics are used in training mode too.
        name: the prefix of the parameters' names.

    >>> norm = BatchNorm2D(3)
    >>> [p.name.removeprefix("batch_norm2d_0.") for p in norm.parameters()]
    ['w_0', 'b_0', 'w_1', 'w_2']
    >>> norm(image)
    <Variable batchnormalization_0 : f32[N, 3, 8, 8]>
    """

    PREFIX = "batch_norm2d"
    RANKS = (4,)


class BatchNorm3D(_BatchNorm):
    """Each channel to mean 0 and variance 1 over the batch        x: [n, c, d, h, w].

    The arguments are those of ``BatchNorm2D``: ``num_features`` c, ``momentum``, ``epsilon``,
    ``weight_attr``, ``bias_attr``, ``data_format`` ('NDHWC' for x: [n, d, h, w, c]),
    ``use_global_stats``.
    """

    PREFIX = "batch_norm3d"
    RANKS = (5,)


class GroupNorm(_Affine):
    """Each group of channels of a sample to mean 0 and variance 1        x: [n, c, *d].

    ``num_channels`` is c; ``num_groups``, ``epsilon`` and ``data_format`` are those of
    ``nn.functional.group_norm``. ``weight_attr`` and ``bias_attr`` say how weight and bias, [c],
    are made; False for none.

    >>> GroupNorm(num_groups=3, num_channels=3)(image)
    <Variable add_1 : f32[N, 3, 8, 8]>

    Raises:
        ArgumentError: ``num_groups`` does not divide ``num_channels``.
        ArgumentTypeError: one of them is not an int.
    """

    PREFIX = "group_norm"

    def __init__(
        self, num_groups: int, num_channels: int, epsilon: float = 1e-5,
        weight_attr: LayerAttr = None, bias_attr: LayerAttr = None, data_format: str = "NCHW",
        name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        groups = integer("GroupNorm: num_groups", num_groups)
        if groups < 1 or integer("GroupNorm: num_channels", num_channels) % groups:
            raise ArgumentError(
                f"GroupNorm: {num_groups} groups do not divide {num_channels} channels",
                where=here(),
            )
        self.num_groups, self.epsilon, self.data_format = num_groups, epsilon, data_format
        self._affine([num_channels], weight_attr, bias_attr)

    def forward(self, x: TensorLike) -> Variable:
        """Normalize x."""
        return functional.group_norm(
            x, self.num_groups, self.epsilon, self.weight, self.bias, self.data_format
        )

    def extra_repr(self) -> str:
        """Groups, epsilon."""
        return f"num_groups={self.num_groups}, epsilon={self.epsilon}"


class _InstanceNorm(Layer):
    RANKS: tuple[int, ...] = ()

    def __init__(
        self, num_features: int, epsilon: float = 1e-5, momentum: float = 0.9,
        weight_attr: LayerAttr = None, bias_attr: LayerAttr = None, data_format: str = "NCHW",
        name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        self.num_features, self.epsilon, self.momentum = num_features, epsilon, momentum
        self.data_format = data_format
        self.scale = self.create_parameter([num_features], weight_attr, default_initializer=ONE)
        self.bias = self.create_parameter([num_features], bias_attr, is_bias=True)

    def forward(self, x: TensorLike) -> Variable:
        """Normalize x."""
        value = as_variable(recorder(x), x)
        need_rank(value, type(self).__name__, *self.RANKS)
        return functional.instance_norm(
            value,
            weight=self.scale,
            bias=self.bias,
            eps=self.epsilon,
            data_format=self.data_format,
        )

    def extra_repr(self) -> str:
        """Size, epsilon."""
        return f"num_features={self.num_features}, epsilon={self.epsilon}"


class InstanceNorm1D(_InstanceNorm):
    """Each channel of a sample to mean 0 and variance 1        x: [n, c, l].

    The arguments are those of ``InstanceNorm2D``: ``num_features`` c, ``epsilon``, ``momentum``,
    ``weight_attr``, ``bias_attr`` and ``data_format`` ('NLC' for x: [n, l, c]).
    """

    PREFIX = "instance_norm1d"
    RANKS = (3,)


class InstanceNorm2D(_InstanceNorm):
    """Each channel of a sample to mean 0 and variance 1        x: [n, c, h, w].

    ``num_features`` is c, ``epsilon`` is added to the variance. ``weight_attr`` and ``bias_attr``
    say how weight and bias, [c], are made; False for none. ``data_format`` 'NHWC' is for
    x: [n, h, w, c]. ``momentum`` is accepted as in Paddle and changes nothing: there are no running
    statistics.

    >>> InstanceNorm2D(3)(image)
    <Variable instancenormalization_0 : f32[N, 3, 8, 8]>
    """

    PREFIX = "instance_norm2d"
    RANKS = (4,)


class InstanceNorm3D(_InstanceNorm):
    """Each channel of a sample to mean 0 and variance 1        x: [n, c, d, h, w].

    The arguments are those of ``InstanceNorm2D``: ``num_features`` c, ``epsilon``, ``momentum``,
    ``weight_attr``, ``bias_attr`` and ``data_format`` ('NDHWC' for x: [n, d, h, w, c]).
    """

    PREFIX = "instance_norm3d"
    RANKS = (5,)


class _OverLastDims(_Affine):
    def __init__(
        self, normalized_shape: int | Sequence[int], epsilon: float, name: str | None
    ) -> None:
        super().__init__(name)
        shape = [normalized_shape] if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape, self.epsilon = list(shape), epsilon

    def extra_repr(self) -> str:
        """Shape, epsilon."""
        return f"normalized_shape={self.normalized_shape}, epsilon={self.epsilon}"


class LayerNorm(_OverLastDims):
    """The last dims of each sample to mean 0 and variance 1        x: [*n, *normalized_shape].

    ``epsilon`` is added to the variance. ``weight_attr`` and ``bias_attr`` say how weight and bias
    are made, which are flat: of as many elements as ``normalized_shape``; False for none.

    >>> LayerNorm(4)(x)
    <Variable layernormalization_0 : f32[N, 4]>
    """

    PREFIX = "layer_norm"

    def __init__(
        self, normalized_shape: int | Sequence[int], epsilon: float = 1e-5,
        weight_attr: LayerAttr = None, bias_attr: LayerAttr = None, name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(normalized_shape, epsilon, name)
        self._affine([math.prod(self.normalized_shape)], weight_attr, bias_attr)

    def forward(self, x: TensorLike) -> Variable:
        """Normalize x."""
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.epsilon)


class RMSNorm(_OverLastDims):
    """x / √(mean x² + epsilon) over the last dims, times a weight        x: [*n, *m].

    ``normalized_shape`` is m. ``weight_attr`` and ``bias_attr`` say how weight and bias, [*m], are
    made; False for none, and there is no bias unless it is asked for.

    >>> RMSNorm(4)(x)
    <Variable mul_1 : f32[N, 4]>
    """

    PREFIX = "rms_norm"

    def __init__(
        self, normalized_shape: int | Sequence[int], epsilon: float = 1e-5,
        weight_attr: LayerAttr = None, bias_attr: LayerAttr = False, name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(normalized_shape, epsilon, name)
        self._affine(self.normalized_shape, weight_attr, bias_attr)

    def forward(self, x: TensorLike) -> Variable:
        """Normalize x."""
        y = functional.rms_norm(x, self.normalized_shape, self.weight, self.epsilon)
        return y if self.bias is None else y + self.bias
