"""Lookup tables of a fitted encoder: the code of each category, and how numbers are imputed and scaled."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.features import Features

if TYPE_CHECKING:
    import pandas as pd


class NoPredictionPlan(Exception):
    """A model has a step that no plan supports, so the model itself is used. Not an error; the message names the step."""


@dataclass(frozen=True)
class CategoryCodes:
    """The codes of one column's categories, of null and of unknown categories. For one-hot encoding a code is a column's position."""

    by_category: Mapping[str, float]
    null: float
    unknown: float

    def encode(self, values: "pd.Series | list[Any]") -> np.ndarray:
        """Encode values as float64 of shape (rows,). A value that is not a string counts as an unknown category."""
        if isinstance(values, list):
            codes = list(map(self.by_category.get, values))
            if None in codes:
                codes = [self.null if value is None else self._code(value) for value in values]
            return np.array(codes)
        import pandas as pd

        positions, distinct = pd.factorize(values)
        table = [self._code(value) for value in distinct]
        return np.array([*table, self.null])[positions]  # null has position -1

    def _code(self, value: Any) -> float:
        return self.by_category.get(value, self.unknown) if isinstance(value, str) else self.unknown


@dataclass(frozen=True)
class LinearInputs:
    """The inputs of linear models: imputed and scaled numbers, missing-value indicators, and a column for each category."""

    imputed: np.ndarray
    indicators: np.ndarray
    """Positions of the numbers that have a missing-value indicator."""
    mean: np.ndarray
    scale: np.ndarray
    width: int
    sparse: bool

    def matrix(self, numbers: np.ndarray, positions: np.ndarray) -> Any:
        """Build the estimator's inputs.

        Args:
            numbers: Shape (rows, numbers), NaN for null.
            positions: Shape (rows, categorical columns): position of the category's column, -1 for none.

        Returns:
            float64 of shape (rows, width), sparse if the encoder's output is sparse.
        """
        missing = np.isnan(numbers)
        complete = np.where(missing, self.imputed, numbers)
        scaled = np.hstack([complete, missing[:, self.indicators].astype("float64")])
        scaled -= self.mean
        scaled /= self.scale
        inputs = np.zeros((len(numbers), self.width))
        inputs[:, : scaled.shape[1]] = scaled
        rows, columns = np.nonzero(positions >= 0)
        inputs[rows, positions[rows, columns].astype("int64")] = 1.0
        if not self.sparse:
            return inputs
        from scipy.sparse import csr_matrix

        return csr_matrix(inputs)


def encoding_tables(encoder: Any, features: Features) -> tuple[list[CategoryCodes], LinearInputs | None]:
    """Build the lookup tables of a fitted encoder.

    Returns:
        Codes of each categorical column, and the transformation of numbers if the encoder changes them.

    Raises:
        NoPredictionPlan: The encoder has a step that the tables do not cover.
    """
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder

    parts = {name: part for name, part, _ in encoder.transformers_}
    number, category = parts.get("number"), parts.get("category")
    if (features.categorical and isinstance(category, OneHotEncoder)) or _imputes_and_scales(number):
        return _linear_tables(encoder, number, category, features)
    if not (isinstance(number, FunctionTransformer) and number.func is None) and number not in ("passthrough", None):
        raise NoPredictionPlan(f"its encoder applies {type(number).__name__} to numbers")
    if not features.categorical:
        return [], None
    if not isinstance(category, OrdinalEncoder):
        raise NoPredictionPlan(f"its encoder applies {type(category).__name__} to categories")
    return [
        _category_codes(category, at, features, lambda coded, at=at: np.asarray(coded)[:, at])  # type: ignore[misc]
        for at in range(len(category.categories_))
    ], None


def _imputes_and_scales(number: Any) -> bool:
    """Return whether numbers are imputed by a constant a column and then scaled, as for our linear models."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    return (
        isinstance(number, Pipeline)
        and list(number.named_steps) == ["impute", "scale"]
        and isinstance(number["impute"], SimpleImputer)
        and isinstance(number["scale"], StandardScaler)
    )


def _linear_tables(
    encoder: Any, number: Any, category: Any, features: Features
) -> tuple[list[CategoryCodes], LinearInputs]:
    """Build the tables of imputation, scaling and one-hot encoding."""
    from sklearn.preprocessing import OneHotEncoder

    empty = np.empty(0)
    imputed, mean, scale = empty, empty, empty
    indicators: np.ndarray = empty.astype("int64")
    if features.numeric:
        if not _imputes_and_scales(number):
            raise NoPredictionPlan(f"its encoder applies {type(number).__name__} to numbers")
        imputed, mean, scale = number["impute"].statistics_, number["scale"].mean_, number["scale"].scale_
        indicator = number["impute"].indicator_
        indicators = indicator.features_ if indicator is not None else indicators
    codes, width = [], len(imputed) + len(indicators)
    if features.categorical:
        if not isinstance(category, OneHotEncoder):
            raise NoPredictionPlan(f"its encoder applies {type(category).__name__} to categories")
        for at, count in enumerate(category._n_features_outs):
            read = partial(_positions, sum(category._n_features_outs[:at]), count, width)
            codes.append(_category_codes(category, at, features, read))
        width += sum(category._n_features_outs)
    return codes, LinearInputs(imputed, indicators, mean, scale, width, bool(encoder.sparse_output_))


def _positions(first: int, count: int, offset: int, encoded: Any) -> np.ndarray:
    """Find which of `count` one-hot columns from `first` on is set.

    Returns:
        float64 of shape (rows,): the column's position in the matrix, where one-hot columns start at `offset`; -1 if none is set.
    """
    columns = encoded[:, first : first + count].toarray()
    return np.where(columns.any(axis=1), columns.argmax(axis=1) + first + offset, -1).astype("float64")


def _category_codes(encoder: Any, at: int, features: Features, read: Callable[[Any], np.ndarray]) -> CategoryCodes:
    """Encode every category of one column, null and an unknown category; `read` takes the column's codes from the encoder's output."""
    import pandas as pd

    categories = [c for c in encoder.categories_[at] if isinstance(c, str)]
    if others := [c for c in encoder.categories_[at] if not isinstance(c, str) and c == c and c is not None]:
        raise NoPredictionPlan(f"its encoder has categories that are not strings, such as {others[0]!r}")
    values = [*categories, np.nan, _unseen_category(categories)]
    rows: np.ndarray = np.full((len(values), len(features.categorical)), np.nan, dtype=object)
    rows[:, at] = values
    frame = pd.DataFrame(rows, columns=list(features.categorical), dtype=object)
    *codes, null, unknown = read(encoder.transform(frame)).tolist()
    return CategoryCodes(dict(zip(categories, codes, strict=True)), null, unknown)


def _unseen_category(categories: Iterable[str]) -> str:
    """Return a string that is not one of the categories."""
    return "?" + max(categories, key=len, default="")
