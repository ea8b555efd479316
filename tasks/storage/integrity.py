"""Check an output in the lake: its record, and every byte of its files against the digests in the record."""

import io
import json
import time
from dataclasses import fields
from typing import IO

from tasks.contracts import Record, RunInfo, Stage
from tasks.storage.files import digest_json, digest_of, open_file
from tasks.storage.lake import STAGES_WITH_ROWS, SUFFIXES, Lake
from tasks.storage.records import parse_record, record_checksum

PAUSES = (0.1, 0.5, 0.0)
"""Seconds after which a damage is checked again: another process may be between writing a file and its record."""


def intact_record(lake: Lake, stage: Stage, key: str) -> Record | None:
    """The record of an output, None if it does not exist or is damaged itself."""
    return None if record_damage(lake, stage, key) else _read(lake, stage, key)


def damage(lake: Lake, stage: Stage, key: str) -> str:
    """What is wrong with an output of this lake; empty if nothing is, or if there is no output.

    The whole file is read: its digest is computed, and its rows are decoded and counted. Outputs of a variant's base are not checked.
    """
    problem = ""
    for pause in PAUSES:
        if not (problem := record_damage(lake, stage, key) or _file_damage(lake, stage, key)):
            return ""
        time.sleep(pause)
    return problem


def record_damage(lake: Lake, stage: Stage, key: str) -> str:
    """What is wrong with a record; empty if nothing is. Records of v0.1 have no checksum, so only some of their values can be checked."""
    path = lake.path(stage, key, "json")
    if not path.is_file():
        left = [file.name for suffix in SUFFIXES if (file := lake.path(stage, key, suffix)).is_file()]
        return f"{path.name} is gone, the record of {left[0]}" if left else ""
    try:
        text = path.read_bytes()
        content, record = json.loads(text), parse_record(text)
    except ValueError:
        return f"the record {path.name} cannot be read"
    known, run = {field.name for field in (*fields(Record), *fields(RunInfo))}, content.get("run") or {}
    if unknown := sorted({*content, *run} - known):
        return f"the record {path.name} has unknown keys: {', '.join(unknown)}"
    if (record.model, record.stage, record.partition) != (lake.model, stage, key):
        return f"the record {path.name} is that of {record.model} {record.partition}, {record.stage}"
    if record.run and record.run.checksum:
        ok = record.run.checksum == record_checksum(content)
        return "" if ok else f"the record {path.name} does not match its checksum"
    without_file = record.status == "blocked" or stage not in STAGES_WITH_ROWS
    if without_file and record.digest != digest_json(record.data):
        return f"the data in the record {path.name} do not match their digest"
    return ""


def _read(lake: Lake, stage: Stage, key: str) -> Record | None:
    path = lake.path(stage, key, "json")
    return parse_record(path.read_bytes()) if path.is_file() else None


def _file_damage(lake: Lake, stage: Stage, key: str) -> str:
    """What is wrong with the files of an output whose record is intact."""
    record = _read(lake, stage, key)
    if record is None:
        return ""
    if stage in STAGES_WITH_ROWS and record.status == "done":
        with open_file(lake.path(stage, key)) as file:
            rows = None if stage is Stage.SKETCHES else record.rows  # a sketch has the number of rows that it sums up
            if problem := _rows_damage(file, rows, record.digest):
                return f"{key}.parquet {problem}"
    files = record.run.files if record.run else {}
    for name, digest in files.items():
        with open_file(lake.root / name) as file:
            if digest_of(file) != digest:
                return f"{name} does not match its digest in the record"
    if (rows := record.data.get("quarantined")) and not files:  # a record of v0.1 has no digest of them
        with open_file(lake.path(Stage.QUARANTINE, key)) as file:
            if problem := _rows_damage(file, rows):
                return f"{Stage.QUARANTINE}/{key}.parquet {problem}"
    return ""


def _rows_damage(file: IO[bytes], rows: int | None, digest: str = "") -> str:
    """What is wrong with a file of rows; empty if nothing is.

    Args:
        file: The open file.
        rows: How many rows it must have, None if any.
        digest: Its SHA-256, empty if it is not known.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.seek(0, io.SEEK_END):
        return "is gone or empty"
    file.seek(0)
    if digest and digest_of(file) != digest:
        return "does not match its digest in the record"
    file.seek(0)
    try:
        with pq.ParquetFile(file) as parquet:
            count = sum(batch.num_rows for batch in parquet.iter_batches())
    except (pa.ArrowException, OSError) as error:
        return f"cannot be read as Parquet: {error}"
    return "" if rows in (None, count) else f"has {count} rows, but the record has {rows}"
