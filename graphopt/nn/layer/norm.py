"""Normalizations as layers. Scales start at 1, shifts at 0."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphopt.errors import ArgumentError
from graphopt.initializer import Constant
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import here
from graphopt.nn import functional
from graphopt.nn.layer.layers import Layer, LayerAttr, statistic
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, need_rank


class _Affine(Layer):
    """A layer with a scale and a shift of some size."""

    def affine(self, size: int, weight_attr: LayerAttr, bias_attr: LayerAttr) -> None:
        self.weight = self.create_parameter([size], weight_attr, default_initializer=Constant(1.0))
        self.bias = self.create_parameter([size], bias_attr, is_bias=True)


class _BatchNorm(_Affine):
    RANKS: tuple[int, ...] = (2, 3, 4, 5)

    def __init__(
        self,
        num_features: int,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        weight_attr: LayerAttr = None,
        bias_attr: LayerAttr = None,
        data_format: str = "NCHW",
        use_global_stats: bool | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.num_features, self.momentum, self.epsilon = num_features, momentum, epsilon
        self.data_format, self.use_global_stats = data_format, use_global_stats
        self.affine(num_features, weight_attr, bias_attr)
        self._mean = statistic(self.full_name(), num_features, 0.0, None, self._dtype)
        self._variance = statistic(self.full_name(), num_features, 1.0, None, self._dtype)

    def forward(self, x: TensorLike) -> Variable:
        """The normalized x; in training the running statistics are assigned."""
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
    """Channels to mean 0 and variance 1 over the batch        x: [n, c] or [n, c, l]."""

    PREFIX = "batch_norm1d"
    RANKS = (2, 3)


class BatchNorm2D(_BatchNorm):
    """Channels to mean 0 and variance 1 over the batch        x: [n, c, h, w].

    >>> norm = BatchNorm2D(3)
    >>> [p.name.removeprefix("batch_norm2d_0.") for p in norm.parameters()]
    ['w_0', 'b_0', 'w_1', 'w_2']
    >>> norm(image)
    <Variable batchnormalization_0 : f32[N, 3, 8, 8]>
    """

    PREFIX = "batch_norm2d"
    RANKS = (4,)


class BatchNorm3D(_BatchNorm):
    """Channels to mean 0 and variance 1 over the batch        x: [n, c, d, h, w]."""

    PREFIX = "batch_norm3d"
    RANKS = (5,)


class GroupNorm(_Affine):
    """Each sample's groups of channels to mean 0 and variance 1        x: [n, c, *d]."""

    PREFIX = "group_norm"

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        epsilon: float = 1e-5,
        weight_attr: LayerAttr = None,
        bias_attr: LayerAttr = None,
        data_format: str = "NCHW",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if num_channels % num_groups:
            raise ArgumentError(
                f"GroupNorm: {num_groups} groups do not divide {num_channels} channels",
                where=here(),
            )
        self.num_groups, self.epsilon, self.data_format = num_groups, epsilon, data_format
        self.affine(num_channels, weight_attr, bias_attr)

    def forward(self, x: TensorLike) -> Variable:
        """The normalized x."""
        return functional.group_norm(
            x, self.num_groups, self.epsilon, self.weight, self.bias, self.data_format
        )

    def extra_repr(self) -> str:
        """Groups, epsilon."""
        return f"num_groups={self.num_groups}, epsilon={self.epsilon}"


class _InstanceNorm(Layer):
    RANKS: tuple[int, ...] = ()

    def __init__(
        self,
        num_features: int,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        weight_attr: LayerAttr = None,
        bias_attr: LayerAttr = None,
        data_format: str = "NCHW",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.num_features, self.epsilon, self.momentum = num_features, epsilon, momentum
        self.scale = self.create_parameter(
            [num_features], weight_attr, default_initializer=Constant(1.0)
        )
        self.bias = self.create_parameter([num_features], bias_attr, is_bias=True)

    def forward(self, x: TensorLike) -> Variable:
        """The normalized x."""
        value = as_variable(recorder(x), x)
        need_rank(value, type(self).__name__, *self.RANKS)
        return functional.instance_norm(value, weight=self.scale, bias=self.bias, eps=self.epsilon)

    def extra_repr(self) -> str:
        """Size, epsilon."""
        return f"num_features={self.num_features}, epsilon={self.epsilon}"


class InstanceNorm1D(_InstanceNorm):
    """Each sample's channels to mean 0 and variance 1        x: [n, c, l]."""

    PREFIX = "instance_norm1d"
    RANKS = (3,)


class InstanceNorm2D(_InstanceNorm):
    """Each sample's channels to mean 0 and variance 1        x: [n, c, h, w]."""

    PREFIX = "instance_norm2d"
    RANKS = (4,)


class InstanceNorm3D(_InstanceNorm):
    """Each sample's channels to mean 0 and variance 1        x: [n, c, d, h, w]."""

    PREFIX = "instance_norm3d"
    RANKS = (5,)


class LayerNorm(_Affine):
    """The last dims of each sample to mean 0 and variance 1        x: [*n, *normalized_shape].

    weight, bias: flat, of as many elements

    >>> LayerNorm(4)(x)
    <Variable layernormalization_0 : f32[N, 4]>
    """

    PREFIX = "layer_norm"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        epsilon: float = 1e-5,
        weight_attr: LayerAttr = None,
        bias_attr: LayerAttr = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        shape = [normalized_shape] if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape = list(shape)
        self.epsilon = epsilon
        self.affine(math.prod(self.normalized_shape), weight_attr, bias_attr)

    def forward(self, x: TensorLike) -> Variable:
        """The normalized x."""
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.epsilon)

    def extra_repr(self) -> str:
        """Shape, epsilon."""
        return f"normalized_shape={self.normalized_shape}, epsilon={self.epsilon}"


class RMSNorm(Layer):
    """X / √(mean x² + epsilon) over the last dims, times a weight        x: [*n, *m].

    weight, bias: [*m], the normalized_shape

    >>> RMSNorm(4)(x)
    <Variable mul_1 : f32[N, 4]>
    """

    PREFIX = "rms_norm"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        epsilon: float = 1e-5,
        weight_attr: LayerAttr = None,
        bias_attr: LayerAttr = False,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        shape = [normalized_shape] if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape, self.epsilon = list(shape), epsilon
        self.weight = self.create_parameter(
            self.normalized_shape, weight_attr, default_initializer=Constant(1.0)
        )
        self.bias = self.create_parameter(self.normalized_shape, bias_attr, is_bias=True)

    def forward(self, x: TensorLike) -> Variable:
        """The normalized x."""
        y = functional.rms_norm(x, self.normalized_shape, self.weight, self.epsilon)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Shape, epsilon."""
        return f"normalized_shape={self.normalized_shape}, epsilon={self.epsilon}"
