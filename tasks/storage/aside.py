"""Keep the files of an output aside while it is made again, so that a failure or a kill loses none of them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from upath import UPath

from tasks.contracts import Stage
from tasks.storage.files import open_file, replacing
from tasks.storage.lake import SUFFIXES, Lake

FOLDER = "before_repair"
"""Copies of the files of outputs that are being made again, in the model's folder of the lake."""


@contextmanager
def kept_aside(lake: Lake, stage: Stage, key: str) -> Iterator[None]:
    """Copy the files of an output aside, and put them back if the body raises. The caller has the partition's claim.

    If the process is killed in the body, the copies stay, and `put_back` of a later process uses them.
    """
    _discard(lake, stage, key)
    for path, copy in _files(lake, stage, key):
        if path.is_file():
            _copy(path, copy)
    with replacing(_marker(lake, stage, key)) as draft:
        draft.touch()
    try:
        yield
    except BaseException:
        put_back(lake, stage, key)
        raise
    _discard(lake, stage, key)


def is_kept_aside(lake: Lake, stage: Stage, key: str) -> bool:
    """Whether all files of an output are aside: it is being made again, or the process that did it was killed."""
    return _marker(lake, stage, key).is_file()


def put_back(lake: Lake, stage: Stage, key: str) -> None:
    """Make the files of an output what they were when they were copied aside. Files that did not exist are deleted."""
    if not is_kept_aside(lake, stage, key):
        return
    for path, copy in _files(lake, stage, key):
        if copy.is_file():
            _copy(copy, path)
        else:
            path.unlink(missing_ok=True)
    _discard(lake, stage, key)


def _files(lake: Lake, stage: Stage, key: str) -> list[tuple[UPath, UPath]]:
    """The files that a step may write or delete, the record last, each with the path of its copy."""
    files = [lake.path(stage, key, suffix) for suffix in (*SUFFIXES, "json")]
    if stage is Stage.VALID:
        files.insert(0, lake.path(Stage.QUARANTINE, key))
    return [(path, lake.root / FOLDER / path.parent.name / path.name) for path in files]


def _marker(lake: Lake, stage: Stage, key: str) -> UPath:
    """An empty file that exists while all copies are complete."""
    return lake.root / FOLDER / stage / f"{key}.complete"


def _discard(lake: Lake, stage: Stage, key: str) -> None:
    for path in (_marker(lake, stage, key), *(copy for _, copy in _files(lake, stage, key))):
        path.unlink(missing_ok=True)


def _copy(source: UPath | Path, target: UPath | Path) -> None:
    with open_file(source) as content, replacing(target) as draft, draft.open("wb") as file:
        shutil.copyfileobj(content, file)
