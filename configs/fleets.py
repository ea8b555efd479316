"""Find the models in a folder of models: one of each folder, or one of each value of a file with `for_each`."""

import difflib
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from configs.content import Content, read_content
from configs.errors import ConfigError, UnknownModel
from configs.for_each import ForEach
from configs.messages import explain

FILE, MANY = "model.yaml", "for_each"


def names_in(folder: Path) -> list[str]:
    """Return the names of all models, sorted: of each folder with a `model.yaml`, or of the values of its `for_each`.

    A file that cannot be read has the name of its folder, so that loading it reports why.
    """
    return sorted({name for path in folder.glob(f"*/{FILE}") for name in _names(path)})


def _names(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8", errors="replace")
    if "-" in path.parent.name or not (MANY in text or "extends" in text):
        return [path.parent.name]
    try:
        return list(values_of(read_content(path)) or [path.parent.name])
    except ConfigError:
        return [path.parent.name]


def files_of(name: str, root: Path) -> tuple[Path, ...]:
    """Return the model.yaml of a model, that with its `for_each`, and the files that these extend, as far as they can be read."""
    files = list[Path]()
    for folder in dict.fromkeys((name, name.partition("-")[0])):
        files.append(root / folder / FILE)
        if files[-1].is_file():
            with suppress(ConfigError):
                files += read_content(files[-1]).files[1:]
    return tuple(dict.fromkeys(files))


def find_model(name: str, root: Path) -> tuple[Content, str | int | None]:
    """Return the content of a model's file, and its value if the file has `for_each`."""
    own, shared = root / name / FILE, root / name.partition("-")[0] / FILE
    if "-" in name and shared.is_file():
        common = read_content(shared)
        value = values_of(common).get(name)
        require_name(common, common.merged.get("name"), shared.parent.name)
        if value is not None:
            _require_distinct(common, name, root)
        if value is not None and own.is_file():
            return _replaced(own, common), value
        if value is not None:
            return common, value
        if not own.is_file():
            raise UnknownModel(f"no model {name!r}: it is not of {MANY}.values in {common.file_of((MANY, 'values'))}")
    if own.is_file() and "-" in name:
        raise ConfigError(
            f"{own}: name: {name!r} has a hyphen, which only models of a {MANY} have, but {shared} makes no such model; "
            f"rename the folder, or add the value there"
        )
    if not own.is_file():
        names = names_in(root)
        closest = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {closest[0]!r}?" if closest else f"there are: {', '.join(names) or 'none yet'}"
        raise UnknownModel(f"no model {name!r}: {own} does not exist; {hint} (`make model NAME={name}` creates it)")
    content = read_content(own)
    if names := list(values_of(content)):
        require_name(content, content.merged.get("name"), name)
        raise UnknownModel(
            f"no model {name!r}: {MANY} in {own} makes {', '.join(names[:5])}{' ...' if names[5:] else ''}"
        )
    return content, None


def _require_distinct(content: Content, name: str, root: Path) -> None:
    """Refuse a model beside one whose name differs in `-` and `_` only: Prefect's keys of pages have no `_`."""
    if (other := root / name.replace("-", "_") / FILE).is_file():
        raise ConfigError(
            f"{content.files[0]}: {MANY}: {name!r} and {other} differ in - and _ only; rename one of them"
        )


def _replaced(path: Path, common: Content) -> Content:
    """Return the content of the folder of one model of a `for_each`, which replaces the generated one."""
    content = read_content(path)
    if common.files[0] not in content.files:
        raise ConfigError(
            f"{path}: extends: is missing, but {common.files[0]} makes the model {path.parent.name}; "
            f"write extends: ../{common.files[0].parent.name}/{FILE}"
        )
    if MANY in content.parts[0][1]:
        raise ConfigError(f"{path}: {MANY}: is that of {common.files[0]}, which makes this model; remove it here")
    require_name(content, content.parts[0][1].get("name", path.parent.name), path.parent.name)
    return content


def for_each_of(content: Content) -> ForEach | None:
    """Return the `for_each` of a file, with all its values.

    Raises:
        ConfigError: It is not valid.
    """
    if (declared := content.merged.get(MANY)) is None:
        return None
    try:
        return ForEach.model_validate(declared)
    except ValidationError as error:
        located = ({**e, "loc": (MANY, *e["loc"])} for e in error.errors())
        raise ConfigError("\n".join(explain(content, e) for e in located)) from None


def values_of(content: Content) -> dict[str, str | int]:
    """Return the values of a file's `for_each` by the name of their model; empty if it has none."""
    if (for_each := for_each_of(content)) is None:
        return {}
    try:
        return for_each.names(content.files[0].parent.name)
    except ValueError as error:
        raise ConfigError(f"{content.file_of((MANY, 'values'))}: {MANY}: {error}") from None


def require_name(content: Content, given: Any, name: str) -> None:
    """Refuse a name in a file that is not that of its folder."""
    if given != name:
        raise ConfigError(
            f"{content.file_of(('name',))}: name: is {given!r}, but the folder is {name!r}; they must be the same"
        )
