"""A fitted model as a plan over NumPy arrays: the same predictions to the bit, without pandas between the rows and the estimator.

What a pipeline of `tasks/estimators.py` does with a row is little: numbers stay, categories become codes, and the estimator gets a
matrix. scikit-learn's ColumnTransformer takes ten milliseconds a call for it. The plan asks the fitted encoder once what the code of
each category is, and keeps that as a table. Imports no Prefect.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from configs.schema import Features

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline


class NoPlan(Exception):
    """A model has a step that no plan knows, so it is used as it is. No error; the message names the step."""


@dataclass(frozen=True)
class Codes:
    """The code of each category of one column; of null, and of what training did not see."""

    known: Mapping[str, float]
    null: float
    unknown: float

    def of(self, values: "pd.Series") -> np.ndarray:
        """float64 `(rows,)`. What is no text is a category that training did not see."""
        import pandas as pd

        at, found = pd.factorize(values)
        table = [self.known.get(value, self.unknown) if isinstance(value, str) else self.unknown for value in found]
        return np.array([*table, self.null])[at]  # a null is at -1


@dataclass(frozen=True)
class Plan:
    """A model whose inputs are coded by tables. `estimator` takes the matrix."""

    features: Features
    codes: Sequence[Codes]
    estimator: Any
    fitted: Any
    """What the encoder was fitted to, to notice when it is fitted anew."""

    def matrix(self, frame: "pd.DataFrame") -> np.ndarray:
        """Numbers and codes of some rows, float64 `(rows, features)`. The frame has every feature."""
        numeric, categorical = self.features.numeric, self.features.categorical
        found = np.empty((len(frame), len(numeric) + len(categorical)))
        for at, name in enumerate(numeric):
            found[:, at] = frame[name].to_numpy(dtype="float64", na_value=np.nan)
        for at, (name, codes) in enumerate(zip(categorical, self.codes, strict=True), start=len(numeric)):
            found[:, at] = codes.of(frame[name])
        return found

    def limit(self, threads: int) -> None:
        """Let a booster predict on so many cores; what it says is the same on any number."""
        inner = getattr(self.estimator, "estimator", self.estimator)  # calibrated, or not
        if hasattr(inner, "get_booster"):
            inner.get_booster().set_param({"nthread": threads})


_PLANS: "WeakKeyDictionary[Any, Plan]" = WeakKeyDictionary()


def plan_of(model: Any) -> Plan:
    """The plan of a fitted model; made once.

    Raises:
        NoPlan: it is none of our pipelines, or its encoder does more than to code categories.
    """
    pipeline = pipeline_of(model)
    fitted, features = _fitted(pipeline), features_of(model)
    plan = _PLANS.get(model)
    if plan is None or plan.fitted is not fitted:
        plan = _PLANS[model] = Plan(features, tables(pipeline["encode"], features), _head(model, pipeline), fitted)
    return plan


def features_of(model: Any) -> Features:
    """The inputs that a fitted model was fitted with, in its own order: model.yaml may have others by now.

    Raises:
        NoPlan: it is none of our pipelines.
    """
    columns = {name: tuple(names) for name, _, names in _fitted(pipeline_of(model))}
    return Features(numeric=columns.get("number", ()), categorical=columns.get("category", ()))


def _fitted(pipeline: "Pipeline") -> Any:
    if (fitted := getattr(pipeline["encode"], "transformers_", None)) is None:
        raise NoPlan(f"its encoder is a {type(pipeline['encode']).__name__}")
    return fitted


def pipeline_of(model: Any) -> "Pipeline":
    """The pipeline of a model, calibrated or not.

    Raises:
        NoPlan: it has none of ours.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.pipeline import Pipeline

    inner = model.calibrated_classifiers_[0].estimator if isinstance(model, CalibratedClassifierCV) else model
    inner = inner.estimator if isinstance(inner, FrozenEstimator) else inner
    if not isinstance(inner, Pipeline) or list(inner.named_steps) != ["encode", "estimate"]:
        raise NoPlan(f"{type(inner).__name__} is none of our pipelines")
    return inner


def _head(model: Any, pipeline: "Pipeline") -> Any:
    """What comes after the encoder: the estimator, calibrated where the model is."""
    from sklearn.calibration import CalibratedClassifierCV, _CalibratedClassifier

    if not isinstance(model, CalibratedClassifierCV):
        return pipeline["estimate"]
    (fitted,) = model.calibrated_classifiers_
    return _CalibratedClassifier(
        estimator=pipeline["estimate"], calibrators=fitted.calibrators, classes=fitted.classes, method=fitted.method
    )


def tables(encoder: Any, features: Features) -> list[Codes]:
    """What a fitted encoder makes of each category that it knows, by asking it.

    Raises:
        NoPlan: it does more.
    """
    from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

    parts = {name: part for name, part, _ in encoder.transformers_}
    number, ordinal = parts.get("number"), parts.get("category")
    if not (isinstance(number, FunctionTransformer) and number.func is None) and number not in ("passthrough", None):
        raise NoPlan(f"its encoder does {type(number).__name__} to numbers")
    if not features.categorical:
        return []
    if not isinstance(ordinal, OrdinalEncoder):
        raise NoPlan(f"its encoder does {type(ordinal).__name__} to categories")
    return [_codes(ordinal, at, features) for at in range(len(ordinal.categories_))]


def _codes(ordinal: Any, at: int, features: Features) -> Codes:
    import pandas as pd

    categories = [c for c in ordinal.categories_[at] if isinstance(c, str)]
    if others := [c for c in ordinal.categories_[at] if not isinstance(c, str) and c == c and c is not None]:
        raise NoPlan(f"its encoder knows categories that are no text, such as {others[0]!r}")
    asked = [*categories, np.nan, _unheard_of(categories)]
    rows: np.ndarray = np.full((len(asked), len(features.categorical)), np.nan, dtype=object)
    rows[:, at] = asked
    frame = pd.DataFrame(rows, columns=list(features.categorical), dtype=object)
    *known, null, unknown = np.asarray(ordinal.transform(frame))[:, at].tolist()
    return Codes(dict(zip(categories, known, strict=True)), null, unknown)


def _unheard_of(categories: Iterable[str]) -> str:
    """A text that is none of the categories."""
    return "?" + max(categories, key=len, default="")
