import pytest

import graphopt as go


@pytest.mark.parametrize("shape", [[1, 2], [2], [], [3, 3], [4, 1]])
def test_shapes_that_nothing_expands_to(shape):
    x = go.static.data("x", [2, 2])
    like = go.zeros(shape)
    before = x.program.text()
    with pytest.raises(ValueError, match="cannot be expanded"):
        go.expand(x, shape)
    with pytest.raises(ValueError, match="cannot be expanded"):
        go.expand_as(x, like)
    assert x.program.text() == before


@pytest.mark.parametrize(
    ("own", "shape", "found"),
    [
        ([2, 1], [2, 3], "f32[2, 3]"),
        ([None, 1], [-1, 3], "f32[N, 3]"),
        ([3], [2, -1], "f32[2, 3]"),
        ([], [2, 2], "f32[2, 2]"),
    ],
)
def test_shapes_that_it_expands_to(own, shape, found):
    assert str(go.expand(go.static.data("x", own), shape).tensor_type) == found
