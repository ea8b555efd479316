"""Table of all keys of model.yaml, generated from the schema, for the end of docs/add-a-model.md.

python -m ops.keys            print the table
python -m ops.keys --write    write it into the page, and docs/names.md and configs/model.schema.json; tests require that all are up to date
"""

import sys
import types
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from configs.base import span_text
from configs.retraining import Retraining
from configs.schema import ModelConfig
from configs.settings import ROOT

PAGE = ROOT / "docs" / "add-a-model.md"
MARK = "<!-- made by `python -m ops.keys --write` from configs/*.py -->"


def keys(model: type[BaseModel] = ModelConfig, above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every key's path, such as `training.window.holdout`, and field. `<name>` stands for names that the user chooses."""
    for name, field in model.model_fields.items():
        yield f"{above}{name}", field
        for inner, suffix in sections_of(field.annotation):
            if inner is not Retraining or name == "retraining":  # the policies of a replay have the same keys
                yield from keys(inner, f"{above}{name}{suffix}.")


def sections_of(annotation: Any, suffix: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the pydantic models within a type, each with the suffix of its path: nothing, `.<name>` or `[]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, suffix
    origin = get_origin(annotation)
    within = ".<name>" if _is_mapping(origin) else "[]" if origin in (tuple, list) else ""
    for part in get_args(annotation):
        if part is not str or origin in (Union, types.UnionType):
            yield from sections_of(part, suffix + within)


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def kind_of(annotation: Any) -> str:
    """Return a short description of a type."""
    origin, inner = get_origin(annotation), [a for a in get_args(annotation) if a is not type(None)]
    if origin is Literal:
        return " or ".join(str(choice) for choice in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(kind_of, inner)))
    if origin in (tuple, list):
        return f"list of {kind_of(inner[0])}"
    if _is_mapping(origin):
        return f"{kind_of(inner[1])} by name"
    if hasattr(annotation, "__metadata__"):
        return kind_of(inner[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    named = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        timedelta: "duration (90min, 6h, 14D, 2W)",
    }
    return named.get(annotation, "any value")


def default_of(field: FieldInfo) -> str:
    """Return the value that is used if the key is not given."""
    value = field.default
    if field.is_required() or value is PydanticUndefined:
        return "must be given" if field.is_required() else ""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return span_text(value)
    if isinstance(value, BaseModel) or value in ((), {}):
        return ""
    return str(value)


def meaning_of(field: FieldInfo) -> str:
    """Return a key's description. A section without one has the first line of its docstring."""
    section = next((inner for inner, _ in sections_of(field.annotation)), None)
    text = field.description or (section.__doc__ or "" if section else "").strip().partition("\n")[0]
    return text.replace("|", "/")


def render() -> str:
    """Return the tables: the keys at the top level, then one table per section."""
    tables: dict[str, list[str]] = {"at the top": []}
    for path, field in keys():
        section = path.partition(".")[0].partition("[")[0]
        line = f"| `{path}` | {kind_of(field.annotation)} | {default_of(field)} | {meaning_of(field)} |"
        if "." in path or "[" in path:
            tables.setdefault(section, []).append(line)
        else:
            tables["at the top"].append(line)
    head = ["", "| key | value | default | meaning |", "|---|---|---|---|"]
    titles = {name: f"### `{name}`" if name != "at the top" else "### At the top" for name in tables}
    return (
        "\n".join([MARK, *(line for name, lines in tables.items() for line in ("", titles[name], *head, *lines))])
        + "\n"
    )


def current_table(path: Path = PAGE) -> str:
    """Return the text of the page from the mark on."""
    text = path.read_text(encoding="utf-8")
    return text[text.index(MARK) :] if MARK in text else ""


def generated() -> dict[Path, str]:
    """Return the texts of all files that are generated from the schema, by their path."""
    from ops import json_schema, names

    before = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    return {PAGE: before + render(), names.PAGE: names.render(), json_schema.FILE: json_schema.render()}


def main() -> int:
    """Print the tables of keys, or write them into the page with `--write`."""
    if "--write" not in sys.argv[1:]:
        print(render(), end="")
        return 0
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
