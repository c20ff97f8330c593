"""Pools as layers: a function of nn.functional, with fixed arguments."""

from __future__ import annotations

from graphopt.nn import functional
from graphopt.nn.functional.windows import IntOrInts, Padding
from graphopt.nn.layer.layers import FunctionLayer


class AdaptiveAvgPool1D(FunctionLayer):
    """Means over ``output_size`` nearly equal cells of each sequence.

    x: [n, c, l]   result: [n, c, output_size]. See ``nn.functional.adaptive_avg_pool1d``.
    """

    def __init__(self, output_size: int, name: str | None = None) -> None:
        super().__init__(functional.adaptive_avg_pool1d, locals())


class AdaptiveAvgPool2D(FunctionLayer):
    """Means over nearly equal cells of each image        x: [n, c, h, w]   result: [n, c, h', w'].

    ``output_size`` and ``data_format`` are those of ``nn.functional.adaptive_avg_pool2d``.

    >>> AdaptiveAvgPool2D(2)(image)
    <Variable matmul_1 : f32[N, 3, 2, 2]>
    """

    def __init__(
        self, output_size: IntOrInts, data_format: str = "NCHW", name: str | None = None
    ) -> None:
        super().__init__(functional.adaptive_avg_pool2d, locals())


class AdaptiveMaxPool1D(FunctionLayer):
    """Maxima over ``output_size`` nearly equal cells of each sequence.

    x: [n, c, l]   result: [n, c, output_size]. ``return_mask`` adds where the maxima are; see
    ``nn.functional.adaptive_max_pool1d``.
    """

    def __init__(
        self, output_size: int, return_mask: bool = False, name: str | None = None
    ) -> None:
        super().__init__(functional.adaptive_max_pool1d, locals())


class AdaptiveMaxPool2D(FunctionLayer):
    """Maxima over nearly equal cells of each image        x: [n, c, h, w]   result: [n, c, h', w'].

    ``output_size`` and ``return_mask`` are those of ``nn.functional.adaptive_max_pool2d``.
    """

    def __init__(
        self, output_size: IntOrInts, return_mask: bool = False, name: str | None = None
    ) -> None:
        super().__init__(functional.adaptive_max_pool2d, locals())


class AvgPool1D(FunctionLayer):
    """Means over windows of sequences        x: [n, c, l]   result: [n, c, l'].

    ``kernel_size``, ``stride``, ``padding``, ``exclusive`` and ``ceil_mode`` are those of
    ``nn.functional.avg_pool1d``.
    """

    def __init__(
        self, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: Padding = 0,
        exclusive: bool = True, ceil_mode: bool = False, name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(functional.avg_pool1d, locals())


class AvgPool2D(FunctionLayer):
    """Means over windows of images        x: [n, c, h, w]   result: [n, c, h', w'].

    ``kernel_size``, ``stride``, ``padding``, ``ceil_mode``, ``exclusive``, ``divisor_override`` and
    ``data_format`` are those of ``nn.functional.avg_pool2d``.
    """

    def __init__(
        self, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: Padding = 0,
        ceil_mode: bool = False, exclusive: bool = True, divisor_override: float | None = None,
        data_format: str = "NCHW", name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(functional.avg_pool2d, locals())


class MaxPool1D(FunctionLayer):
    """Maxima over windows of sequences        x: [n, c, l]   result: [n, c, l'].

    ``kernel_size``, ``stride``, ``padding``, ``return_mask`` and ``ceil_mode`` are those of
    ``nn.functional.max_pool1d``.
    """

    def __init__(
        self, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: Padding = 0,
        return_mask: bool = False, ceil_mode: bool = False, name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(functional.max_pool1d, locals())


class MaxPool2D(FunctionLayer):
    """Maxima over windows of images        x: [n, c, h, w]   result: [n, c, h', w'].

    ``kernel_size``, ``stride``, ``padding``, ``return_mask``, ``ceil_mode`` and ``data_format`` are
    those of ``nn.functional.max_pool2d``.

    >>> MaxPool2D(2)(image)
    <Variable maxpool_0 : f32[N, 3, 4, 4]>
    """

    def __init__(
        self, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: Padding = 0,
        return_mask: bool = False, ceil_mode: bool = False, data_format: str = "NCHW",
        name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(functional.max_pool2d, locals())
