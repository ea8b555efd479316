"""A fitted model as a plan over NumPy arrays: the same predictions to the bit, without pandas between the rows and the estimator.

What a pipeline of `tasks/models/estimators.py` does with a row is little: numbers stay or are imputed and scaled, categories become codes
or a column each, and the estimator gets a matrix. scikit-learn's ColumnTransformer takes ten milliseconds a call for it. The plan
asks the fitted encoder once what each category is, and keeps that as a table.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from configs.features import Features

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline


class NoPlan(Exception):
    """A model has a step that no plan knows, so it is used as it is. No error; the message names the step."""


@dataclass(frozen=True)
class Codes:
    """What one column's categories are to the encoder: a code each, or the position of a column. Null and what training did not see too."""

    known: Mapping[str, float]
    null: float
    unknown: float

    def of(self, values: "pd.Series | list[Any]") -> np.ndarray:
        """float64 `(rows,)`. What is no text is a category that training did not see."""
        if isinstance(values, list):
            found = list(map(self.known.get, values))
            if None in found:
                found = [self.null if value is None else self._code(value) for value in values]
            return np.array(found)
        import pandas as pd

        at, others = pd.factorize(values)
        table = [self._code(value) for value in others]
        return np.array([*table, self.null])[at]  # a null is at -1

    def _code(self, value: Any) -> float:
        return self.known.get(value, self.unknown) if isinstance(value, str) else self.unknown


@dataclass(frozen=True)
class Spread:
    """How linear models see a row: numbers imputed, marked where they were null, and scaled; a column for each category."""

    imputed: np.ndarray
    marked: np.ndarray
    """Positions of the numbers whose nulls have a column of their own."""
    mean: np.ndarray
    scale: np.ndarray
    width: int
    sparse: bool

    def matrix(self, numbers: np.ndarray, positions: np.ndarray) -> Any:
        """float64 `(rows, width)`, sparse where the encoder's is; `positions` of categories, -1 for none."""
        missing = np.isnan(numbers)
        known = np.where(missing, self.imputed, numbers)
        scaled = np.hstack([known, missing[:, self.marked].astype("float64")])
        scaled -= self.mean
        scaled /= self.scale
        found = np.zeros((len(numbers), self.width))
        found[:, : scaled.shape[1]] = scaled
        rows, columns = np.nonzero(positions >= 0)
        found[rows, positions[rows, columns].astype("int64")] = 1.0
        if not self.sparse:
            return found
        from scipy.sparse import csr_matrix

        return csr_matrix(found)


class Trees:
    """XGBoost's trees, asked without what its scikit-learn side does about each call: of one row a third of the time."""

    def __init__(self, estimator: Any) -> None:
        self.estimator, self.booster = estimator, estimator.get_booster()
        self.missing, self.rounds = estimator.missing, estimator._get_iteration_range(None)

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """float32 `(rows,)`, or `(rows, classes)` of more than two: values, or probabilities of class 1 or of each."""
        return self.booster.inplace_predict(matrix, iteration_range=self.rounds, missing=self.missing)

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        said = self.predict(matrix)
        return np.column_stack((1.0 - said, said)) if said.ndim == 1 else said


@dataclass(frozen=True)
class Plan:
    """A model whose inputs are coded by tables. `estimator` takes the matrix."""

    features: Features
    codes: Sequence[Codes]
    estimator: Any
    fitted: tuple[Any, ...]
    """What encoder and estimator were fitted to, to notice when they are fitted anew."""
    spread: Spread | None = None

    def matrix(self, rows: "pd.DataFrame | Mapping[str, Any]") -> Any:
        """What the estimator is given of some rows, float64 `(rows, ...)`: of a frame, or of columns by name. They have every feature."""
        numeric, categorical = self.features.numeric, self.features.categorical
        found = np.empty((len(rows[self.features.all[0]]), len(numeric) + len(categorical)))
        for at, name in enumerate(numeric):
            found[:, at] = numbers(rows[name])
        for at, (name, codes) in enumerate(zip(categorical, self.codes, strict=True), start=len(numeric)):
            found[:, at] = codes.of(rows[name])
        return self.spread.matrix(found[:, : len(numeric)], found[:, len(numeric) :]) if self.spread else found

    def limit(self, threads: int) -> None:
        """Let XGBoost predict on so many cores; what it says is the same on any number."""
        inner = getattr(self.estimator, "estimator", self.estimator)  # what is calibrated, or whose trees these are
        if hasattr(inner, "get_booster"):
            inner.get_booster().set_param({"nthread": threads})


def numbers(values: "pd.Series | list[Any] | np.ndarray") -> np.ndarray:
    """float64 `(rows,)`, null as NaN."""
    if isinstance(values, list | np.ndarray):
        return np.asarray(values, dtype="float64")
    return values.to_numpy(dtype="float64", na_value=np.nan)


_PLANS: "WeakKeyDictionary[Any, Plan]" = WeakKeyDictionary()


def plan_of(model: Any) -> Plan:
    """The plan of a fitted model; made once.

    Raises:
        NoPlan: it is none of our pipelines, or its encoder does more than to impute, to scale and to code categories.
    """
    pipeline = pipeline_of(model)
    fitted, features = (_fitted(pipeline), getattr(pipeline["estimate"], "_Booster", None)), features_of(model)
    plan = _PLANS.get(model)
    if plan is None or any(old is not new for old, new in zip(plan.fitted, fitted, strict=True)):
        codes, spread = tables(pipeline["encode"], features)
        plan = _PLANS[model] = Plan(features, codes, _head(model, pipeline), fitted, spread)
    return plan


