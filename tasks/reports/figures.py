"""Figures that cards, pages and artifacts share: their look, the performance of partitions, and the grid of partitions by step."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contracts.escape import for_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE, DPI = (4.6, 3.4), 110

GREEN, ORANGE, GREY = "#2f6f4f", "#b8703a", "#8a8f98"


def performance_plot(
    realised: Sequence[tuple[str, float, tuple[float, float] | None]],
    estimated: Sequence[tuple[str, float]],
    loss: str,
) -> bytes:
    """Draw the loss by partition. See `performance_figure`."""
    return as_png(performance_figure(realised, estimated, loss)[0])


def performance_figure(
    realised: Sequence[tuple[str, float, tuple[float, float] | None]],
    estimated: Sequence[tuple[str, float]],
    loss: str,
    size: tuple[float, float] = SIZE,
) -> "tuple[Figure, Axes]":
    """Draw the loss by partition, realised with its interval and as estimated before the labels came.

    Args:
        realised: Partition key, loss, and the bounds of its interval if it has one.
        estimated: Partition key and estimated loss.
        loss: Name of the loss.
        size: Width and height in inches.
    """
    figure, axes = new_figure(f"{loss} by partition", size[1], size[0])
    keys = sorted({*(key for key, _, _ in realised), *(key for key, _ in estimated)})
    position = {key: i for i, key in enumerate(keys)}
    x, y = [position[key] for key, _, _ in realised], [value for _, value, _ in realised]
    intervals = [bounds or (value, value) for _, value, bounds in realised]
    errors = [
        [v - low for v, (low, _) in zip(y, intervals, strict=True)],
        [high - v for v, (_, high) in zip(y, intervals, strict=True)],
    ]
    axes.errorbar(
        x,
        y,
        yerr=np.maximum(errors, 0),
        color=GREEN,
        marker="o",
        markersize=4,
        capsize=2,
        label="realised, 95 % interval",
    )
    axes.plot(
        [position[key] for key, _ in estimated], [value for _, value in estimated],
        color=ORANGE, marker="o", markersize=4, linestyle="--", label="estimated before",
    )  # fmt: skip
    shown = keys[:: max(1, len(keys) // 8)]
    axes.set_xticks([position[key] for key in shown], shown, rotation=30, ha="right", fontsize=7)
    axes.legend(frameon=False, fontsize=8)
    return figure, axes


STATES = {
    "fresh": "#7fb98b", "made": "#2e7d46", "make": "#4a7fb5", "again": "#8fb3d9", "empty": "#cfe3d4", "stale": "#e3b341", "left": "#e3b341",
    "running": "#4a7fb5", "failed": "#c0504d", "blocked": "#7d3c98", "missing": "#dddddd", "waiting": "#f5f5f5",
}  # fmt: skip
"""The colour of each state of a cell in `grid_plot`."""


def grid_plot(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> bytes:
    """Draw a cell for each partition and column, coloured by its state.

    `rows` has the states of each partition, one for each of `columns`. The first partition is at the left.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    states = [state for state in STATES if any(state in row for row in rows.values())]
    numbers = np.array([[list(STATES).index(state) for state in row] for row in rows.values()]).T
    figure, axes = new_figure(title, height=0.28 * len(columns) + 1.4)
    axes.pcolormesh(
        numbers, cmap=ListedColormap(list(STATES.values())), vmin=-0.5, vmax=len(STATES) - 0.5,
        edgecolors="white", linewidth=0.5 if len(rows) > 60 else 1.5,
    )  # fmt: skip
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(columns)) + 0.5, columns, fontsize=8)
    keys = list(rows)
    shown = range(0, len(keys), max(1, len(keys) // 8))
    axes.set_xticks([i + 0.5 for i in shown], [keys[i] for i in shown], rotation=30, ha="right", fontsize=7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    handles = [Patch(color=STATES[state], label=state) for state in states]
    figure.legend(handles=handles, frameon=False, fontsize=7, ncols=len(states), loc="outside lower right")
    return as_png(figure)


def new_figure(title: str, height: float = SIZE[1], width: float = SIZE[0]) -> "tuple[Figure, Axes]":
    """Create a figure without pyplot, because pyplot's state is shared between threads."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    axes.set_title(for_plot(title), fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def as_png(figure: "Figure") -> bytes:
    """Save a figure as PNG without time and library version, so that equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
