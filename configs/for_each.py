"""Schema of `for_each:` in model.yaml: one file, and a model of it for each value of a column."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from configs.base import LONGEST_NAME, Duration, Strict, span_text

QUERIES = ("query", "fingerprint")
"""Keys of a table with SQL for its database, in which the parameter is replaced too."""
SELECTING = ("path", "delta", "query")
"""Keys of a table that decide which rows it has."""
LONGEST_SPREAD = timedelta(hours=12)
"""All runs of a day begin on that day."""
NOT_IN_PATHS = re.compile(r"[/\\*?%\[\]{}]")
"""Characters of a value that would change which files a path matches."""


def plain_value(value: Any) -> Any:
    """Refuse what YAML reads as something else than text or a whole number, such as an unquoted no or 1.5."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("a value is text or a whole number; YAML reads yes, no, 1.5 and dates as others: quote it")
    return value


class ForEach(Strict):
    """Makes one model for each value of a column: `store-a`, `store-b` ... of the file of `store`."""

    column: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="column of the values. A flat `source.file` has it, SQL has the parameter `$<column>` for the model's value, and "
        "`{<column>}` in a path stands for it",
    )
    values: tuple[Annotated[str | int, BeforeValidator(plain_value)], ...] = Field(
        min_length=1,
        description="text or whole numbers. A model's name is that of the file, a hyphen and the value, in lower case and with `_` for "
        "characters that are no letter or digit: NYC 1 of `store` is `store-nyc_1`",
    )
    spread: Duration = Field(
        timedelta(hours=1),
        description="time over which the schedules of the models are spread, at most 12h, each at a moment that follows from its name; "
        "of hourly partitions at most half an hour",
    )

    @model_validator(mode="after")
    def _values_have_names(self) -> Self:
        forms = [name_part(value) for value in self.values]
        for value, form in zip(self.values, forms, strict=True):
            if not form:
                raise ValueError(f"values: {value!r} has no letter or digit for the model's name; leave it out")
        for form in forms:
            same = [str(value) for value, other in zip(self.values, forms, strict=True) if other == form]
            if len(same) > 1:
                raise ValueError(
                    f"values: {' and '.join(same)} give the same model name ({form}); rename or leave out one"
                )
        if self.spread > LONGEST_SPREAD:
            raise ValueError(f"spread: {span_text(self.spread)} is longer than {span_text(LONGEST_SPREAD)}; shorten it")
        if self.column.lower() in ("start", "end"):
            raise ValueError(f"column: ${self.column} is the range of a partition in SQL; give the column another name")
        return self

    def names(self, fleet: str) -> dict[str, str | int]:
        """Return the values by the name of their model.

        Raises:
            ValueError: A name is too long.
        """
        named = {f"{fleet}-{name_part(value)}": value for value in self.values}
        if long := [name for name in named if len(name) > LONGEST_NAME]:
            raise ValueError(
                f"values: {long[0]!r} is longer than {LONGEST_NAME} characters; shorten the name or the value"
            )
        return named

    def of(self, value: str | int) -> "ForEach":
        """Return it with one value, as the config of its model has it."""
        return self.model_copy(update={"values": (value,)})


def name_part(value: str | int) -> str:
    """Return a value as the end of a model's name: `nyc_1` for `NYC-1`, `koln` for `Köln`; empty if nothing can be in a name."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", str(value)) if not unicodedata.combining(c))
    return re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")


def value_literal(value: str | int) -> str:
    """Return a value as a literal for SQL."""
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def render_value(sql: str, column: str, value: str | int) -> str:
    """Return SQL with the literal in place of the parameter `$<column>`, outside of texts, names and comments."""
    token = re.compile(
        rf"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$(?P<name>{re.escape(column)})\b""",
        re.DOTALL | re.IGNORECASE,
    )
    return token.sub(lambda match: value_literal(value) if match["name"] else match[0], sql)


def fill_source(source: Any, column: str, value: str | int) -> Any:
    """Return the section `source` with a value in its paths and in the queries for databases.

    Raises:
        ValueError: The value cannot be part of a path.
    """
    if not isinstance(source, Mapping):
        return source
    return {key: _filled(key, content, column, value) for key, content in source.items()}


def selects(before: Any, after: Any) -> bool:
    """Whether the value selects the rows of every table: by a path, a Delta table or a query, and not only by a fingerprint.

    Args:
        before: The section `source` as in the file.
        after: The same with the value in it, see `fill_source`.
    """
    pairs = list(zip(_tables(before), _tables(after), strict=True))
    return bool(pairs) and all(any(own.get(key) != filled.get(key) for key in SELECTING) for own, filled in pairs)


def _tables(source: Any) -> list[Mapping[str, Any]]:
    tables = source.get("tables") if isinstance(source, Mapping) else None
    listed = (
        [source.get("file"), *(tables.values() if isinstance(tables, Mapping) else ())]
        if isinstance(source, Mapping)
        else []
    )
    return [table for table in listed if isinstance(table, Mapping)]


def _filled(key: str, content: Any, column: str, value: str | int) -> Any:
    if isinstance(content, str) and key in QUERIES:
        return render_value(content, column, value)
    if isinstance(content, str) and key in ("path", "delta") and f"{{{column}}}" in content:
        if NOT_IN_PATHS.search(str(value)):
            raise ValueError(
                f"values: {value!r} cannot be in a path, but {content} has {{{column}}}; use ${column} in SQL"
            )
        return content.replace(f"{{{column}}}", str(value))
    return fill_source(content, column, value)
