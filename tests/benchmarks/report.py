"""What was measured, as tables of text."""

from collections.abc import Iterable
from typing import Any

MIB = 1 << 20
Found = dict[str, Any]  # the JSON file


def tables(found: Found) -> str:
    """All tables, one after the other."""
    parts = [_machine(found), *(_row(name, row) for name, row in found["rows"].items())]
    if "batch_num" in found:
        parts.append(_sweep(found["batch_num"]))
    if "compile" in found:
        parts += [_compiled(found["compile"]), _chains(found["chains"])]
    return "\n\n".join(parts) + "\n"


def table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Columns as wide as they must be; the first to the left, the others to the right."""
    rows = [list(head), *map(list, lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    form = lambda row: "  ".join(  # noqa: E731
        cell.rjust(width) if k else cell.ljust(width)
        for k, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "\n".join("  " + form(row).rstrip() for row in rows)


def _machine(found: Found) -> str:
    machine = found["machine"]
    return (
        f"{machine['processor']}, {machine['cores']} cores, {found['date']}\n"
        f"matrix product {machine['flops'] / 1e9:.0f} GFLOP/s,"
        f" copy {machine['bytes'] / 1e9:.1f} GB/s read and written"
    )


def _row(name: str, row: Found) -> str:
    ran = {k: v for k, v in row["frameworks"].items() if "ms" in v}
    lines = [
        [
            f"{framework} {one['version']}",
            f"{one['ms']:.4f}",
            f"{one['ratio']:.2f}" if "ratio" in one else "-",
            f"{one['first_step_s']:.2f}",
            f"{one['peak_bytes'] / MIB:.0f}",
            f"{(one['peak_bytes'] - one['imports_bytes']) / MIB:.0f}",
            one["optimizer"],
        ]
        for framework, one in sorted(ran.items(), key=lambda item: item[1]["ms"])
    ]
    lines.append(["floor", f"{row['floor_ms']:.4f}", "", "", "", "", ""])
    head = ["", "ms/step", "of best peer", "first step s", "peak MiB", "own MiB", "update"]
    return f"{name}: {row['about']}\n{table(head, lines)}"


def _sweep(found: Found) -> str:
    lines = [
        [n, f"{one['ms']:.3f}", f"{one['ratio']:.2f}", f"{one['peak_bytes'] / MIB:.0f}"]
        for n, one in found.items()
    ]
    head = ["batch_num", "ms/step", "of batch_num 1", "peak MiB"]
    return "graphopt, ASGD of a million parameters\n" + table(head, lines)


def _compiled(found: Found) -> str:
    names = list(next(iter(found.values()))["frameworks"])
    lines = [
        [row["about"], *(f"{row['frameworks'][name]['s']:.2f}" for name in names)]
        for row in found.values()
    ]
    return "seconds to the end of the first step\n" + table(["", *names], lines)


def _chains(found: list[Found]) -> str:
    lines = []
    for one in found:
        parts = [one[key] for key in ("record_s", "minimize_s", "first_run_s")]
        rate = f"{one['ops'] / sum(parts):.0f}"
        lines.append([str(one["length"]), str(one["ops"]), *(f"{p:.2f}" for p in parts), rate])
    head = ["forward ops", "all ops", "record s", "minimize s", "first run s", "ops/s"]
    return "graphopt on chains\n" + table(head, lines)
