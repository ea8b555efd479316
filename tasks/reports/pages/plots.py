"""Plots over time as SVG, which follow the light or dark theme of the browser."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.reports.figures import GREEN, GREY, ORANGE, new_figure, performance_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 9.0, 2.6
THEME = """
:root { --ink: #1d2129; --soft: #8a8f98; --green: #2f6f4f; --orange: #b8703a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa3af; --green: #6fbf95; --orange: #e0a06a; } }
svg { color-scheme: light dark; } text { fill: var(--ink); font-family: system-ui, sans-serif !important; }
"""
COLOURS = {
    "#000000": "var(--ink)",
    "#cccccc": "var(--soft)",
    GREY: "var(--soft)",
    GREEN: "var(--green)",
    ORANGE: "var(--orange)",
}
"""Colours in matplotlib's output, and the CSS variables that replace them."""


def performance_svg(
    realised: Sequence[tuple[str, float, tuple[float, float] | None]],
    estimated: Sequence[tuple[str, float]],
    loss: str,
    promoted: Sequence[tuple[str, str]] = (),
) -> str:
    """Plot the loss by partition, realised and estimated.

    Args:
        realised: Partition key, loss, and the bounds of its interval.
        estimated: Partition key and the loss estimated before the labels came.
        loss: Name of the loss.
        promoted: First partition and version of each champion, drawn as vertical lines.
    """
    figure, axes = performance_figure(realised, estimated, loss, (WIDTH, HEIGHT))
    keys = sorted({*(key for key, _, _ in realised), *(key for key, _ in estimated)})
    for key, version in promoted:
        if key in keys:
            x = keys.index(key) - 0.5
            axes.axvline(x, color=GREY, linewidth=1, linestyle=":")
            axes.annotate(f"v{version}", (x, 1), xycoords=("data", "axes fraction"), fontsize=7, va="top", ha="left")
    return as_svg(figure)


def drift_svg(shares: Sequence[tuple[str, float, bool]], threshold: float) -> str:
    """Plot the share of drifted columns by partition with the threshold. `shares` has key, share, and whether drift was detected."""
    figure, axes = new_figure("share of columns that drifted", HEIGHT, WIDTH)
    colours = [ORANGE if detected else GREY for _, _, detected in shares]
    axes.bar(range(len(shares)), [share for _, share, _ in shares], color=colours, width=0.7)
    axes.axhline(threshold, color=GREY, linewidth=1, linestyle=":")
    label_partitions(axes, [key for key, _, _ in shares])
    return as_svg(figure)


def label_partitions(axes: "Axes", keys: Sequence[str]) -> None:
    """Write the names of at most twelve partitions below the x axis."""
    step = max(1, -(-len(keys) // 12))
    axes.set_xticks(range(0, len(keys), step), keys[::step], fontsize=7)
    axes.tick_params(axis="y", labelsize=7)


def as_svg(figure: "Figure") -> str:
    """Save a figure as a self-contained SVG with both themes. Equal figures give equal bytes."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "evergreen"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    svg = buffer.getvalue().decode()
    for colour, variable in COLOURS.items():
        svg = svg.replace(colour, variable)
    head, _, body = svg.partition("<defs>")
    return f"{head}<style>{THEME}</style>\n<defs>{body}"
