"""Pools as layers; see nn.functional for the arguments."""

from __future__ import annotations

from graphopt.nn import functional
from graphopt.nn.functional.windows import IntOrInts, Padding
from graphopt.nn.layer.layers import FunctionLayer


class AdaptiveAvgPool1D(FunctionLayer):
    """Means over nearly equal spans        x: [n, c, l]   result: [n, c, output_size]."""

    def __init__(self, output_size: int, name: str | None = None) -> None:
        super().__init__(functional.adaptive_avg_pool1d, name, output_size=output_size)


class AdaptiveAvgPool2D(FunctionLayer):
    """Means over nearly equal cells        x: [n, c, h, w]   result: [n, c, *output_size]."""

    def __init__(
        self, output_size: IntOrInts, data_format: str = "NCHW", name: str | None = None
    ) -> None:
        super().__init__(
            functional.adaptive_avg_pool2d, name, output_size=output_size, data_format=data_format
        )


class AdaptiveMaxPool1D(FunctionLayer):
    """Maxima over nearly equal spans        x: [n, c, l]   result: [n, c, output_size]."""

    def __init__(
        self, output_size: int, return_mask: bool = False, name: str | None = None
    ) -> None:
        super().__init__(
            functional.adaptive_max_pool1d, name, output_size=output_size, return_mask=return_mask
        )


class AdaptiveMaxPool2D(FunctionLayer):
    """Maxima over nearly equal cells        x: [n, c, h, w]   result: [n, c, *output_size]."""

    def __init__(
        self, output_size: IntOrInts, return_mask: bool = False, name: str | None = None
    ) -> None:
        super().__init__(
            functional.adaptive_max_pool2d, name, output_size=output_size, return_mask=return_mask
        )


class AvgPool1D(FunctionLayer):
    """Means over windows        x: [n, c, l]."""

    def __init__(
        self,
        kernel_size: IntOrInts,
        stride: IntOrInts | None = None,
        padding: Padding = 0,
        exclusive: bool = True,
        ceil_mode: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(
            functional.avg_pool1d,
            name,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            exclusive=exclusive,
            ceil_mode=ceil_mode,
        )


class AvgPool2D(FunctionLayer):
    """Means over windows        x: [n, c, h, w]."""

    def __init__(
        self,
        kernel_size: IntOrInts,
        stride: IntOrInts | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        exclusive: bool = True,
        divisor_override: float | None = None,
        data_format: str = "NCHW",
        name: str | None = None,
    ) -> None:
        super().__init__(
            functional.avg_pool2d,
            name,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            exclusive=exclusive,
            divisor_override=divisor_override,
            data_format=data_format,
        )


class MaxPool1D(FunctionLayer):
    """Maxima over windows        x: [n, c, l]."""

    def __init__(
        self,
        kernel_size: IntOrInts,
        stride: IntOrInts | None = None,
        padding: Padding = 0,
        return_mask: bool = False,
        ceil_mode: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(
            functional.max_pool1d,
            name,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            return_mask=return_mask,
            ceil_mode=ceil_mode,
        )


class MaxPool2D(FunctionLayer):
    """Maxima over windows        x: [n, c, h, w].

    >>> MaxPool2D(2)(image)
    <Variable maxpool_0 : f32[N, 3, 4, 4]>
    """

    def __init__(
        self,
        kernel_size: IntOrInts,
        stride: IntOrInts | None = None,
        padding: Padding = 0,
        return_mask: bool = False,
        ceil_mode: bool = False,
        data_format: str = "NCHW",
        name: str | None = None,
    ) -> None:
        super().__init__(
            functional.max_pool2d,
            name,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            return_mask=return_mask,
            ceil_mode=ceil_mode,
            data_format=data_format,
        )
