"""Which keys of model.yaml a variant or a replay may replace.

Who may start a run can give an `override`, and need not be trusted with the worker's files. So an override cannot name a file, SQL or code.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from configs.errors import ConfigError

EVALUATION_KEYS = ("training", "gate", "promotion", "monitoring", "retraining", "replay")
"""Keys that do not change which rows a partition has."""
ROW_KEYS: Mapping[str, tuple[str, ...]] = {
    "partition": ("every", "timezone"),
    "target": ("loss", "delay", "max_bad_share"),
    "features": ("retired",),
}
"""Keys that may change the rows, with those below them that can be replaced."""
ARGUMENTS = (
    *("column", "column_A", "column_B", "column_list", "value", "value_set"),
    *("min_value", "max_value", "strict_min", "strict_max", "mostly"),
)
"""Arguments of an expectation that are values. Others are evaluated, such as `row_condition`, which pandas runs as code."""
ALLOWED = (*EVALUATION_KEYS, *(f"{key}.{name}" for key, names in ROW_KEYS.items() for name in names), "expectations")


def require_allowed(override: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    """Refuse an override with a key that a variant or a replay does not need.

    Args:
        override: The override.
        content: The content of model.yaml. Its own expectations are allowed, whatever their arguments.

    Raises:
        ConfigError: A key is not in `ALLOWED`, or an expectation that is not in model.yaml has an argument that is not in `ARGUMENTS`.
    """
    for key, value in override.items():
        if key in ROW_KEYS:
            names = value if isinstance(value, Mapping) else [""]
            for name in names:
                if name not in ROW_KEYS[key]:
                    raise _refused(f"{key}.{name}".rstrip("."), ALLOWED)
        elif key == "expectations":
            _require_values(value, content.get(key) or ())
        elif key not in EVALUATION_KEYS:
            raise _refused(_path(key, value), ALLOWED)


def _require_values(expectations: Any, own: Sequence[Any]) -> None:
    """Refuse expectations with arguments that are more than values."""
    for at, expectation in enumerate(expectations if isinstance(expectations, Sequence) else ()):
        arguments = expectation.get("kwargs") if isinstance(expectation, Mapping) else None
        for name in arguments if isinstance(arguments, Mapping) and expectation not in own else ():
            if name not in ARGUMENTS:
                raise _refused(f"expectations[{at}].kwargs.{name}", ARGUMENTS)


def _path(key: str, value: Any) -> str:
    """The path of the first value under a key, such as `source.tables.flights.path`."""
    while isinstance(value, Mapping) and value:
        name, value = next(iter(value.items()))
        key = f"{key}.{name}"
    return key


def _refused(key: str, allowed: Sequence[str]) -> ConfigError:
    closest = difflib.get_close_matches(key, allowed, n=1)
    hint = f"; did you mean {closest[0]!r}?" if closest else ""
    return ConfigError(
        f"override: {key}: a backfill or replay cannot replace this key{hint}. The allowed keys are {', '.join(allowed)}. "
        f"Remove it from the override, or change model.yaml"
    )
