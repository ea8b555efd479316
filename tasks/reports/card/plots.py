"""Plots of one comparison of versions, as PNG bytes."""

from collections.abc import Mapping, Sequence

import numpy as np

from tasks.contracts import Segment
from tasks.contracts.escape import for_plot
from tasks.reports.figures import GREEN, GREY, ORANGE, as_png, new_figure

Predictions = Mapping[str, np.ndarray]
"""Predictions by the label of their version: the challenger first, then the champion if there is one."""


def binary_plots(outcome: np.ndarray, predictions: Predictions) -> dict[str, bytes]:
    """Draw ROC, precision-recall and calibration curves."""
    return {
        "roc.png": _roc(outcome, predictions),
        "precision-recall.png": _precision_recall(outcome, predictions),
        "calibration.png": _calibration(outcome, predictions),
    }


def multiclass_plots(outcome: np.ndarray, prediction: np.ndarray, classes: Sequence[str]) -> dict[str, bytes]:
    """Draw the confusion matrix, and the calibration of the likeliest class. `prediction` has a column for each class."""
    predicted = prediction.argmax(axis=1)
    table = np.zeros((len(classes), len(classes)))
    np.add.at(table, (outcome, predicted), 1)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = new_figure("Predicted for each true class")
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        axes.text(column, row, f"{share:.0%}", ha="center", va="center", color="white" if share > 0.6 else "black")
    names = [for_plot(name) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(classes)), names)
    likeliest = {"likeliest class": prediction.max(axis=1)}
    return {
        "confusion.png": as_png(figure),
        "calibration.png": _calibration((predicted == outcome).astype(int), likeliest),
    }


def regression_plots(outcome: np.ndarray, prediction: np.ndarray) -> dict[str, bytes]:
    """Draw residuals against predictions, and their distribution."""
    figure, axes = new_figure("Residuals: outcome minus prediction")
    step = max(1, len(outcome) // 4000)
    axes.plot(prediction[::step], (outcome - prediction)[::step], ".", color=GREEN, alpha=0.3, markersize=3)
    axes.axhline(0, color=GREY, linewidth=1)
    axes.set(xlabel="prediction", ylabel="residual")
    spread, spread_axes = new_figure("Distribution of the residuals")
    spread_axes.hist(outcome - prediction, bins=50, color=GREEN)
    spread_axes.set(xlabel="residual", ylabel="rows")
    return {"residuals.png": as_png(figure), "residual-sizes.png": as_png(spread)}


def importance_plot(importances: Mapping[str, float], loss: str) -> bytes:
    """Draw the permutation importance of the 15 most important features, largest on top."""
    top = sorted(importances.items(), key=lambda item: item[1])[-15:]
    figure, axes = new_figure("Feature importance")
    axes.barh(range(len(top)), [value for _, value in top], tick_label=[for_plot(name) for name, _ in top], color=GREEN)
    axes.set_xlabel(f"rise in {loss} when shuffled")
    axes.tick_params(axis="y", labelsize=8)
    return as_png(figure)


def segment_plot(segments: Sequence[Segment], loss: str) -> bytes:
    """Draw the losses of challenger and champion in the 20 largest segments."""
    shown = list(reversed(segments[:20]))
    figure, axes = new_figure("By segment", height=max(3.4, 0.24 * len(shown) + 1))
    y = np.arange(len(shown))
    axes.plot([s.loss for s in shown], y, "o", color=GREEN, label="challenger", markersize=5)
    if any(s.champion_loss is not None for s in shown):
        axes.plot([s.champion_loss or np.nan for s in shown], y, "d", color=ORANGE, label="champion", markersize=4)
    axes.set_yticks(y, [for_plot(f"{s.name} ({s.rows})") for s in shown], fontsize=7)
    axes.set_xlabel(loss)
    axes.legend(frameon=False, fontsize=8)
    return as_png(figure)


def _roc(outcome: np.ndarray, predictions: Predictions) -> bytes:
    from sklearn.metrics import roc_curve

    curves = {name: roc_curve(outcome, predicted)[:2] for name, predicted in predictions.items()}
    return _curves("ROC", curves, ("false positive rate", "true positive rate"), guide=([0, 1], [0, 1]))


def _precision_recall(outcome: np.ndarray, predictions: Predictions) -> bytes:
    from sklearn.metrics import precision_recall_curve

    curves = {name: precision_recall_curve(outcome, predicted)[1::-1] for name, predicted in predictions.items()}
    rate = float(outcome.mean())
    return _curves("Precision and recall", curves, ("recall", "precision"), guide=([0, 1], [rate, rate]))


def _calibration(outcome: np.ndarray, predictions: Predictions) -> bytes:
    """Draw the observed share against the mean prediction, in ten bins with equal numbers of rows."""
    curves = {}
    for name, predicted in predictions.items():
        edges = np.unique(np.quantile(predicted, np.linspace(0, 1, 11)[1:-1]))
        bins = np.digitize(predicted, edges)
        rows = np.maximum(np.bincount(bins), 1)
        curves[name] = np.bincount(bins, weights=predicted) / rows, np.bincount(bins, weights=outcome) / rows
    span = [min(x.min() for x, _ in curves.values()), max(x.max() for x, _ in curves.values())]
    return _curves("Calibration", curves, ("predicted", "observed"), guide=(span, span), marker="o")


def _curves(
    title: str,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    labels: tuple[str, str],
    guide: tuple[Sequence[float], Sequence[float]],
    marker: str = "",
) -> bytes:
    """Draw a line for each version, and a dotted line as reference."""
    figure, axes = new_figure(title)
    for (name, (x, y)), colour in zip(curves.items(), (GREEN, ORANGE), strict=False):
        axes.plot(x, y, color=colour, label=for_plot(name), marker=marker, markersize=4)
    axes.plot(*guide, color=GREY, linewidth=1, linestyle=":")
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.legend(frameon=False, fontsize=8)
    return as_png(figure)
