"""Calibrate probabilities on predictions of rows that the model had not seen."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

Method = Literal["sigmoid", "isotonic"]


def response(pipeline: "Pipeline", inputs: "pd.DataFrame") -> np.ndarray:
    """What scikit-learn's calibrators learn from, `(rows, 1)` for two classes: decisions where there are any, else probabilities."""
    if hasattr(pipeline, "decision_function"):
        found = pipeline.decision_function(inputs)
        return found.reshape(-1, 1) if found.ndim == 1 else found
    found = pipeline.predict_proba(inputs)
    return found[:, 1:] if found.shape[1] == 2 else found


def calibrated(pipeline: "Pipeline", responses: np.ndarray, outcome: np.ndarray, method: Method) -> Any:
    """A fitted classifier with a calibrator that was fitted on `responses` to rows it had not seen.

    As `CalibratedClassifierCV(ensemble=False)` does it, but with responses from time-ordered splits,
    which that class does not take: it asks for splits that cover every row.
    """
    from sklearn.calibration import CalibratedClassifierCV, _fit_calibrator
    from sklearn.frozen import FrozenEstimator

    model = CalibratedClassifierCV(FrozenEstimator(pipeline), method=method, ensemble=False)
    model.classes_ = pipeline.classes_
    fitted = _fit_calibrator(pipeline, responses, outcome, pipeline.classes_, method, xp=np)
    model.calibrated_classifiers_ = [fitted]
    return model
