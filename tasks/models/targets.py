"""Outcomes and predictions of each kind of target as arrays, and as columns of a file.

kind         outcome           prediction
binary       int64, 0 or 1     float64 `(rows,)`, probability of 1
multiclass   int64, position   float64 `(rows, classes)`, a probability each
             in `classes`
regression   float64           float64 `(rows,)`
"""

from typing import TYPE_CHECKING

import numpy as np

from configs.schema import Target

if TYPE_CHECKING:
    import pandas as pd


def outcomes(frame: "pd.DataFrame", target: Target) -> np.ndarray:
    """The outcomes of labelled rows.

    Raises:
        KeyError: a class that model.yaml does not name; the labels stage lets none through.
    """
    column = frame[target.column]
    if target.kind == "regression":
        return column.to_numpy(dtype="float64")
    if target.kind == "binary":
        return column.to_numpy(dtype="int64")
    position = {name: at for at, name in enumerate(target.classes)}
    return np.array([position[name] for name in column], dtype="int64")


def prior_of(outcome: np.ndarray, target: Target) -> tuple[float, ...]:
    """What the best constant predicts: shares of the classes, the mean, or the median for absolute error."""
    if target.kind == "multiclass":
        return tuple(float(x) for x in np.bincount(outcome, minlength=len(target.classes)) / len(outcome))
    return (float(np.median(outcome) if target.judged_by == "absolute_error" else outcome.mean()),)


def predict_prior(prior: tuple[float, ...], rows: int, target: Target) -> np.ndarray:
    """The prior's prediction for each of `rows` rows."""
    return np.tile(np.array(prior), (rows, 1)) if target.kind == "multiclass" else np.full(rows, prior[0])


def prediction_columns(prediction: np.ndarray, target: Target) -> dict[str, np.ndarray]:
    """Predictions as columns: `prediction`, for multiclass the likeliest class, with `p_<class>` beside it."""
    if target.kind != "multiclass":
        return {"prediction": prediction}
    likeliest = (
        np.array(target.classes, dtype=object)[prediction.argmax(axis=1)] if len(prediction) else np.empty(0, object)
    )
    return {"prediction": likeliest} | {f"p_{name}": prediction[:, at] for at, name in enumerate(target.classes)}


def prediction_array(frame: "pd.DataFrame", target: Target) -> np.ndarray:
    """The array that `prediction_columns` was given."""
    if target.kind != "multiclass":
        return frame["prediction"].to_numpy(dtype="float64")
    return frame[[f"p_{name}" for name in target.classes]].to_numpy(dtype="float64")
