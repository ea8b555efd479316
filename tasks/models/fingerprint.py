"""Digests of fitted models and of rows, independent of the files that hold them.

Files of the same model differ: a skops file contains timestamps, and XGBoost's JSON contains its library's version.
"""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.storage.files import digest_bytes, digest_json

if TYPE_CHECKING:
    import pandas as pd

TRANSIENT = ("n_jobs", "verbose", "_sklearn_version")
"""Attributes that do not influence predictions."""
NULL = np.uint64(2**64 - 1)
"""The hash that pandas gives to null in a column of strings."""


def model_digest(model: Any) -> str:
    """Return the SHA-256 of the canonical JSON of a model's parameters and fitted state; a booster counts by its raw bytes."""
    return digest_json(_state(model))


def frame_digest(frame: "pd.DataFrame") -> str:
    """Return the SHA-256 of a frame's column names and values, in the order of its rows, independent of how strings are stored."""
    import pandas as pd

    digest = hashlib.sha256(",".join(map(str, frame.columns)).encode())
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, pd.StringDtype):  # hash each distinct string once
            positions, distinct = column.factorize()
            hashes = pd.util.hash_array(distinct.to_numpy(dtype=object), categorize=False)
            digest.update(np.append(hashes, NULL)[positions].tobytes())
        else:
            digest.update(pd.util.hash_array(_plain(column)).tobytes())
    return digest.hexdigest()


def _plain(column: "pd.Series") -> np.ndarray:
    """Return values as a NumPy array: times as nanoseconds since 1970 in UTC, other types than numbers as objects with None for null."""
    kind = str(column.dtype)
    if "datetime" in kind:
        return column.dt.tz_convert("UTC").dt.as_unit("ns").astype("int64").to_numpy()
    if kind in ("float64", "int64", "bool"):
        return column.to_numpy()
    return column.astype(object).where(column.notna(), None).to_numpy(dtype=object)


def _state(value: Any) -> Any:
    """Convert any value in a fitted estimator's state to JSON types."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | np.generic):
        return repr(value)
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, dict):
        return {str(k): _state(v) for k, v in sorted(value.items(), key=lambda item: str(item[0]))}
    if isinstance(value, list | tuple | set):
        return [_state(v) for v in (sorted(value, key=str) if isinstance(value, set) else value)]
    if isinstance(value, type) or (callable(value) and not hasattr(value, "__dict__")):
        return getattr(value, "__qualname__", type(value).__name__)
    if hasattr(value, "get_booster"):
        booster = digest_bytes(bytes(value.get_booster().save_raw("ubj")))
        return {
            "class": type(value).__name__,
            "parameters": _state(dict(_relevant(value.get_params()))),
            "booster": booster,
        }
    return {"class": type(value).__name__, "state": _state(dict(_relevant(_attributes(value))))}


def _array(value: np.ndarray) -> Any:
    """Convert an array. A structured array is converted field by field, since its padding bytes are undefined."""
    if value.dtype.names:
        return {name: _array(np.ascontiguousarray(value[name])) for name in value.dtype.names}
    if value.dtype == object:
        return {"shape": list(value.shape), "values": _state(value.ravel().tolist())}
    content = digest_bytes(np.ascontiguousarray(value).tobytes())
    return {"dtype": str(value.dtype), "shape": list(value.shape), "bytes": content}


def _attributes(value: Any) -> dict[str, Any]:
    """Return the state with which an object would be pickled."""
    if type(value).__name__ == "RandomState":
        return {"state": list(value.get_state())}
    state = value.__getstate__() if hasattr(value, "__getstate__") else vars(value)
    if isinstance(state, tuple):
        state = {str(at): part for at, part in enumerate(state)}
    return state if isinstance(state, dict) else {"value": str(type(value))}


def _relevant(state: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in state.items() if name not in TRANSIENT)
