"""Calibrate probabilities on out-of-fold predictions."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

Method = Literal["sigmoid", "isotonic"]


def response(pipeline: "Pipeline", inputs: "pd.DataFrame") -> np.ndarray:
    """Compute the response values on which scikit-learn fits a calibrator.

    Returns:
        Values of the decision function, or probabilities if the estimator has none. The shape is (rows, 1) for two classes,
        else (rows, classes).
    """
    if hasattr(pipeline, "decision_function"):
        values = pipeline.decision_function(inputs)
        return values.reshape(-1, 1) if values.ndim == 1 else values
    values = pipeline.predict_proba(inputs)
    return values[:, 1:] if values.shape[1] == 2 else values


def calibrate(pipeline: "Pipeline", responses: np.ndarray, outcome: np.ndarray, method: Method) -> Any:
    """Return a fitted classifier with a calibrator that is fitted on out-of-fold responses.

    Equivalent to `CalibratedClassifierCV(ensemble=False)`, with responses from time-ordered splits. That class does not accept such
    splits, since it requires splits that cover every row.

    Args:
        responses: As returned by `response`, for rows that were not used to fit the model that produced them.
        outcome: Outcomes of the same rows.
    """
    from sklearn.calibration import CalibratedClassifierCV, _fit_calibrator
    from sklearn.frozen import FrozenEstimator

    model = CalibratedClassifierCV(FrozenEstimator(pipeline), method=method, ensemble=False)
    model.classes_ = pipeline.classes_
    fitted = _fit_calibrator(pipeline, responses, outcome, pipeline.classes_, method, xp=np)
    model.calibrated_classifiers_ = [fitted]
    return model
