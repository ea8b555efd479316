"""The private names of scikit-learn and XGBoost that our code uses exist, with the parameters that it passes.

A failure names the vendor's attribute and our module. Other tests would fail too, but in the middle of a fit.
"""

import inspect
import pkgutil
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

from tasks.models.estimators import TRUSTED_TYPES

VENDORS = f"scikit-learn {version('scikit-learn')}, XGBoost {version('xgboost')}"
PARAMETERS = {
    "sklearn.calibration:_CalibratedClassifier": (
        "tasks/models/fast_predict.py",
        (),
        ("estimator", "calibrators", "classes", "method"),
    ),
    "sklearn.calibration:_fit_calibrator": (
        "tasks/models/calibration.py",
        ("clf", "predictions", "y", "classes", "method"),
        ("xp",),
    ),
    "xgboost:XGBClassifier._get_iteration_range": ("tasks/models/fast_predict.py", ("self", "iteration_range"), ()),
    "xgboost:XGBRegressor._get_iteration_range": ("tasks/models/fast_predict.py", ("self", "iteration_range"), ()),
}
"""By name: the module that calls it, and the positional and keyword arguments of the call."""


def vendor_object(name: str, module: str) -> Any:
    """Return a vendor's object by name. The test fails if there is none."""
    try:
        return pkgutil.resolve_name(name)
    except (AttributeError, ImportError):
        pytest.fail(f"{name}, which {module} uses, does not exist in {VENDORS}: change {module}", pytrace=False)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_private_function_exists_with_the_parameters_that_are_passed(name: str) -> None:
    module, positional, keywords = PARAMETERS[name]
    signature = inspect.signature(vendor_object(name, module))
    message = f"{name}{signature} of {VENDORS} has other parameters than {module} passes: {positional} {keywords}"
    assert tuple(signature.parameters)[: len(positional)] == positional, message
    try:
        signature.bind(*positional, **dict.fromkeys(keywords))
    except TypeError as error:
        pytest.fail(f"{message} ({error})", pytrace=False)


def one_hot_encoder() -> Any:
    return OneHotEncoder().fit([["a", "x"], ["b", "x"], ["c", "y"]])


def calibrated_classifier() -> Any:
    inputs, outcome = np.arange(8.0).reshape(-1, 1), [0, 1] * 4
    return (
        CalibratedClassifierCV(LogisticRegression(), cv=2, ensemble=False)
        .fit(inputs, outcome)
        .calibrated_classifiers_[0]
    )


@pytest.mark.parametrize(
    ("fitted", "name", "expected"),
    [
        (one_hot_encoder, "_n_features_outs", [3, 2]),
        (calibrated_classifier, "classes", [0, 1]),
        (calibrated_classifier, "method", "sigmoid"),
        (calibrated_classifier, "calibrators", None),
        (calibrated_classifier, "estimator", None),
    ],
)
def test_a_private_attribute_of_a_fitted_object_exists(fitted: Callable[[], Any], name: str, expected: Any) -> None:
    """`expected` is its value, None for any."""
    part = fitted()
    message = f"{type(part).__name__}.{name}, which tasks/models uses, is not as expected in {VENDORS}"
    assert hasattr(part, name), message
    assert expected is None or np.array_equal(getattr(part, name), expected), message


@pytest.mark.parametrize("name", TRUSTED_TYPES)
def test_a_trusted_type_of_a_model_file_exists(name: str) -> None:
    vendor_object(name, "tasks/models/estimators.py")
