"""Earlier contents of a partition: kept when other content replaces them, while a version or a prediction was made from them.

    <root>/<model>/earlier/<stage>/<partition>/<digest>.parquet and .json    rows and record as they were, and when they were replaced
    <root>/<model>/pinned/<digest>.json                                     the contents that a training reads

The current content of a partition is where it always is. The digest is the SHA-256 of the file.
"""

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from upath import UPath

from tasks.contracts import Record, Stage
from tasks.errors import PartitionChanged
from tasks.storage.files import digest_json, digest_of, open_file, replacing
from tasks.storage.folders import make_folder
from tasks.storage.lake import Lake
from tasks.storage.records import dump_record, parse_record

FOLDER, PINNED = "earlier", "pinned"
KEPT_STAGES = (Stage.RAW, Stage.VALID, Stage.PREDICTIONS, Stage.LABELS)
SCORED = (Stage.PREDICTIONS, Stage.SHADOW, Stage.FORMER)

FIRST = "first_written"
"""Key of a kept record with the moment at which its content was there for the first time."""
SUPERSEDED = "superseded_at"
"""Key of a kept record, with the moments at which others replaced its rows, and column of superseded rows."""

Contents = Mapping[Stage, Mapping[str, str]]
"""The digests of the contents that a training reads, by stage and partition."""


@dataclass(frozen=True)
class Kept:
    """A content that is kept.

    Attributes:
        record: Its record.
        first: When it was there for the first time. One that came back has a record of a later run.
        moments: When others replaced it, oldest first. Several if it came back; that of its copy if a process died while it was replaced.
    """

    record: Record
    first: datetime
    moments: tuple[datetime, ...]


def read_note(note: UPath) -> Kept | None:
    """Read the note of a copy; None if it was deleted meanwhile."""
    try:
        text, written = note.read_bytes(), modified_at(note)
    except FileNotFoundError:
        return None
    content, record = json.loads(text), parse_record(text)
    first = content.get(FIRST) or (record.run.started if record.run else record.as_of).isoformat()
    moments = tuple(map(datetime.fromisoformat, content.get(SUPERSEDED, ())))
    return Kept(record, datetime.fromisoformat(first), moments or (written,))


def _kept(lake: Lake, stage: Stage, key: str) -> list[Kept]:
    """The contents of a stage's partition that are kept, in the order in which they were there first."""
    notes = (read_note(path) for path in _folder(lake, stage, key).glob("*.json"))
    return sorted((kept for kept in notes if kept), key=lambda kept: kept.first)


def earlier_records(lake: Lake, stage: Stage, key: str) -> list[Record]:
    """The records of the earlier contents that are kept of a stage's partition, in the order in which they were there first."""
    return [kept.record for kept in _kept(lake, stage, key)]


def superseded(lake: Lake, stage: Stage, key: str) -> list[tuple[Record, datetime]]:
    """The earlier contents that are kept of a stage's partition, each with a moment at which others replaced it, oldest first.

    A content that came back and was replaced again has several moments. A copy of what is current, which a process left that died while it
    replaced it, is not among them.
    """
    current = lake.record(stage, key)
    digest = current.digest if current and current.status == "done" else None
    kept = [kept for kept in _kept(lake, stage, key) if kept.record.digest != digest]
    return sorted(((k.record, moment) for k in kept for moment in k.moments), key=lambda item: item[1])


@contextmanager
def keeping_earlier(lake: Lake, stage: Stage, key: str) -> Iterator[None]:
    """Keep the content of an output if the body replaces it by another one, and something was made from it.

    The caller has the partition's claim. If the body fails or is killed, the copy stays: the file may be replaced already.
    """
    record = lake.record(stage, key) if lake.keeps_earlier and stage in KEPT_STAGES else None
    if record is None or record.status != "done":
        yield
        return
    copy = _path(lake, record)
    _keep(lake, record, copy)
    yield
    current = lake.record(stage, key)
    same = current and current.status == "done" and current.digest == record.digest
    if same or not is_needed(lake, record):  # a training may have pinned it meanwhile
        delete_copy(copy)
    elif copy.is_file():
        _write_note(record, copy, datetime.now(UTC))


def _keep(lake: Lake, record: Record, copy: UPath) -> None:
    """Copy file and record of an output, unless the file is damaged. The record is written last."""
    path = lake.path(record.stage, record.partition)
    if not lake.has_content(record):
        return
    if not copy.with_suffix(".json").is_file():
        copy.unlink(missing_ok=True)
        if not _link(path, copy):
            with open_file(path) as file, replacing(copy) as draft, draft.open("wb") as target:
                shutil.copyfileobj(file, target)
    _write_note(record, copy)


def _write_note(record: Record, copy: UPath, replaced: datetime | None = None) -> None:
    """Write the note of a copy: its record, when its content was there first, and when it was replaced."""
    note = copy.with_suffix(".json")
    content, before = json.loads(dump_record(record)), json.loads(note.read_bytes()) if note.is_file() else {}
    first = before.get(FIRST) or (record.run.started if record.run else record.as_of).isoformat()
    moments = [*before.get(SUPERSEDED, ()), *([replaced.isoformat()] if replaced else [])]
    with replacing(note) as draft:
        draft.write_text(json.dumps({FIRST: first, SUPERSEDED: moments, **content}, indent=1) + "\n", encoding="utf-8")


