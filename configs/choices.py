"""Types of flow parameters. The Prefect UI builds its forms from them, with the existing models as choices."""

import fnmatch
import re
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema

from configs.base import UNSTORABLE, to_utc
from configs.load import model_names


class _Choice:
    """Adds the models of this repository to the JSON schema as choices."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "type": "string", "enum": model_names()}


def _exists(name: str) -> str:
    names = model_names()
    if name not in names:
        raise ValueError(f"there is no model {name!r}; there are: {', '.join(names) or 'none yet'}")
    return name


class _OptionalChoice:
    """The same for a parameter that may be left out. The forms of the Prefect UI then send null."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "enum": model_names()}, {"type": "null"}]}


def select_models(patterns: str) -> list[str]:
    """Return the models that match patterns such as `store-*` or `store-a,store-b`, sorted.

    Raises:
        ValueError: A pattern matches no model.
    """
    names, selected = model_names(), set[str]()
    for pattern in (part.strip() for part in patterns.split(",") if part.strip()):
        if not (matches := fnmatch.filter(names, pattern)):
            raise ValueError(f"no model matches {pattern!r}; there are: {', '.join(names) or 'none yet'}")
        selected.update(matches)
    return sorted(selected)


def _selection(patterns: str) -> str:
    select_models(patterns)
    return patterns


def _version_number(value: Any) -> str:
    """Return a version as MLflow writes it: `2` for `02` and ` 2`."""
    if (match := re.fullmatch(r"0*([1-9][0-9]{0,8})", str(value).strip())) is None:
        raise ValueError(f"{value!r} is no version; write its number in MLflow, such as 3")
    return match[1]


def _fact_id(text: str) -> str:
    """Return the id of a fact as the ledger writes it. Other text is left to the ledger, which does not find it."""
    with suppress(ValueError):
        return str(UUID(text.strip()))
    return text.strip()


def _storable(text: str) -> str:
    if match := UNSTORABLE.search(text):
        raise ValueError(f"the character U+{ord(match[0]):04X} at position {match.start()} cannot be stored; remove it")
    return text


def _person(name: str) -> str:
    if name.strip().casefold() in RESERVED_NAMES:
        raise ValueError(f"{name!r} is the name of what runs without a person; write who is responsible")
    return name


def _moment(moment: datetime) -> datetime:
    to_utc(moment)
    return moment


RESERVED_NAMES = ("evergreen", "evergreen serving")
"""Authors of the ledger rows that nobody has asked for."""
ModelName = Annotated[str, AfterValidator(_exists), _Choice()]
OptionalModelName = Annotated[str | None, AfterValidator(lambda name: name and _exists(name)), _OptionalChoice()]
ModelSelection = Annotated[str, AfterValidator(_selection)]
"""Patterns of model names, such as `store-*` or `store-a,store-b`; empty for none."""
NonEmpty = Annotated[str, Field(min_length=1), AfterValidator(_storable)]
PersonName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_storable), AfterValidator(_person)]
PartitionKey = Annotated[str, AfterValidator(str.strip)]
"""The name of a partition. The model's calendar checks it."""
FactId = Annotated[str, AfterValidator(_storable), AfterValidator(_fact_id)]
AsOf = Annotated[datetime, AfterValidator(_moment)]
"""A time with a time zone."""
VersionNumber = Annotated[
    str,
    BeforeValidator(_version_number),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}], "title": "Version"}),
]
"""A version number as text, as in MLflow. The command line reads `-p version=3` as a number."""
