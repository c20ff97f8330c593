"""Every test and doctest records into default Programs of its own."""

from collections.abc import Iterator

import pytest

from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Variable
from graphopt.runtime.ort.providers.cuda import cuda_devices
from graphopt.scoping import program_guard

SAMPLES: dict[str, tuple[list[int | str | None], str]] = {
    "x": (["N", 4], "float32"),
    "image": (["N", 3, 8, 8], "float32"),
    "label": (["N"], "int64"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a CUDA device are skipped where there is none."""
    if cuda_devices():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def fresh_programs(
    request: pytest.FixtureRequest, doctest_namespace: dict[str, object]
) -> Iterator[None]:
    """Doctests find x : f32[N, 4], image : f32[N, 3, 8, 8] and label : i64[N]."""
    main = Program()
    if hasattr(request.node, "dtest"):
        doctest_namespace.update({name: sample(main, name) for name in SAMPLES})
    with program_guard(main, Program()):
        yield


def sample(program: Program, name: str) -> Variable:
    """A fed variable."""
    variable = program.global_block().create_var(name, *SAMPLES[name], stop_gradient=True)
    variable.is_data = True
    return variable