def _link(path: UPath, copy: UPath) -> bool:
    """Make a hard link, which needs no space: files of the lake are replaced, never written in place. Not every file system can."""
    if not (isinstance(path, Path) and isinstance(copy, Path)):
        return False
    make_folder(copy.parent)
    try:
        os.link(path, copy)
    except OSError:
        return False
    return True


def is_needed(lake: Lake, record: Record, versions: Collection[str] | None = None) -> bool:
    """Whether a training has read the content of a record, or a prediction was made from it.

    Args:
        lake: The model's lake.
        record: A record, current or earlier.
        versions: The versions whose predictions are needed; by default those of all.
    """
    stage, key, digest = record.stage, record.partition, record.digest
    if stage is Stage.PREDICTIONS:
        return versions is None or record.data["version"] in versions
    if (stage, key, digest) in _all_pinned(lake):
        return True
    if stage is Stage.VALID:
        return any(made.inputs.get(stage) == digest for made in records_of(lake, key, SCORED))
    if stage is Stage.RAW:
        made_from = (
            made for made in records_of(lake, key, (Stage.VALID, Stage.LABELS)) if made.inputs.get(stage) == digest
        )
        return any(is_needed(lake, made) for made in made_from)
    return False


def records_of(lake: Lake, key: str, stages: Collection[Stage]) -> Iterator[Record]:
    """The current records of some stages of a partition, and those of their earlier contents."""
    for stage in stages:
        if current := lake.record(stage, key):
            yield current
        yield from earlier_records(lake, stage, key)


def contents_name(contents: Contents) -> str:
    """The name of the note that these contents are pinned: a digest of them."""
    return digest_json(contents)[:32]


def pin(lake: Lake, contents: Contents) -> None:
    """Note that a training reads these contents, so that they are kept when others replace them."""
    with replacing(lake.root / PINNED / f"{contents_name(contents)}.json") as draft:
        draft.write_text(json.dumps(contents, sort_keys=True) + "\n", encoding="utf-8")


def _all_pinned(lake: Lake) -> set[tuple[Stage, str, str]]:
    """Stage, partition and digest of every pinned content."""
    pinned: set[tuple[Stage, str, str]] = set()
    for path in (lake.root / PINNED).glob("*.json"):
        pinned.update(_read_pinned(path))
    return pinned


@lru_cache(maxsize=512)
def _read_pinned(path: UPath) -> frozenset[tuple[Stage, str, str]]:
    """The contents of a note. It never changes: its name is a digest of them."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return frozenset((Stage(s), key, digest) for s, digests in content.items() for key, digest in digests.items())


def damaged_contents(lake: Lake) -> list[str]:
    """The paths of earlier contents whose rows do not match their record. They cannot be made again."""
    damaged = []
    for path in sorted((lake.root / FOLDER).glob("*/*/*.json")):
        with open_file(path.with_suffix(".parquet")) as file:
            if digest_of(file) != parse_record(path.read_bytes()).digest:
                damaged.append(str(path.with_suffix(".parquet")))
    return damaged


class PinnedLake(Lake):
    """A model's lake in which some partitions have an earlier content. It is only read from.

    Where that is not kept, they have the current one, or with `strict` reading them is an error.
    """

    def __init__(self, lake: Lake, contents: Contents, strict: bool = False) -> None:
        super().__init__(lake.root.parent, lake.model)
        self.root, self.variant, self.base = lake.root, lake.variant, lake.base
        self.strict = strict
        self._digests = {(stage, key): digest for stage, digests in contents.items() for key, digest in digests.items()}

    def record(self, stage: Stage, key: str) -> Record | None:
        """See `Lake`.

        Raises:
            PartitionChanged: `strict`, and the content is not kept.
        """
        current = super().record(stage, key)
        digest = self._digests.get((stage, key))
        if digest is None or (current and current.digest == digest):
            return current
        kept = next((r for r in earlier_records(self, stage, key) if r.digest == digest), None)
        if kept is None and self.strict:
            raise PartitionChanged(
                f"{self.model} {key}: its {stage} rows were replaced while they were read; run it again"
            )
        return kept or current

    def file(self, stage: Stage, key: str) -> UPath:
        """See `Lake`."""
        record, current = self.record(stage, key), super().record(stage, key)
        if record and (stage, key) in self._digests and (copy := _path(self, record)).with_suffix(".json").is_file():
            return (
                copy  # also of the current content: a process that was killed has replaced the file before its record
            )
        return _path(self, record) if record and record != current else super().file(stage, key)


def _folder(lake: Lake, stage: Stage, key: str) -> UPath:
    return lake.root / FOLDER / stage / key


def _path(lake: Lake, record: Record) -> UPath:
    """The copy of a content."""
    return _folder(lake, record.stage, record.partition) / f"{record.digest[:32]}.parquet"


def delete_copy(copy: UPath) -> None:
    """Delete a copy, the record first, so that no record is without its rows."""
    copy.with_suffix(".json").unlink(missing_ok=True)
    copy.unlink(missing_ok=True)


def modified_at(path: UPath, linked: bool = False) -> datetime:
    """When a file was written or, with `linked`, when a link to it was made, if that was later."""
    if isinstance(path, Path):
        stat = path.stat()
        return datetime.fromtimestamp(max(stat.st_mtime, stat.st_ctime) if linked else stat.st_mtime, UTC)
    changed: datetime = path.fs.modified(path.path)
    return changed if changed.tzinfo else changed.replace(tzinfo=UTC)
