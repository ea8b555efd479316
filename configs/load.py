"""Load a model's folder into a frozen config. A file with `for_each` makes several models."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from configs.content import Content, merge, read_content
from configs.errors import ConfigError
from configs.flat import flat_sql
from configs.fleets import MANY, find_model, for_each_of, names_in, require_name
from configs.for_each import ForEach, fill_source, render_value, selects
from configs.messages import explain
from configs.override import require_allowed
from configs.schema import ModelConfig
from configs.settings import load_settings


@dataclass(frozen=True)
class Model:
    """A model's config and the text of its SQL.

    Attributes:
        folder: The folder of its model.yaml. The models of one `for_each` share it.
        files: Its model.yaml, then the files that it extends.
        for_each: The `for_each` of its file, with its own value only. None if its file makes one model.
    """

    config: ModelConfig
    folder: Path
    source_sql: str
    labels_sql: str
    files: tuple[Path, ...] = ()
    for_each: ForEach | None = None

    @property
    def name(self) -> str:
        """The model's name: that of its folder, or of its file's folder with its value."""
        return self.config.name

    def file(self, name: str) -> Path:
        """Return the path of a SQL file: in the model's folder, else beside the nearest file that it extends."""
        return _beside(self.files, name) or self.folder / name


def configs_folder() -> Path:
    """Return the folder with one subfolder for each model, from `EVERGREEN_CONFIGS`."""
    settings = load_settings()
    return settings.path(settings.configs)


def model_names(folder: Path | None = None) -> list[str]:
    """Return the names of all models in a folder, by default in that of the settings, sorted. See `names_in`."""
    return names_in(folder or configs_folder())


def load_model(name: str, folder: Path | None = None, override: Mapping[str, Any] | None = None) -> Model:
    """Load `configs/<name>/`, or a model of a file with `for_each`.

    Args:
        name: The model's name.
        folder: Folder of all models. By default, that of the settings.
        override: Replaces values of model.yaml, of the keys that `configs/override.py` allows. Nested mappings are merged.

    Raises:
        UnknownModel: There is no such model.
        ConfigError: A file is missing or not valid, or the override has a key that is not allowed. The message names file, key and value.
    """
    content, value = find_model(name, folder or configs_folder())
    for_each = None if value is None else for_each_of(content)
    if for_each is None or value is None:
        config = _validated(content, content.merged, override or {})
        require_name(content, content.merged.get("name"), name)
        return _with_sql(content, config)
    of_value = for_each.of(value)
    try:
        source = fill_source(content.merged.get("source"), for_each.column, value)
    except ValueError as error:
        raise ConfigError(f"{content.file_of((MANY, 'values'))}: {MANY}: {error}") from None
    is_selected = selects(content.merged.get("source"), source)
    by_column = not is_selected or not source.get("file")
    own = {MANY: of_value.model_dump(mode="json") if by_column else None}
    config = _validated(content, {**content.merged, "source": source, "name": name, **own}, override or {})
    return _with_sql(content, config, of_value, is_selected)


def _with_sql(
    content: Content, config: ModelConfig, for_each: ForEach | None = None, is_selected: bool = False
) -> Model:
    """Return the model with its SQL.

    Args:
        content: The content of its files.
        config: Its config.
        for_each: The `for_each` of its file, with its own value.
        is_selected: Whether its value is in a path or a query for a database, so that the SQL need not select the rows.
    """
    files, folder = content.files, content.files[0].parent
    if config.source.file:
        source_sql, labels_sql = flat_sql(config)
        return Model(config, folder, source_sql, labels_sql, files, for_each)
    texts = list[str]()
    for name, key in ((config.source.sql, "sql"), (config.source.labels, "labels")):
        path = _beside(files, name)
        if path is None:
            file = content.file_of(("source", key))
            raise ConfigError(f"{file}: source.{key}: names {name!r}, but {folder / name} does not exist")
        text = path.read_text(encoding="utf-8")
        if for_each:
            own = render_value(text, for_each.column, for_each.values[0])
            if own == text and not is_selected:
                raise ConfigError(
                    f"{path}: does not use ${for_each.column}, so all models of {MANY} would have the same rows; "
                    f"add WHERE {for_each.column} = ${for_each.column}"
                )
            text = own
        texts.append(text)
    return Model(config, folder, texts[0], texts[1], files, for_each)


def _beside(files: tuple[Path, ...], name: str) -> Path | None:
    """Return the first file of that name in the folders of these files."""
    return next((file.parent / name for file in files if (file.parent / name).is_file()), None)


def parse_config(path: Path, override: Mapping[str, Any] | None = None) -> ModelConfig:
    """Parse and validate one `model.yaml` of one model, with `override` merged into it."""
    content = read_content(path)
    return _validated(content, content.merged, override or {})


def _validated(content: Content, merged: Mapping[str, Any], override: Mapping[str, Any]) -> ModelConfig:
    require_allowed(override, merged)
    try:
        return ModelConfig.model_validate(merge(merged, override))
    except ValidationError as error:
        raise ConfigError("\n".join(explain(content, e) for e in error.errors())) from None
