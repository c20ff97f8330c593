"""Arguments that are written more than once agree: by layer and function, and by number of dims."""

import inspect

import pytest

from graphopt import nn, static
from graphopt.nn import functional
from graphopt.nn.functional.windows import CHANNELS_FIRST
from graphopt.nn.layer.layers import FunctionLayer

OF_A_FUNCTION = sorted(
    name
    for name in nn.__all__
    if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), FunctionLayer)
)
RANKED = {
    "functional.conv{}d": [1, 2, 3],
    "functional.conv{}d_transpose": [1, 2, 3],
    "Conv{}D": [1, 2, 3],
    "Conv{}DTranspose": [1, 2, 3],
    "static.nn.conv{}d": [2, 3],
    "static.nn.conv{}d_transpose": [2, 3],
}


def parameters(function):
    return dict(inspect.signature(function).parameters)


def named(path):
    """What a path names in nn, or from static on."""
    thing = nn
    for part in path.split("."):
        thing = static if part == "static" else getattr(thing, part)
    return thing


@pytest.mark.parametrize("name", OF_A_FUNCTION)
def test_a_layer_takes_what_its_function_does(name):
    kind = getattr(nn, name)
    own = parameters(kind)
    needed = [p for p in own.values() if p.default is p.empty]
    layer = kind(*[2] * len(needed))
    theirs = parameters(layer.function)
    converted = {"pad", "data_format"} if name.startswith("Pad") else set()
    for option in set(layer.options) - converted:
        assert own[option].annotation == theirs[option].annotation
        if name != "Flatten":  # a layer keeps the batch, as in Paddle
            assert own[option].default == theirs[option].default


@pytest.mark.parametrize("path", RANKED)
def test_ranks_differ_in_their_format_alone(path):
    found = {n: parameters(named(path.format(n))) for n in RANKED[path]}
    assert {n: p["data_format"].default for n, p in found.items()} == {
        n: CHANNELS_FIRST[n] for n in found
    }
    plain = [{k: v for k, v in p.items() if k != "data_format"} for p in found.values()]
    assert all(p == plain[0] for p in plain)


def test_docstrings_have_the_shapes_of_their_rank():
    for n, dims in ((1, "l"), (2, "h, w"), (3, "d, h, w")):
        for thing in (f"functional.conv{n}d", f"functional.conv{n}d_transpose", f"Conv{n}D"):
            assert f"x: [n, c, {dims}]" in named(thing).__doc__
            assert named(thing).__qualname__ == thing.split(".")[-1]


def test_every_function_of_the_package_is_its_own_modules():
    for name in functional.__all__:
        function = getattr(functional, name)
        assert function.__module__.startswith("graphopt.")
        assert getattr(inspect.getmodule(function), function.__name__) is function
