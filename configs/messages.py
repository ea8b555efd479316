"""Errors of pydantic in a model.yaml as messages with the file, the key, the value and the most similar valid key."""

import re
from typing import Any

from pydantic import BaseModel

from configs.content import Content
from configs.nearest import nearest_name
from configs.schema import ModelConfig


def explain(content: Content, error: Any) -> str:
    """Return one of pydantic's errors as a message with file, key, value and the most similar valid key."""
    keys = [str(part) for part in error["loc"]]
    where = f"{content.file_of(tuple(error['loc']))}: {'.'.join(keys) or 'the whole file'}"
    if error["type"] == "extra_forbidden":
        known = valid_keys(error["loc"][:-1])
        nearest = nearest_name(keys[-1], known)
        return f"{where}: unknown key; " + (
            f"did you mean {nearest!r}?" if nearest else f"remove it, or use one of {', '.join(known)}"
        )
    if error["type"] == "missing":
        return f"{where}: is missing"
    message = error["msg"].removeprefix("Value error, ")
    value = error.get("input")
    value_text = "" if isinstance(value, dict | BaseModel) else f" (the value is {value!r})"
    if error["type"] == "literal_error" and isinstance(value, str):
        nearest = nearest_name(value, re.findall(r"'([^']*)'", error["ctx"]["expected"]))
        value_text += f"; did you mean {nearest!r}?" if nearest else ""
    return f"{where}: {message}{value_text}"


def valid_keys(location: tuple[Any, ...]) -> list[str]:
    """Return the keys that the schema allows at a location in the file."""
    section: type[BaseModel] = ModelConfig
    for part in location:
        field = section.model_fields.get(str(part))
        section = next(iter(_models_in(field.annotation)), section) if field else section
    return list(section.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the pydantic models in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in _models_in(a)]
