"""The columns that are compared and how their values are read: NumPy float64 for numbers, str for text."""

from typing import TYPE_CHECKING

import numpy as np

from configs.monitoring import Method
from configs.schema import ModelConfig

if TYPE_CHECKING:
    import pandas as pd

PREDICTION = "prediction"


def methods(config: ModelConfig) -> dict[str, Method]:
    """Every compared column's statistic: the features, and the prediction."""
    every = dict.fromkeys((*config.features.numeric, PREDICTION, *config.features.categorical))
    words = texts(config)
    return {c: config.monitoring.categorical if c in words else config.monitoring.numeric for c in every}


def texts(config: ModelConfig) -> tuple[str, ...]:
    """The columns that are text: categorical features, and the prediction where it is a class."""
    return (*config.features.categorical, *((PREDICTION,) if config.target.kind == "multiclass" else ()))


def numbers_of(values: "pd.Series") -> tuple[np.ndarray, np.ndarray]:
    """A column as float64, and which of its values were there but are no number (they come out as NaN)."""
    import pandas as pd

    if values.dtype.kind in "fiub":
        return values.to_numpy(dtype="float64"), np.zeros(len(values), bool)
    if values.dtype.kind == "M" or isinstance(values.dtype, pd.DatetimeTZDtype):
        seconds = values.astype("int64").to_numpy() / _ticks(values)
        return np.where(values.isna(), np.nan, seconds), np.zeros(len(values), bool)
    found = pd.to_numeric(values.astype(object), errors="coerce").to_numpy(dtype="float64")
    return found, np.isnan(found) & values.notna().to_numpy()


def _ticks(values: "pd.Series") -> float:
    """Ticks a second of a datetime column."""
    unit = getattr(values.dtype, "unit", None) or np.datetime_data(values.dtype)[0]
    return {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[str(unit)]


def texts_of(values: "pd.Series") -> np.ndarray:
    """A column as an object array of str, with None for null."""
    held = values.astype(object)
    return held.map(str, na_action="ignore").where(held.notna(), None).to_numpy(dtype=object)


def tidy(frame: "pd.DataFrame", names: tuple[str, ...], words: tuple[str, ...]) -> "pd.DataFrame":
    """Some columns as float64 and object, which is all that Evidently compares without leaving some out unsaid.

    A column that is not there, an infinity and what is no number become null.
    """
    import pandas as pd

    def one(name: str) -> np.ndarray:
        if name not in frame:
            return np.full(len(frame), None if name in words else np.nan, object if name in words else "float64")
        if name in words:
            return texts_of(frame[name])
        found, _ = numbers_of(frame[name])
        return np.where(np.isfinite(found), found, np.nan)

    return pd.DataFrame({name: one(name) for name in names}, index=frame.index)
