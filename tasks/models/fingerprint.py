"""Digests of fitted models and of rows, independent of the files that hold them.

Files of the same model differ, since a skops file contains timestamps. So a model's digest covers its complete state in memory: its
class, and every attribute of it and of all objects in it. Whatever pickle would store counts.
"""

import copyreg
import hashlib
import json
import sys
from collections.abc import Callable
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.models.old_fingerprint import old_model_digest
from tasks.storage.files import digest_bytes, digest_json

if TYPE_CHECKING:
    import pandas as pd

SCHEME = "2-"
"""Prefix of the digests of this scheme. Those of the first scheme have none."""
TRANSIENT = ("n_jobs", "n_threads", "verbose", "_sklearn_version")
"""Attributes that do not influence predictions, as long as they are plain values."""
NULL = np.uint64(2**64 - 1)
"""The hash that pandas gives to null in a column of strings."""


def model_digest(model: Any, like: str = "") -> str:
    """Return a digest of a model's complete state: "2-" and the SHA-256 of its canonical JSON.

    Args:
        like: A digest to compare with. If it is of the first scheme, so is the result.
    """
    if like and not like.startswith(SCHEME):
        return old_model_digest(model)
    return SCHEME + digest_json(_canonical(model))


def same_scheme(digest: str, other: str) -> bool:
    """Return whether two digests can be compared: the same model has different digests in different schemes."""
    return digest.startswith(SCHEME) == other.startswith(SCHEME)


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


def _canonical(value: Any, outer: tuple[int, ...] = ()) -> Any:
    """Convert any value to JSON types, so that different values differ. `outer` has the ids of the objects that contain it."""
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if id(value) in outer:
        return ["outer object", outer.index(id(value))]
    inner = partial(_canonical, outer=(*outer, id(value)))
    if kind in (float, complex):
        return [kind.__name__, repr(value)]
    if kind in (bytes, bytearray):
        return [kind.__name__, digest_bytes(value)]
    if kind in (list, tuple):
        return [kind.__name__, *map(inner, value)]
    if kind in (set, frozenset):
        return [kind.__name__, *sorted(digest_json(inner(part)) for part in value)]
    if kind is dict:
        return ["dict", *([inner(key), inner(part)] for key, part in value.items())]
    if kind is np.ndarray or isinstance(value, np.generic):
        return [_name(kind), *_array(np.asarray(value), inner)]
    return _object(value, inner)


def _array(values: np.ndarray, inner: Callable[[Any], Any]) -> list[Any]:
    """Convert an array. A structured array is converted field by field, since its padding bytes are undefined."""
    if values.dtype.names:
        return [[name, *_array(np.ascontiguousarray(values[name]), inner)] for name in values.dtype.names]
    columns_first = values.flags.f_contiguous and not values.flags.c_contiguous  # sums may be rounded in another order
    is_object = values.dtype == object
    content = inner(values.ravel().tolist()) if is_object else digest_bytes(np.ascontiguousarray(values).tobytes())
    return [values.dtype.str, list(values.shape), columns_first, content]


def _object(value: Any, inner: Callable[[Any], Any]) -> list[Any]:
    """Convert an object by the class, arguments and state with which pickle would store it."""
    kind = type(value)
    if isinstance(value, type) or (kind is FunctionType and _is_importable(value)):
        return ["import", _name(value)]
    if kind is FunctionType:
        parts = (value.__code__, value.__defaults__, value.__kwdefaults__, value.__closure__, vars(value))
        return ["function", *map(inner, parts)]
    if kind is CodeType:
        return ["code", *map(inner, (value.co_code, value.co_consts, value.co_names))]
    if kind is CellType:
        return ["cell", inner(value.cell_contents)]
    if kind is MethodType:
        return ["method", inner(value.__self__), inner(value.__func__)]
    if kind is partial:
        return [_name(kind), *map(inner, (value.func, value.args, value.keywords, vars(value)))]
    if isinstance(value, np.random.Generator):
        return [_name(kind), inner(value.bit_generator.state)]
    if isinstance(value, np.random.RandomState):
        return [_name(kind), inner(value.get_state(legacy=False))]
    if hasattr(value, "save_raw"):
        return [_name(kind), *map(inner, _booster(value))]
    reducer: Callable[[Any], Any] = copyreg.dispatch_table.get(kind, lambda same: same.__reduce_ex__(4))
    reduced = reducer(value)
    if isinstance(reduced, str):
        return ["import", f"{getattr(value, '__module__', '')}.{reduced}"]
    make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    if state is None or isinstance(state, dict):  # with the attributes that pickle leaves out
        state = _attributes(getattr(value, "__dict__", {}) | (state or {}))
    return [_name(kind), *map(inner, (make, arguments, state, list(items or ()), list(pairs or ())))]


def _attributes(state: dict[str, Any]) -> dict[str, Any]:
    """Return attributes by name, without those that do not influence predictions."""
    plain = (type(None), bool, int, str)
    return {k: v for k, v in sorted(state.items()) if not (k in TRANSIENT and type(v) in plain)}


def _booster(booster: Any) -> tuple[Any, ...]:
    """Return what an XGBoost booster consists of: its model, its configuration without threads and verbosity, its Python attributes."""
    config = json.loads(booster.save_config())
    for name in ("n_jobs", "nthread", "verbosity"):
        config["learner"]["generic_param"].pop(name, None)
    attributes = {name: value for name, value in vars(booster).items() if name != "handle"}
    return bytes(booster.save_raw("ubj")), config, _attributes(attributes)


def _name(kind: Any) -> str:
    """Return the full name of a class or function."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_importable(function: FunctionType) -> bool:
    """Return whether a function is the one that its module has under its name, as pickle requires."""
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function
