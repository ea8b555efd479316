"""The columns that are compared, and their values as NumPy arrays: float64 for numbers, str for text."""

from typing import TYPE_CHECKING

import numpy as np

from configs.monitoring import Method
from configs.schema import ModelConfig

if TYPE_CHECKING:
    import pandas as pd

PREDICTION = "prediction"


def methods(config: ModelConfig) -> dict[str, Method]:
    """The statistic of every compared column: the features and the prediction."""
    names = dict.fromkeys((*config.features.numeric, PREDICTION, *config.features.categorical))
    text = text_columns(config)
    return {c: config.monitoring.categorical if c in text else config.monitoring.numeric for c in names}


def text_columns(config: ModelConfig) -> tuple[str, ...]:
    """The columns that are text: categorical features, and the prediction if it is a class."""
    return (*config.features.categorical, *((PREDICTION,) if config.target.kind == "multiclass" else ()))


def to_numbers(values: "pd.Series") -> tuple[np.ndarray, np.ndarray]:
    """Convert a column to float64. Datetimes become seconds since 1970.

    Returns:
        The numbers, NaN where there is none, and a bool mask of the values that are neither null nor a number.
    """
    import pandas as pd

    if values.dtype.kind in "fiub":
        return values.to_numpy(dtype="float64"), np.zeros(len(values), bool)
    if values.dtype.kind == "M" or isinstance(values.dtype, pd.DatetimeTZDtype):
        seconds = values.astype("int64").to_numpy() / _ticks_per_second(values)
        return np.where(values.isna(), np.nan, seconds), np.zeros(len(values), bool)
    numbers = pd.to_numeric(values.astype(object), errors="coerce").to_numpy(dtype="float64")
    return numbers, np.isnan(numbers) & values.notna().to_numpy()


def _ticks_per_second(values: "pd.Series") -> float:
    unit = getattr(values.dtype, "unit", None) or np.datetime_data(values.dtype)[0]
    return {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[str(unit)]


def to_text(values: "pd.Series") -> np.ndarray:
    """Convert a column to an object array of str, with None for null."""
    objects = values.astype(object)
    return objects.map(str, na_action="ignore").where(objects.notna(), None).to_numpy(dtype=object)


def cast_columns(frame: "pd.DataFrame", names: tuple[str, ...], text: tuple[str, ...]) -> "pd.DataFrame":
    """Cast columns to float64, or to object if they are in `text`. Evidently ignores columns of other types without a message.

    A missing column, an infinity, and a value that is not a number become null.
    """
    import pandas as pd

    def cast(name: str) -> np.ndarray:
        if name not in frame:
            return np.full(len(frame), None if name in text else np.nan, object if name in text else "float64")
        if name in text:
            return to_text(frame[name])
        numbers, _ = to_numbers(frame[name])
        return np.where(np.isfinite(numbers), numbers, np.nan)

    return pd.DataFrame({name: cast(name) for name in names}, index=frame.index)
