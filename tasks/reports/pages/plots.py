"""Pictures over time as SVG: they follow the reader's light or dark theme, and stay sharp on any screen."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.reports.card.plots import GREY, MINE, THEIRS, new_figure, performance_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 9.0, 2.6
THEME = """
:root { --ink: #1d2129; --soft: #8a8f98; --mine: #2f6f4f; --theirs: #b8703a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa3af; --mine: #6fbf95; --theirs: #e0a06a; } }
svg { color-scheme: light dark; } text { fill: var(--ink); font-family: system-ui, sans-serif !important; }
"""
COLOURS = {
    "#000000": "var(--ink)",
    "#cccccc": "var(--soft)",
    GREY: "var(--soft)",
    MINE: "var(--mine)",
    THEIRS: "var(--theirs)",
}
"""What matplotlib draws in, and what the theme makes of it."""


def performance_svg(
    realised: Sequence[tuple[str, float, tuple[float, float] | None]],
    estimated: Sequence[tuple[str, float]],
    loss: str,
    promoted: Sequence[tuple[str, str]] = (),
) -> str:
    """The loss by partition, realised and as it was estimated; `promoted` marks the first partition of each champion."""
    figure, axes = performance_figure(realised, estimated, loss, (WIDTH, HEIGHT))
    keys = sorted({*(key for key, _, _ in realised), *(key for key, _ in estimated)})
    for key, version in promoted:
        if key in keys:
            at = keys.index(key) - 0.5
            axes.axvline(at, color=GREY, linewidth=1, linestyle=":")
            axes.annotate(f"v{version}", (at, 1), xycoords=("data", "axes fraction"), fontsize=7, va="top", ha="left")
    return as_svg(figure)


def drift_svg(shares: Sequence[tuple[str, float, bool]], threshold: float) -> str:
    """The share of drifted columns by partition, with the threshold; what counted as drift is filled."""
    figure, axes = new_figure("share of columns that drifted", HEIGHT, WIDTH)
    at = range(len(shares))
    colours = [THEIRS if detected else GREY for _, _, detected in shares]
    axes.bar(at, [share for _, share, _ in shares], color=colours, width=0.7)
    axes.axhline(threshold, color=GREY, linewidth=1, linestyle=":")
    name_partitions(axes, [key for key, _, _ in shares])
    return as_svg(figure)


def name_partitions(axes: "Axes", keys: Sequence[str]) -> None:
    """Names below a dozen partitions at most."""
    step = max(1, -(-len(keys) // 12))
    axes.set_xticks(range(0, len(keys), step), keys[::step], fontsize=7)
    axes.tick_params(axis="y", labelsize=7)


def as_svg(figure: "Figure") -> str:
    """The picture as a document of its own with both themes in it; the same picture is the same bytes."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "evergreen"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    drawn = buffer.getvalue().decode()
    for colour, themed in COLOURS.items():
        drawn = drawn.replace(colour, themed)
    head, _, body = drawn.partition("<defs>")
    return f"{head}<style>{THEME}</style>\n<defs>{body}"
