"""The user's line is found behind all frames of graphopt."""

from pathlib import Path

import pytest

import graphopt as go
from graphopt import errors
from graphopt.ir.types.where import PACKAGE


def test_frames_of_every_room_are_passed_by():
    assert Path(PACKAGE) == Path(go.__file__).parent


def test_an_error_points_at_the_users_line():
    x = go.static.data("x", [2, 3])
    with pytest.raises(errors.ShapeError) as found:
        go.nn.functional.linear(x, go.create_parameter([4, 5]))
    assert f"at {__file__}" in str(found.value)
    assert "go.nn.functional.linear(x" in str(found.value)
