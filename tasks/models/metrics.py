"""Loss of each row, metrics by kind of target, and their confidence intervals.

Shapes of outcomes and predictions are defined in `tasks/models/targets.py`.
"""

from collections.abc import Mapping

import numpy as np

from configs.kinds import METRICS
from configs.target import Target
from tasks.contracts import Interval
from tasks.models.bootstrap import block_sums, draw_blocks, mean_bounds, measured_error_factor

BINS = 10
LEVEL = 0.975
"""One-sided confidence level of each bound; the interval has 95 %."""


def row_loss(outcome: np.ndarray, prediction: np.ndarray, target: Target) -> np.ndarray:
    """Compute each row's loss, by the loss with which models of this target are compared.

    Log loss uses the natural logarithm and clips probabilities at float64's machine epsilon, as scikit-learn does.

    Returns:
        float64 of shape (rows,).
    """
    if target.eval_loss == "squared_error":
        return (outcome - prediction) ** 2
    if target.eval_loss == "absolute_error":
        return np.abs(outcome - prediction)
    step = np.finfo(np.float64).eps
    if target.kind == "binary":
        p = np.clip(prediction, step, 1 - step)
        return -np.where(outcome == 1, np.log(p), np.log1p(-p))
    return -np.log(np.clip(prediction[np.arange(len(outcome)), outcome], step, 1))


def measure(outcome: np.ndarray, prediction: np.ndarray, target: Target) -> dict[str, float]:
    """Compute every metric of the target's kind. A metric is NaN if it is not defined, such as ROC AUC of one class.

    ROC AUC of several classes is the unweighted mean over classes, one against the rest.
    """
    if not len(outcome) or not np.isfinite(prediction).all():
        return dict.fromkeys(METRICS[target.kind], float("nan"))
    metrics = {"binary": _binary, "multiclass": _multiclass, "regression": _regression}[target.kind](
        outcome, prediction
    )
    metrics |= {target.eval_loss: float(row_loss(outcome, prediction, target).mean())}
    metrics |= {"calibration_error": calibration_error(outcome, prediction, target)}
    return {name: metrics[name] for name in METRICS[target.kind]}


