"""The content of a model.yaml, merged with the files that it extends. Which file has a key is kept for messages."""

import functools
import os.path
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from configs.errors import ConfigError

KEY = "extends"
INTEGER = "tag:yaml.org,2002:int"
DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)$")


class Loader(yaml.SafeLoader):
    """Reads 010 and 12:30 as text. By YAML 1.1 they are the numbers 8 and 750, which nobody means."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, DECIMAL if tag == INTEGER else pattern) for tag, pattern in pairs]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Content:
    """The content of a model.yaml and of the files that it extends.

    Attributes:
        parts: Each file with its own content, nearest first.
        merged: All of it. The value of a nearer file replaces that of a further one; mappings are merged.
    """

    parts: tuple[tuple[Path, Mapping[str, Any]], ...]
    merged: Mapping[str, Any]

    @property
    def files(self) -> tuple[Path, ...]:
        """The model.yaml, then the files that it extends."""
        return tuple(path for path, _ in self.parts)

    def file_of(self, location: tuple[Any, ...]) -> Path:
        """Return the file from which the value at a location comes; the model.yaml if none has it."""
        depths = [_depth(content, location) for _, content in self.parts]
        return self.parts[depths.index(max(depths))][0]


def read_content(path: Path) -> Content:
    """Read a model.yaml and the files that it extends.

    Raises:
        ConfigError: A file is missing, is no mapping in YAML, or extends itself.
    """
    parts: list[tuple[Path, Mapping[str, Any]]] = []
    following: Path | None = path
    while following is not None:
        if following in (seen := [file for file, _ in parts]):
            circle = " -> ".join(str(file) for file in [*seen[seen.index(following) :], following])
            raise ConfigError(f"{seen[-1]}: {KEY}: {circle} is a circle; remove one of them")
        own = dict(_parse(following))
        parts.append((following, own))
        following = _extended(following, own.pop(KEY, None))
    merged: Mapping[str, Any] = {}
    for _, own in reversed(parts):
        merged = merge(merged, own)
    return Content(tuple(parts), merged)


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested mappings. Mappings in both are merged, any other value of `override` replaces that of `base`."""
    nested = {
        key: merge(base[key], value)
        for key, value in override.items()
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
    }
    return {**base, **override, **nested}


def _extended(path: Path, value: Any) -> Path | None:
    """Return the file that `extends` names, relative to its own file."""
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise ConfigError(
            f"{path}: {KEY}: must be the path of one YAML file, such as ../base.yaml (the value is {value!r})"
        )
    extended = Path(os.path.normpath(path.parent / value))
    if not extended.is_file():
        raise ConfigError(
            f"{path}: {KEY}: names {value!r}, but {extended} does not exist; the path is relative to this file"
        )
    return extended


def _parse(path: Path) -> Mapping[str, Any]:
    try:
        content = _parse_text(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, but is {type(content).__name__}")
    return content


@functools.lru_cache(maxsize=64)
def _parse_text(text: str) -> Any:
    """Parse YAML. The models of one file share the result, and nobody changes it."""
    return yaml.load(text, Loader)  # noqa: S506  (a safe loader)


def _depth(content: Any, location: tuple[Any, ...]) -> int:
    """Return how many parts of a location are in the content."""
    for depth, part in enumerate(location):
        is_item = isinstance(content, list) and isinstance(part, int) and part < len(content)
        if not is_item and not (isinstance(content, Mapping) and part in content):
            return depth
        content = content[part]
    return len(location)
