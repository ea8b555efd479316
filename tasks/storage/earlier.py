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
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from upath import UPath

from tasks.contracts import Record, Stage
from tasks.errors import PartitionChanged
from tasks.storage.files import digest_json, digest_of, open_file, replacing
from tasks.storage.folders import make_folder
from tasks.storage.lake import Lake, parse_record

FOLDER, PINNED = "earlier", "pinned"
KEPT_STAGES = (Stage.RAW, Stage.VALID, Stage.PREDICTIONS, Stage.LABELS)
SCORED = (Stage.PREDICTIONS, Stage.SHADOW, Stage.FORMER)
IN_FLIGHT = timedelta(days=1)
"""Age of notes and copies below which nothing is deleted: the training or the step may still be running."""

SUPERSEDED = "superseded_at"
"""Key of a kept record, with the moments at which others replaced its rows, and column of superseded rows."""

Contents = Mapping[Stage, Mapping[str, str]]
"""The digests of the contents that a training reads, by stage and partition."""


def earlier_records(lake: Lake, stage: Stage, key: str) -> list[Record]:
    """The records of the earlier contents that are kept of a stage's partition, in the order in which they were written."""
    records = [parse_record(path.read_bytes()) for path in _folder(lake, stage, key).glob("*.json")]
    return sorted(records, key=lambda record: record.run.started if record.run else record.as_of)


def superseded(lake: Lake, stage: Stage, key: str) -> list[tuple[Record, datetime]]:
    """The earlier contents that are kept of a stage's partition, each with a moment at which others replaced it, oldest first.

    A content that came back and was replaced again has several moments. A copy of what is current, which a process left that died while it
    replaced it, is not among them.
    """
    current = lake.record(stage, key)
    digest = current.digest if current and current.status == "done" else None
    kept = [record for record in earlier_records(lake, stage, key) if record.digest != digest]
    found = [(record, moment) for record in kept for moment in _moments(_path(lake, record).with_suffix(".json"))]
    return sorted(found, key=lambda item: item[1])


def _moments(note: UPath) -> list[datetime]:
    """When the content of a kept record was replaced. Empty if it was deleted meanwhile."""
    try:
        content, written = json.loads(note.read_bytes()), _modified(note)
    except FileNotFoundError:
        return []
    return [datetime.fromisoformat(moment) for moment in content.get(SUPERSEDED, ())] or [written]


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
    if same or not _is_needed(lake, record):  # a training may have pinned it meanwhile
        _delete(copy)


def _keep(lake: Lake, record: Record, copy: UPath) -> None:
    """Copy file and record of an output, unless the file is damaged. The record is written last, with the time of the copy."""
    path = lake.path(record.stage, record.partition)
    with open_file(path) as file:
        if digest_of(file) != record.digest:
            return
    if not copy.with_suffix(".json").is_file():
        copy.unlink(missing_ok=True)
        if not _link(path, copy):
            with open_file(path) as file, replacing(copy) as draft, draft.open("wb") as target:
                shutil.copyfileobj(file, target)
    note = copy.with_suffix(".json")
    moments = [moment.isoformat() for moment in _moments(note)]
    content = json.loads(lake.path(record.stage, record.partition, "json").read_bytes())
    text = json.dumps({SUPERSEDED: [*moments, datetime.now(UTC).isoformat()], **content}, indent=1)
    with replacing(note) as draft:
        draft.write_text(text + "\n", encoding="utf-8")


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


def _is_needed(lake: Lake, record: Record, versions: Collection[str] | None = None) -> bool:
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
        return any(made.inputs.get(stage) == digest for made in _records(lake, key, SCORED))
    if stage is Stage.RAW:
        made_from = (
            made for made in _records(lake, key, (Stage.VALID, Stage.LABELS)) if made.inputs.get(stage) == digest
        )
        return any(_is_needed(lake, made) for made in made_from)
    return False


def _records(lake: Lake, key: str, stages: Collection[Stage]) -> Iterator[Record]:
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


def remove_unneeded(lake: Lake, versions: Mapping[str, str], after: timedelta | None) -> int:
    """Delete the earlier contents that are not needed any more. Returns their number.

    Args:
        lake: The model's lake.
        versions: The versions that exist, each with the name of the contents of its training.
        after: Delete the contents that were replaced longer ago, needed or not. None: those that no version learned from or scored.
    """
    now, removed, names = datetime.now(UTC), 0, set(versions.values())
    for path in (lake.root / PINNED).glob("*.json"):
        if path.stem not in names and now - _modified(path) > IN_FLIGHT:
            path.unlink(missing_ok=True)
    # What depends on others comes first: raw rows are needed for as long as valid rows that were made from them.
    for stage in (Stage.PREDICTIONS, Stage.VALID, Stage.LABELS, Stage.RAW):
        for path in (lake.root / FOLDER / stage).glob("*/*.json"):
            record = parse_record(path.read_bytes())
            current = lake.record(stage, record.partition)
            age, is_current = (
                now - max(_moments(path), default=now),
                current is not None and current.digest == record.digest,
            )
            expired = after is not None and age > after
            if age > IN_FLIGHT and (
                is_current or expired or (after is None and not _is_needed(lake, record, versions))
            ):
                _delete(path.with_suffix(".parquet"))
                removed += 1
    for path in (lake.root / FOLDER).glob("*/*/*.parquet"):  # of a process that was killed
        if not path.with_suffix(".json").is_file() and now - _modified(path, linked=True) > IN_FLIGHT:
            path.unlink(missing_ok=True)
    return removed


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
        return _path(self, record) if record and record != current else super().file(stage, key)


def _folder(lake: Lake, stage: Stage, key: str) -> UPath:
    return lake.root / FOLDER / stage / key


def _path(lake: Lake, record: Record) -> UPath:
    """The copy of a content."""
    return _folder(lake, record.stage, record.partition) / f"{record.digest[:32]}.parquet"


def _delete(copy: UPath) -> None:
    """Delete a copy, the record first, so that no record is without its rows."""
    copy.with_suffix(".json").unlink(missing_ok=True)
    copy.unlink(missing_ok=True)


def _modified(path: UPath, linked: bool = False) -> datetime:
    """When a file was written or, with `linked`, when a link to it was made, if that was later."""
    if isinstance(path, Path):
        stat = path.stat()
        return datetime.fromtimestamp(max(stat.st_mtime, stat.st_ctime) if linked else stat.st_mtime, UTC)
    changed: datetime = path.fs.modified(path.path)
    return changed if changed.tzinfo else changed.replace(tzinfo=UTC)
