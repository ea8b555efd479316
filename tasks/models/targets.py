"""Outcomes and predictions of each kind of target, as arrays and as columns of a file.

kind         outcome           prediction
binary       int64, 0 or 1     float64 `(rows,)`, probability of 1
multiclass   int64, position   float64 `(rows, classes)`, probability of
             in `classes`      each class
regression   float64           float64 `(rows,)`
"""

from typing import TYPE_CHECKING

import numpy as np

from configs.target import Target

if TYPE_CHECKING:
    import pandas as pd


def outcomes(frame: "pd.DataFrame", target: Target) -> np.ndarray:
    """Return the outcomes of labelled rows, as in the table above.

    Raises:
        KeyError: A class is not among `target.classes`. The step that collects labels rejects such rows.
    """
    column = frame[target.column]
    if target.kind == "regression":
        return column.to_numpy(dtype="float64")
    if target.kind == "binary":
        return column.to_numpy(dtype="int64")
    positions = {name: at for at, name in enumerate(target.classes)}
    return np.array([positions[name] for name in column], dtype="int64")


def prior_of(outcome: np.ndarray, target: Target) -> tuple[float, ...]:
    """Return the best constant prediction: shares of the classes, the mean, or the median for absolute error."""
    if target.kind == "multiclass":
        return tuple(float(x) for x in np.bincount(outcome, minlength=len(target.classes)) / len(outcome))
    return (float(np.median(outcome) if target.eval_loss == "absolute_error" else outcome.mean()),)


def predict_prior(prior: tuple[float, ...], rows: int, target: Target) -> np.ndarray:
    """Return the prior as the prediction of each of `rows` rows."""
    return np.tile(np.array(prior), (rows, 1)) if target.kind == "multiclass" else np.full(rows, prior[0])


def prediction_columns(prediction: np.ndarray, target: Target) -> dict[str, np.ndarray]:
    """Return predictions as columns: `prediction`, and for multiclass `p_<class>` beside the most probable class."""
    if target.kind != "multiclass":
        return {"prediction": prediction}
    likeliest = (
        np.array(target.classes, dtype=object)[prediction.argmax(axis=1)] if len(prediction) else np.empty(0, object)
    )
    return {"prediction": likeliest} | {f"p_{name}": prediction[:, at] for at, name in enumerate(target.classes)}


def prediction_array(frame: "pd.DataFrame", target: Target) -> np.ndarray:
    """Return predictions as an array: the inverse of `prediction_columns`."""
    if target.kind != "multiclass":
        return frame["prediction"].to_numpy(dtype="float64")
    return frame[[f"p_{name}" for name in target.classes]].to_numpy(dtype="float64")
