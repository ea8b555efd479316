"""Which values the ledger can store: the same ones on SQLite and on PostgreSQL, checked before the database is asked."""

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

import sqlalchemy as sa

from configs.base import UNSTORABLE, to_utc
from tasks.errors import NotStorable
from tasks.ledger.tables import Moment

LARGEST_INTEGER = 2**31 - 1


def require_storable(table: sa.Table, row: Mapping[str, Any]) -> None:
    """Check the values of some columns of a row. SQLite alone would cut no text that is too long, and would store NaN.

    Raises:
        NotStorable: a value is missing, too long, too large or of another type, or has a character that cannot be stored.
    """
    for name, value in row.items():
        for path, problem in _problems(table.c[name], value):
            raise NotStorable(
                f"{table.name}.{name}{path} {problem}. Nothing was written. Change the value and repeat the call"
            )


def storable(value: Any) -> Any:
    r"""Return a value that was measured or read, with null for NaN, and `\x00` and the like for characters that cannot be stored."""
    if isinstance(value, str):
        return UNSTORABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), value)
    if isinstance(value, Mapping):
        return {key: storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _problems(column: sa.Column[Any], value: Any) -> Iterator[tuple[str, str]]:
    """Yield a path within the value and what is wrong there."""
    kind = column.type
    if isinstance(kind, sa.JSON):
        yield from _json_problems(value, "")
    elif value is None:
        if not column.nullable:
            yield "", "has no value"
    elif isinstance(kind, Moment):
        try:
            to_utc(value)
        except ValueError as error:
            yield "", f"is {error}"
    elif isinstance(kind, sa.String):
        yield from _text_problems(value, kind.length) if isinstance(value, str) else [("", f"is {value!r}, not a text")]
    elif isinstance(kind, sa.Integer) and not abs(value) <= LARGEST_INTEGER:
        yield "", f"is {value}, and at most {LARGEST_INTEGER} can be stored"
    elif isinstance(kind, sa.Float) and not isfinite(value):
        yield "", f"is {value}, which is no number"


def _text_problems(value: str, length: int | None = None) -> Iterator[tuple[str, str]]:
    if length and len(value) > length:
        yield "", f"has {len(value)} characters, and at most {length} can be stored"
    if match := UNSTORABLE.search(value):
        yield "", f"has the character U+{ord(match[0]):04X}, which cannot be stored, at position {match.start()}"


def _json_problems(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the problems of a JSON value, with paths such as `.gain.lower`."""
    if isinstance(value, str):
        yield from ((path, problem) for _, problem in _text_problems(value))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from ((path, f"has a key that {problem}") for _, problem in _text_problems(str(key)))
            yield from _json_problems(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for at, item in enumerate(value):
            yield from _json_problems(item, f"{path}[{at}]")
    elif isinstance(value, float):
        if not isfinite(value):
            yield path, f"is {value}, which JSON does not have"
    elif not isinstance(value, int | None):
        yield path, f"is a {type(value).__name__}, which JSON does not have"
