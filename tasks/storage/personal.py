"""Values of columns that model.yaml declares as `personal`: outside of rows in the lake, only their keyed hash is shown.

Every message, report, record and page takes such values from here. The hash is an HMAC with a secret key: `EVERGREEN_PERSONAL_KEY`, or else
a file in the home that the first use creates with mode 0600. Equal values have equal hashes as long as the key is the same.
"""

import functools
import hmac
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.schema import ModelConfig
from configs.settings import load_settings
from tasks.storage.folders import make_folder

if TYPE_CHECKING:
    import pandas as pd

VARIABLE, FILE = "EVERGREEN_PERSONAL_KEY", "personal.key"
PREFIX = "hash:"
"""Marks a hash in texts."""
DIGITS = 16
"""Hexadecimal digits of a hash: 64 bits."""


def hashed(value: Any) -> str:
    """The keyed hash of a value. Numbers are hashed by their text, so 7, 7.0 and "7" have the same hash."""
    digest = hmac.new(
        _key(os.environ.get(VARIABLE, ""), os.environ.get("EVERGREEN_HOME", "")), _text(value).encode(), "sha256"
    ).hexdigest()
    return f"{PREFIX}{digest[:DIGITS]}"


def shown(config: ModelConfig, column: str, value: Any) -> Any:
    """The value of a column for a message or a report: the value itself, or its hash if the column is personal. Nulls stay."""
    return hashed(value) if column in config.personal and not _is_null(value) else value


def hider(config: ModelConfig) -> Callable[[str, Any], Any]:
    """`shown` of one model, as a function of column and value."""
    return functools.partial(shown, config)


def hide_categories(config: ModelConfig, frame: "pd.DataFrame") -> "pd.DataFrame":
    """The rows with hashes instead of the values of personal categories and groups.

    Other columns stay: reports do not show keys, and the caller leaves out personal numbers.
    """
    names = [
        name for name in (*config.features.categorical, *config.groups) if name in config.personal and name in frame
    ]
    hashes = {name: {value: hashed(value) for value in frame[name].dropna().unique()} for name in names}
    return frame.assign(**{name: frame[name].astype(object).map(hashes[name]) for name in names})


def error_text(config: ModelConfig, error: Exception) -> str:
    """Class and message of a library's error. Only the class if the model has personal columns: the message may quote any value."""
    name = type(error).__name__
    return f"{name} (its message is not shown: personal data)" if config.personal else f"{name}: {error}"


def hash_inputs(config: ModelConfig) -> list[Any]:
    """What a step's output depends on if it contains hashes: the personal columns and the key. Empty without such columns."""
    return [sorted(config.personal), hashed("")] if config.personal else []


def _is_null(value: Any) -> bool:
    import pandas as pd

    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _text(value: Any) -> str:
    """Text of a value that is the same for equal numbers of different types."""
    if isinstance(value, str | bytes):
        return value if isinstance(value, str) else value.decode(errors="replace")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return str(value)
    return str(int(number)) if number.is_integer() else repr(number)


@functools.lru_cache(maxsize=8)
def _key(variable: str, home: str) -> bytes:
    """The secret key. `variable` is that of the environment, `home` only a key of the cache."""
    if variable:
        return variable.encode()
    settings = load_settings()
    path = make_folder(settings.path(settings.home)) / FILE
    if not path.is_file():
        _create(path)
    return path.read_bytes().strip()


def _create(path: Path) -> None:
    """Write a new key with mode 0600, unless another process has written one in the meantime."""
    file, draft = tempfile.mkstemp(prefix=".personal-", dir=path.parent)
    try:
        with os.fdopen(file, "w") as out:
            out.write(secrets.token_hex(32) + "\n")
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        Path(draft).unlink()
