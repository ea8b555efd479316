"""Load a model's folder into a frozen config."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from configs.errors import ConfigError, UnknownModel
from configs.flat import flat_sql
from configs.nearest import nearest_name
from configs.override import require_allowed
from configs.schema import ModelConfig
from configs.settings import load_settings


@dataclass(frozen=True)
class Model:
    """A model's config and the text of its SQL."""

    config: ModelConfig
    folder: Path
    source_sql: str
    labels_sql: str

    @property
    def name(self) -> str:
        """The model's name: that of its folder."""
        return self.config.name


def configs_folder() -> Path:
    """Return the folder with one subfolder for each model, from `EVERGREEN_CONFIGS`."""
    settings = load_settings()
    return settings.path(settings.configs)


def model_names(folder: Path | None = None) -> list[str]:
    """Return the names of all folders with a `model.yaml`, sorted."""
    return sorted(p.parent.name for p in (folder or configs_folder()).glob("*/model.yaml"))


def load_model(name: str, folder: Path | None = None, override: Mapping[str, Any] | None = None) -> Model:
    """Load `configs/<name>/`.

    Args:
        name: The model's name.
        folder: Folder of all models. By default, that of the settings.
        override: Replaces values of model.yaml, of the keys that `configs/override.py` allows. Nested mappings are merged.

    Raises:
        UnknownModel: There is no such folder.
        ConfigError: A file is missing or not valid, or the override has a key that is not allowed. The message names file, key and value.
    """
    home = (folder or configs_folder()) / name
    path = home / "model.yaml"
    if not path.is_file():
        names = model_names(folder)
        closest = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {closest[0]!r}?" if closest else f"there are: {', '.join(names) or 'none yet'}"
        raise UnknownModel(f"no model {name!r}: {path} does not exist; {hint} (`make model NAME={name}` creates it)")
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
    """Parse and validate one `model.yaml`, with `override` merged into it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, but is {type(content).__name__}")
    require_allowed(override or {}, content)
    try:
        return ModelConfig.model_validate(merge(content, override or {}))
    except ValidationError as error:
        raise ConfigError("\n".join(explain(path, e) for e in error.errors())) from None


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested mappings. Mappings in both are merged, any other value of `override` replaces that of `base`."""
    nested = {
        key: merge(base[key], value)
        for key, value in override.items()
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
    }
    return {**base, **override, **nested}


def read_sql(folder: Path, name: str, key: str) -> str:
    """Return the text of a SQL file in the model's folder."""
    path = folder / name
    if not path.is_file():
        raise ConfigError(f"{folder / 'model.yaml'}: {key}: names {name!r}, but {path} does not exist")
    return path.read_text(encoding="utf-8")


def explain(path: Path, error: Any) -> str:
    """Return one of pydantic's errors as a message with file, key, value and the most similar valid key."""
    keys = [str(part) for part in error["loc"]]
    where = f"{path}: {'.'.join(keys) or 'the whole file'}"
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
