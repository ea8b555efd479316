"""Which earlier contents of partitions are deleted: those that nothing needs any more, and those whose declared time is over.

`earlier.py` keeps them and reads them.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from tasks.contracts import Record, Stage
from tasks.storage.earlier import FOLDER, PINNED, delete_copy, is_needed, modified_at, read_note, records_of
from tasks.storage.lake import Lake

IN_FLIGHT = timedelta(days=1)
"""Age of notes and copies below which nothing is deleted: the training or the step may still be running."""


def remove_unneeded(lake: Lake, versions: Mapping[str, str], after: timedelta | None) -> int:
    """Delete the earlier contents that are not needed any more. Returns their number.

    Args:
        lake: The model's lake.
        versions: The versions that exist, each with the name of the contents of its training.
        after: Delete the contents that were replaced longer ago, needed or not. None: those that no version learned from or scored.
    """
    now, removed, names = datetime.now(UTC), 0, set(versions.values())
    for path in (lake.root / PINNED).glob("*.json"):
        if path.stem not in names and now - modified_at(path) > IN_FLIGHT:
            path.unlink(missing_ok=True)
    # What depends on others comes first: raw rows are needed for as long as valid rows that were made from them.
    for stage in (Stage.PREDICTIONS, Stage.VALID, Stage.LABELS, Stage.RAW):
        for path in (lake.root / FOLDER / stage).glob("*/*.json"):
            if (kept := read_note(path)) is None:
                continue
            record, age = kept.record, now - max(kept.moments)
            expired = after is not None and age > after and not _made_current(lake, record)
            unneeded = after is None and not is_needed(lake, record, versions)
            if age > IN_FLIGHT and (_is_current(lake, record) or expired or unneeded):
                delete_copy(path.with_suffix(".parquet"))
                removed += 1
    for path in (lake.root / FOLDER).glob("*/*/*.parquet"):  # of a process that was killed
        if not path.with_suffix(".json").is_file() and now - modified_at(path, linked=True) > IN_FLIGHT:
            path.unlink(missing_ok=True)
    return removed


def _is_current(lake: Lake, record: Record) -> bool:
    """Whether a content is the current one, and its file is as its record says: after a kill it can be another one."""
    current = lake.record(record.stage, record.partition)
    return current is not None and current.digest == record.digest and lake.has_content(record)


def _made_current(lake: Lake, record: Record) -> bool:
    """Whether the current predictions of a partition were made from a content of raw or valid rows."""
    scored = lake.record(Stage.PREDICTIONS, record.partition)
    valid = scored.inputs.get(Stage.VALID) if scored else None
    if record.stage is Stage.VALID:
        return record.digest == valid
    made = (made for made in records_of(lake, record.partition, (Stage.VALID,)) if made.digest == valid)
    return record.stage is Stage.RAW and any(made_from.inputs.get(Stage.RAW) == record.digest for made_from in made)
