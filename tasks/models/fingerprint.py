"""The digest of a fitted model: equal for equal models, whatever file they are kept in.

A skops file carries clock times and XGBoost's JSON its library's version, so files of the same model differ.
"""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.storage.files import digest_bytes, digest_json

if TYPE_CHECKING:
    import pandas as pd

TRANSIENT = ("n_jobs", "verbose", "_sklearn_version")
"""Attributes that do not decide a prediction."""
NULL = np.uint64(2**64 - 1)
"""What pandas makes of a null text among others."""


def model_digest(model: Any) -> str:
    """SHA-256 of the canonical JSON of a model's parameters and fitted state, and of its booster's raw bytes."""
    return digest_json(_state(model))


def frame_digest(frame: "pd.DataFrame") -> str:
    """SHA-256 over the values of a frame's rows in their order, whatever file they came from."""
    import pandas as pd

    seen = hashlib.sha256(",".join(map(str, frame.columns)).encode())
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, pd.StringDtype):  # each text once, however many rows have it
            at, found = column.factorize()
            hashes = pd.util.hash_array(found.to_numpy(dtype=object), categorize=False)
            seen.update(np.append(hashes, NULL)[at].tobytes())
        else:
            seen.update(pd.util.hash_array(_plain(column)).tobytes())
    return seen.hexdigest()


def _plain(column: "pd.Series") -> np.ndarray:
    """Values as NumPy holds them; other texts as objects, null as None, times as nanoseconds."""
    kind = str(column.dtype)
    if "datetime" in kind:
        return column.dt.tz_convert("UTC").dt.as_unit("ns").astype("int64").to_numpy()
    if kind in ("float64", "int64", "bool"):
        return column.to_numpy()
    return column.astype(object).where(column.notna(), None).to_numpy(dtype=object)


def _state(value: Any) -> Any:
    """A JSON form of anything that a fitted estimator holds."""
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
            "parameters": _state(dict(_lasting(value.get_params()))),
            "booster": booster,
        }
    return {"class": type(value).__name__, "state": _state(dict(_lasting(_attributes(value))))}


def _array(value: np.ndarray) -> Any:
    """Values of an array; a structured one field by field, since the bytes between fields are anything."""
    if value.dtype.names:
        return {name: _array(np.ascontiguousarray(value[name])) for name in value.dtype.names}
    if value.dtype == object:
        return {"shape": list(value.shape), "values": _state(value.ravel().tolist())}
    content = digest_bytes(np.ascontiguousarray(value).tobytes())
    return {"dtype": str(value.dtype), "shape": list(value.shape), "bytes": content}


def _attributes(value: Any) -> dict[str, Any]:
    """What an object would be pickled with."""
    if type(value).__name__ == "RandomState":
        return {"state": list(value.get_state())}
    state = value.__getstate__() if hasattr(value, "__getstate__") else vars(value)
    if isinstance(state, tuple):
        state = {str(at): part for at, part in enumerate(state)}
    return state if isinstance(state, dict) else {"value": str(type(value))}


def _lasting(state: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in state.items() if name not in TRANSIENT)
