"""What was measured, as one picture: a panel for each row, bars as long as a step takes."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
OURS, THEIRS, TEXT, FLOOR = "#d1495b", "#9aa5b1", "#3d4852", "#2e6f9e"
WIDE = 12  # of the slowest to the fastest: beyond it the axis is logarithmic
COLUMNS = 2


def draw(found: dict[str, Any], path: Path) -> None:
    """One bar for each framework, relative to the best peer of its row."""
    from matplotlib import pyplot as plt

    rows = found["rows"]
    lines = -(-len(rows) // COLUMNS)
    figure, axes = plt.subplots(
        lines, COLUMNS, figsize=(11, 2.2 * lines + 0.7), layout="constrained", squeeze=False
    )
    panels = list(axes.flat)
    for panel, row in zip(panels, rows.values(), strict=False):
        _panel(panel, row)
    for panel in panels[len(rows) :]:
        panel.set_axis_off()
    machine = found["machine"]
    figure.suptitle(
        "A training step, relative to the best peer: shorter is better\n"
        f"{machine['processor']}, {machine['cores']} cores, {found['date']}."
        " * trains by SGD, which is less work. Blue mark: the floor of this machine.",
        fontsize=10,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _panel(panel: Any, row: dict[str, Any]) -> None:
    ran = {k: v for k, v in row["frameworks"].items() if "ratio" in v}
    order = sorted(ran, key=lambda framework: -ran[framework]["ratio"])
    ratios = [ran[framework]["ratio"] for framework in order]
    labels = [f"{k}{'*' if ran[k]['optimizer'] == 'SGD' else ''}" for k in order]
    colours = [OURS if framework == "graphopt" else THEIRS for framework in order]
    bars = panel.barh(labels, ratios, color=colours, height=0.7)
    texts = [f"{_time(ran[k]['ms'])}   {ran[k]['ratio']:.2f} x" for k in order]
    panel.bar_label(bars, texts, fontsize=8, color=TEXT, padding=4)
    _scale(panel, min(ratios), max(ratios))
    for label in panel.get_yticklabels():
        if label.get_text() == "graphopt":
            label.set(fontweight="bold", color=OURS)
    panel.set_title(row["about"], fontsize=9, loc="left")
    panel.set_ylim(len(order) - 7.7, len(order) - 0.4)  # bars of one height in every panel
    _mark_floor(panel, row["floor_ms"] * ratios[0] / ran[order[0]]["ms"])
    panel.tick_params(labelsize=8, left=False)
    panel.spines[["top", "right", "left"]].set_visible(False)


def _scale(panel: Any, low: float, high: float) -> None:
    """Room to the right of the longest bar for its text."""
    if high / low <= WIDE:
        panel.set_xlim(0, high * 1.4)
        return
    left = low / 2
    panel.set_xscale("log")
    panel.set_xlim(left, left * (high / left) ** 1.4)
    panel.xaxis.set_major_formatter("{x:g}")


def _mark_floor(panel: Any, ratio: float) -> None:
    """A mark on the axis where this machine's rates end; none where it would be off the axis."""
    left, right = panel.get_xlim()
    if left < ratio < right:
        bottom = panel.get_ylim()[0]
        panel.plot([ratio], [bottom], marker="^", markersize=7, color=FLOOR, clip_on=False)


def _time(ms: float) -> str:
    if ms >= 1:
        return f"{ms:.1f} ms"
    return f"{1e3 * ms:.1f} µs" if ms < 0.1 else f"{1e3 * ms:.0f} µs"
