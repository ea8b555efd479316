"""JSON Schema of model.yaml, generated from the pydantic schema, with which editors complete and check a file.

The first line of a model.yaml names it for the YAML language server. `python -m ops.keys --write` writes it. It has the names and types
of all keys. What depends on several keys is checked by `make lint` only.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from configs.base import span_text
from configs.expectations import SUPPORTED
from configs.schema import ModelConfig
from configs.settings import ROOT
from tasks.validation.expectations import arguments_of, expectation_class

FILE = ROOT / "configs" / "model.schema.json"
COMMENT = "# yaml-language-server: $schema=../model.schema.json"
"""First line of a model.yaml in configs/."""
INHERITING = "extends"
"""Key with which a file takes missing keys from another one, if the schema has it."""


class _Generator(GenerateJsonSchema):
    """Writes durations as model.yaml has them, and no titles made from names of keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return that a key needs no title."""
        return False

    def encode_default(self, dft: Any) -> Any:
        """Return a default as model.yaml has it."""
        return span_text(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def model_schema(model: type[ModelConfig] = ModelConfig) -> dict[str, Any]:
    """Return the JSON Schema of model.yaml.

    Draft 7, since editors support it best: keys beside `$ref` are only descriptions there.
    """
    schema = _plain(model.model_json_schema(schema_generator=_Generator))
    schema["$defs"]["Expectation"]["allOf"] = [_arguments(name) for name in SUPPORTED]
    if INHERITING in schema["properties"]:
        _require_unless_inheriting(schema)
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema, "title": "model.yaml of Evergreen"}


def _plain(part: Any) -> Any:
    """Return a schema without defaults of sections, and with descriptions on one line."""
    if isinstance(part, list):
        return [_plain(item) for item in part]
    if not isinstance(part, Mapping):
        return part
    kept = {key: value for key, value in part.items() if key != "default" or isinstance(value, str | int | float)}
    return {
        key: " ".join(value.split()) if key == "description" and isinstance(value, str) else _plain(value)
        for key, value in kept.items()
    }


def _arguments(name: str) -> dict[str, Any]:
    """Return the condition that an expectation has only the arguments that Great Expectations knows. Columns may be given beside them."""
    arguments = arguments_of(expectation_class(name))
    kwargs = {"properties": dict.fromkeys(arguments, True), "additionalProperties": False}
    if required := [argument for argument, needed in arguments.items() if needed and argument != "column"]:
        kwargs["required"] = required
    then: dict[str, Any] = {"properties": {"kwargs": kwargs}}
    then |= {"required": ["kwargs"]} if required else {}
    return {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": then}


def _require_unless_inheriting(schema: dict[str, Any]) -> None:
    """Require the keys of sections only in a file that does not take them from another one."""
    needed = _required(schema, schema["$defs"])
    for name in {name for name, _ in _sections(schema, schema["$defs"])}:
        schema["$defs"][name].pop("required", None)
    schema.pop("required")
    schema |= {"if": {"required": [INHERITING]}, "else": needed}


def _required(section: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the required keys of a section and of the sections within it."""
    needed: dict[str, Any] = {"required": copy.copy(section["required"])} if "required" in section else {}
    for key, value in section.get("properties", {}).items():
        if (name := _section(value)) and (inner := _required(defs[name], defs)):
            needed.setdefault("properties", {})[key] = {**inner, "type": ["object", "null"]}
    return needed


def _sections(section: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield name and schema of all sections within a section. Entries of lists and of mappings by name are none."""
    for value in section.get("properties", {}).values():
        if name := _section(value):
            yield name, defs[name]
            yield from _sections(defs[name], defs)


def _section(value: Mapping[str, Any]) -> str:
    """Return the name of the definition that a key refers to, empty if its value is no section."""
    choices = [value, *value.get("anyOf", ())]
    return next((choice["$ref"].rpartition("/")[2] for choice in choices if "$ref" in choice), "")


def render() -> str:
    """Return the text of the file."""
    return json.dumps(model_schema(), indent=1, ensure_ascii=False) + "\n"