def _binary(outcome: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, average_precision_score, brier_score_loss, roc_auc_score

    both = 0 < outcome.sum() < len(outcome)
    return {
        "roc_auc": float(roc_auc_score(outcome, prediction)) if both else float("nan"),
        "accuracy": float(accuracy_score(outcome, prediction >= 0.5)),
        "average_precision": float(average_precision_score(outcome, prediction)) if both else float("nan"),
        "brier": float(brier_score_loss(outcome, prediction)),
        "base_rate": float(outcome.mean()),
        "mean_prediction": float(prediction.mean()),
    }


def _multiclass(outcome: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    classes = np.arange(prediction.shape[1])
    predicted = prediction.argmax(axis=1)
    has_all = len(np.unique(outcome)) == len(classes)
    auc = [roc_auc_score(outcome == c, prediction[:, c]) for c in classes] if has_all else [float("nan")]
    return {
        "accuracy": float(accuracy_score(outcome, predicted)),
        "macro_f1": float(f1_score(outcome, predicted, labels=classes, average="macro", zero_division=0)),
        "roc_auc": float(np.mean(auc)),
    }


def _regression(outcome: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    squares = float(((outcome - prediction) ** 2).mean())
    spread = float(outcome.var())
    return {
        "squared_error": squares,
        "absolute_error": float(np.abs(outcome - prediction).mean()),
        "rmse": squares**0.5,
        "r2": 1 - squares / spread if spread > 0 else float("nan"),
        "mean_outcome": float(outcome.mean()),
        "mean_prediction": float(prediction.mean()),
    }


def calibration_error(outcome: np.ndarray, prediction: np.ndarray, target: Target) -> float:
    """Compute the calibration error; 0 is best.

    For probabilities: the expected calibration error (Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017) over ten bins with equal
    numbers of rows. For several classes: the same for the most probable class. For regression: the absolute value of the mean error,
    in standard deviations of the outcome.
    """
    if target.kind == "regression":
        spread = float(outcome.std())
        return float(abs((outcome - prediction).mean()) / spread) if spread > 0 else float("nan")
    predicted, observed = prediction, outcome
    if target.kind == "multiclass":
        predicted, observed = prediction.max(axis=1), prediction.argmax(axis=1) == outcome
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.digitize(predicted, edges)
    gaps = np.bincount(bins, weights=predicted - observed)
    return float(np.abs(gaps).sum() / len(predicted))


def intervals(
    outcome: np.ndarray, prediction: np.ndarray, blocks: np.ndarray, target: Target, resamples: int, seed: int
) -> dict[str, Interval]:
    """Compute 95 % confidence intervals by a bootstrap of whole blocks.

    Means over rows have studentised bounds (`mean_bounds`) between 0 and the largest value of a row. ROC AUC of two classes has
    percentile bounds. Other metrics have no interval.

    Args:
        blocks: Block of each row.
    """
    if not len(outcome) or not np.isfinite(prediction).all():
        return {}
    values: dict[str, np.ndarray] = {target.eval_loss: row_loss(outcome, prediction, target)}
    if target.kind == "binary":
        values["brier"] = (outcome - prediction) ** 2
    elif target.kind == "multiclass":
        values["accuracy"] = (prediction.argmax(axis=1) == outcome).astype("float64")
    else:
        values |= {"squared_error": (outcome - prediction) ** 2, "absolute_error": np.abs(outcome - prediction)}
    bounds = {
        name: mean_bounds(*block_sums(v, blocks), LEVEL, resamples, seed, 0.0, float(v.max()))
        for name, v in values.items()
    }
    if target.kind == "binary" and 0 < outcome.sum() < len(outcome):
        bounds["roc_auc"] = _auc_interval(outcome, prediction, blocks, min(resamples, 400), seed)
    return bounds


def _auc_interval(
    outcome: np.ndarray, prediction: np.ndarray, blocks: np.ndarray, resamples: int, seed: int
) -> Interval:
    """Compute ROC AUC with percentile bounds over resampled blocks; ties count half (Mann and Whitney 1947).

    The distances of the bounds from the AUC have the factor of the standard error that the measured autocorrelation gives.
    """
    order = np.argsort(prediction, kind="stable")
    _, index = np.unique(blocks, return_inverse=True)
    firsts = np.flatnonzero(np.r_[True, np.diff(prediction[order]) > 0])
    positive, block = outcome[order] == 1, index[order]

    def auc(weight: np.ndarray) -> float:
        rows = weight[block]
        up, down = (np.add.reduceat(np.where(side, rows, 0.0), firsts) for side in (positive, ~positive))
        below = np.cumsum(down) - down
        both = up.sum() * down.sum()
        return float((up * (below + down / 2)).sum() / both) if both else float("nan")

    count = int(index.max()) + 1
    if count < 2:
        return Interval(auc(np.ones(count)), float("nan"), float("nan"))
    drawn = np.array([auc(weight) for weight in draw_blocks(count, resamples, seed)])
    value, factor = auc(np.ones(count)), _auc_error_factor(outcome, prediction, index)
    lower, upper = np.clip(value + factor * (np.nanquantile(drawn, [1 - LEVEL, LEVEL]) - value), 0.0, 1.0)
    return Interval(value, float(lower), float(upper))


def _auc_error_factor(outcome: np.ndarray, prediction: np.ndarray, index: np.ndarray) -> float:
    """Return the root mean square of the factor of AUC's standard error.

    The autocorrelation is that of the blocks' sums of structural components (DeLong, DeLong and Clarke-Pearson 1988): a positive row has
    the share of negative rows below it, a negative row the share of positive rows above it.

    Args:
        index: Position of each row's block.
    """
    positive = outcome == 1
    shares = np.empty(len(outcome))
    for side, sign in ((positive, 1.0), (~positive, -1.0)):
        others = np.sort(prediction[~side])
        below = np.searchsorted(others, prediction[side]) + np.searchsorted(others, prediction[side], side="right")
        share = sign * below / (2 * len(others))
        shares[side] = (share - share.mean()) / side.sum()
    return measured_error_factor(np.bincount(index, weights=shares), np.bincount(index).astype("float64"))


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Replace NaN and infinity by None, since JSON has neither."""
    return {name: value if np.isfinite(value) else None for name, value in metrics.items()}
