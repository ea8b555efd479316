"""Read a model's folder into a frozen config, or say what is wrong with it and where."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from configs.errors import ConfigError, UnknownModel
from configs.flat import flat_sql
from configs.schema import ModelConfig
from configs.settings import load_settings


@dataclass(frozen=True)
class Model:
    """A model's config, with the text of its SQL."""

    config: ModelConfig
    folder: Path
    source_sql: str
    labels_sql: str

    @property
    def name(self) -> str:
        return self.config.name


def configs_folder() -> Path:
    settings = load_settings()
    return settings.path(settings.configs)


def model_names(folder: Path | None = None) -> list[str]:
    """Every folder that holds a `model.yaml`, sorted."""
    return sorted(p.parent.name for p in (folder or configs_folder()).glob("*/model.yaml"))


def load_model(name: str, folder: Path | None = None, override: Mapping[str, Any] | None = None) -> Model:
    """Load `configs/<name>/`; with `override`, as if model.yaml said that there. Mappings are merged, anything else replaced.

    Raises:
        UnknownModel: there is no such folder.
        ConfigError: a file is missing or wrong; the message names file, key and value.
    """
    home = (folder or configs_folder()) / name
    path = home / "model.yaml"
    if not path.is_file():
        known = model_names(folder)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none yet'}"
        raise UnknownModel(f"no model {name!r}: {path} does not exist; {hint} (`make model NAME={name}` makes one)")
    config = parse_config(path, override or {})
    if config.name != name:
        raise ConfigError(f"{path}: name: is {config.name!r}, but the folder is {name!r}; they must be the same")
    if config.source.file:
        return Model(config, home, *flat_sql(config))
    return Model(
        config,
        home,
        read_sql(home, config.source.sql, "source.sql"),
        read_sql(home, config.source.labels, "source.labels"),
    )


def parse_config(path: Path, override: Mapping[str, Any] | None = None) -> ModelConfig:
    """Read one `model.yaml`, and what is said over it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, but is {type(content).__name__}")
    try:
        return ModelConfig.model_validate(merged(content, override or {}))
    except ValidationError as error:
        raise ConfigError("\n".join(explain(path, e) for e in error.errors())) from None


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested mappings as one. Where both are mappings their keys are merged, else `above` wins."""
    both = {
        key: merged(below[key], value)
        for key, value in above.items()
        if isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
    }
    return {**below, **above, **both}


def read_sql(folder: Path, name: str, key: str) -> str:
    """The text of a SQL file beside model.yaml."""
    path = folder / name
    if not path.is_file():
        raise ConfigError(f"{folder / 'model.yaml'}: {key}: names {name!r}, but {path} does not exist")
    return path.read_text(encoding="utf-8")


def explain(path: Path, error: Any) -> str:
    """One of pydantic's errors as a sentence with file, key, value and the nearest right key."""
    keys = [str(part) for part in error["loc"]]
    where = f"{path}: {'.'.join(keys) or 'the whole'}"
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(keys[-1], known_keys(error["loc"][:-1]), n=1)
        return f"{where}: unknown key" + (f"; did you mean {near[0]!r}?" if near else "; remove it")
    if error["type"] == "missing":
        return f"{where}: is missing"
    message = error["msg"].removeprefix("Value error, ")
    value = error.get("input")
    shown = "" if isinstance(value, dict | BaseModel) else f" (it says {value!r})"
    return f"{where}: {message}{shown}"


def known_keys(location: tuple[Any, ...]) -> list[str]:
    """The keys that the schema allows at a place of the file."""
    at: type[BaseModel] = ModelConfig
    for part in location:
        field = at.model_fields.get(str(part))
        at = next(iter(_models_in(field.annotation)), at) if field else at
    return list(at.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models that a type annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in _models_in(a)]
