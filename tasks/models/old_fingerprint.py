"""The first scheme of model digests, by which versions of v0.1 are verified. Nothing new is digested by it.

It does not cover everything that a prediction may depend on, see `tasks/models/fingerprint.py`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tasks.storage.files import digest_bytes, digest_json

TRANSIENT = ("n_jobs", "verbose", "_sklearn_version")
"""Attributes that do not influence predictions."""


def old_model_digest(model: Any) -> str:
    """Return the SHA-256 of the canonical JSON of a model's parameters and fitted state; a booster counts by its raw bytes."""
    return digest_json(_state(model))


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