def features_of(model: Any) -> Features:
    """The inputs that a fitted model was fitted with, in its own order: model.yaml may have others by now.

    Raises:
        NoPlan: it is none of our pipelines.
    """
    columns = {name: tuple(names) for name, _, names in _fitted(pipeline_of(model))}
    return Features(numeric=columns.get("number", ()), categorical=columns.get("category", ()))


def summed_in_order(model: Any) -> Any:
    """The same model, a forest on one core: it sums its trees in the order in which threads end, and a sum's last bit depends on that."""
    try:
        estimator = pipeline_of(model)["estimate"]
    except NoPlan:
        return model
    if hasattr(estimator, "estimators_") and hasattr(estimator, "n_jobs"):
        estimator.n_jobs = 1
    return model


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
        return _trees(pipeline["estimate"])
    (fitted,) = model.calibrated_classifiers_
    return _CalibratedClassifier(
        estimator=pipeline["estimate"], calibrators=fitted.calibrators, classes=fitted.classes, method=fitted.method
    )


def _trees(estimator: Any) -> Any:
    """The trees of an XGBoost model; any other estimator as it is, and XGBoost's where its class does more than to ask them."""
    plain = type(estimator).__name__ in ("XGBClassifier", "XGBRegressor") and estimator.booster != "gblinear"
    return Trees(estimator) if plain and estimator.objective != "multi:softmax" else estimator


def tables(encoder: Any, features: Features) -> tuple[list[Codes], Spread | None]:
    """What a fitted encoder makes of each category that it knows, by asking it, and of numbers where it changes them.

    Raises:
        NoPlan: it does more.
    """
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder

    parts = {name: part for name, part, _ in encoder.transformers_}
    number, category = parts.get("number"), parts.get("category")
    if (features.categorical and isinstance(category, OneHotEncoder)) or _scales(number):
        return _spread(encoder, number, category, features)
    if not (isinstance(number, FunctionTransformer) and number.func is None) and number not in ("passthrough", None):
        raise NoPlan(f"its encoder does {type(number).__name__} to numbers")
    if not features.categorical:
        return [], None
    if not isinstance(category, OrdinalEncoder):
        raise NoPlan(f"its encoder does {type(category).__name__} to categories")
    return [
        _codes(category, at, features, lambda coded, at=at: np.asarray(coded)[:, at])  # type: ignore[misc]
        for at in range(len(category.categories_))
    ], None


def _scales(number: Any) -> bool:
    """Whether numbers are imputed by a constant each, and then scaled, as for our linear models."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    return (
        isinstance(number, Pipeline)
        and list(number.named_steps) == ["impute", "scale"]
        and isinstance(number["impute"], SimpleImputer)
        and isinstance(number["scale"], StandardScaler)
    )


def _spread(encoder: Any, number: Any, category: Any, features: Features) -> tuple[list[Codes], Spread]:
    """The tables of imputing, scaling and one-hot encoding."""
    from sklearn.preprocessing import OneHotEncoder

    empty = np.empty(0)
    imputed, mean, scale = empty, empty, empty
    marked: np.ndarray = empty.astype("int64")
    if features.numeric:
        if not _scales(number):
            raise NoPlan(f"its encoder does {type(number).__name__} to numbers")
        imputed, mean, scale = number["impute"].statistics_, number["scale"].mean_, number["scale"].scale_
        indicator = number["impute"].indicator_
        marked = indicator.features_ if indicator is not None else marked
    codes, width = [], len(imputed) + len(marked)
    if features.categorical:
        if not isinstance(category, OneHotEncoder):
            raise NoPlan(f"its encoder does {type(category).__name__} to categories")
        for at, own in enumerate(category._n_features_outs):
            read = partial(_positions, sum(category._n_features_outs[:at]), own, width)
            codes.append(_codes(category, at, features, read))
        width += sum(category._n_features_outs)
    return codes, Spread(imputed, marked, mean, scale, width, bool(encoder.sparse_output_))


def _positions(first: int, count: int, before: int, coded: Any) -> np.ndarray:
    """Which column of the matrix is set by the `count` that begin at `first` of a one-hot encoder's; -1 where none is."""
    own = coded[:, first : first + count].toarray()
    return np.where(own.any(axis=1), own.argmax(axis=1) + first + before, -1).astype("float64")


def _codes(encoder: Any, at: int, features: Features, read: Callable[[Any], np.ndarray]) -> Codes:
    """Ask the encoder about every category of one column; `read` takes what it says of that column from its answer."""
    import pandas as pd

    categories = [c for c in encoder.categories_[at] if isinstance(c, str)]
    if others := [c for c in encoder.categories_[at] if not isinstance(c, str) and c == c and c is not None]:
        raise NoPlan(f"its encoder knows categories that are no text, such as {others[0]!r}")
    asked = [*categories, np.nan, _unheard_of(categories)]
    rows: np.ndarray = np.full((len(asked), len(features.categorical)), np.nan, dtype=object)
    rows[:, at] = asked
    frame = pd.DataFrame(rows, columns=list(features.categorical), dtype=object)
    *known, null, unknown = read(encoder.transform(frame)).tolist()
    return Codes(dict(zip(categories, known, strict=True)), null, unknown)


def _unheard_of(categories: Iterable[str]) -> str:
    """A text that is none of the categories."""
    return "?" + max(categories, key=len, default="")
