"""Journals: files of served predictions on the local disk, until they are written to the lake."""

import fcntl
import logging
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from configs.schema import ModelConfig
from serving.contract import InputRows
from serving.rules import Values
from tasks.contracts import PartitionRef
from tasks.models.targets import prediction_columns
from tasks.storage import partitions
from tasks.storage.answer_log import SHADOW
from tasks.storage.folders import make_folder

log = logging.getLogger("serving")

Columns = dict[str, list[Any]]
"""Values of rows by column."""
MAX_AGE, MAX_SIZE = 60.0, 8 << 20
"""Seconds and bytes after which a journal is converted into segments."""


@dataclass(frozen=True)
class Call:
    """One request: its unique id, the id that the client sent (not necessarily unique), and when it arrived (UTC)."""

    id: str
    client_id: str
    at: datetime


@dataclass(frozen=True)
class ScoredRows:
    """Rows of one request with the predictions of one version in one role."""

    model: str
    version: str
    as_of: datetime
    role: str
    inputs: InputRows
    predictions: np.ndarray
    call: Call
    positions: np.ndarray | None = None
    """Positions of the rows in the request if two versions share it, None for all rows."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.predictions)


@dataclass
class Journal:
    """A file of JSON lines that this process locks. Each line has rows of one request."""

    path: Path
    opened: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        make_folder(self.path.parent)
        self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # a file system without locks
            os.close(self.file)
            self.path.unlink(missing_ok=True)
            raise
        self.size = os.fstat(self.file).st_size

    def write(self, content: bytes) -> None:
        """Append content and flush it to disk. After a partial write the file is truncated to its previous size.

        Raises:
            OSError: The content could not be written.
        """
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(self.file, view) :]
            os.fsync(self.file)
        except OSError:
            os.ftruncate(self.file, self.size)
            raise
        self.size += len(content)

    @property
    def due(self) -> bool:
        """Whether the file is old or large enough to be converted, and not empty."""
        return self.size > 0 and (time.monotonic() - self.opened > MAX_AGE or self.size > MAX_SIZE)

    def close(self) -> None:
        """Close the file, which also releases its lock."""
        os.close(self.file)


def encode_line(scored: ScoredRows, config: ModelConfig) -> bytes:
    """Encode rows of one request as a line of JSON with a list for each column."""
    inputs, call = scored.inputs, scored.call
    rows = list(range(inputs.rows)) if scored.positions is None else scored.positions.tolist()
    keys = [key or f"{call.id}-{row}" for key, row in zip(inputs.keys, rows, strict=True)]
    shadow = scored.role == SHADOW  # the features are recorded with the champion's prediction
    predictions = prediction_columns(_target_predictions(scored.predictions, config), config.target)
    columns = dict(inputs.values) | predictions
    if mismatched := [name for name, values in columns.items() if len(values) != inputs.rows]:
        raise ValueError(f"{', '.join(mismatched)}: the number of values differs from the number of rows")
    content = {
        "rows": rows,
        "keys": keys,
        "times": [time or call.at for time in inputs.times],
        "values": {} if shadow else {name: _json_column(column) for name, column in inputs.values.items()},
        "said": {name: _json_column(column) for name, column in predictions.items()},  # a persisted key
        "version": scored.version,
        "as_of": scored.as_of,
        "role": scored.role,
        "request_id": call.id,
        "client_id": call.client_id or None,
        "at": call.at,
    }
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _target_predictions(predictions: np.ndarray, config: ModelConfig) -> np.ndarray:
    """Return predictions as partitions store them: for a binary target only the probability of class 1."""
    return predictions[:, 1] if config.target.kind == "binary" else predictions


def _json_column(column: Values) -> Values:
    """Return a column in a form that orjson can encode. It writes NaN as null and cannot encode arrays of objects."""
    if isinstance(column, np.ndarray):
        return column.tolist() if column.dtype == object else np.ascontiguousarray(column)
    return column


def is_locked(path: Path) -> bool:
    """Whether a running process has locked a journal, or the journal does not exist any more."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True


def rows_by_partition(path: Path, config: ModelConfig) -> dict[str, Columns]:
    """Return the rows of a journal by the partition of their time. An incomplete last line is ignored: its write was interrupted."""
    by_key: dict[str, list[Columns]] = defaultdict(list)
    lines = path.read_bytes().split(b"\n")
    span: PartitionRef | None = None
    for number, text in enumerate(lines):
        if not text:
            continue
        try:
            columns = _columns(orjson.loads(text), config)
        except orjson.JSONDecodeError:
            if number < len(lines) - 1:
                log.error("%s: line %d is not valid JSON, its rows are lost", path, number + 1)
            continue
        positions: dict[str, list[int]] = defaultdict(list)
        for i, row_time in enumerate(columns[config.time]):
            if span is None or not span.start <= row_time < span.end:
                span = partitions.containing(config, row_time)
            positions[span.key].append(i)
        for key, selected in positions.items():
            whole = len(positions) == 1
            part = columns if whole else {name: [values[i] for i in selected] for name, values in columns.items()}
            by_key[key].append(part)
    return {key: _concatenate(parts, config.key) for key, parts in by_key.items()}


def _columns(content: Mapping[str, Any], config: ModelConfig) -> Columns:
    """Return the rows of one line by the columns of a segment."""
    count = len(content["rows"])
    same = {"model_version": content["version"], "role": content["role"], "request_id": content["request_id"]}
    same["client_id"] = content["client_id"]
    same |= {"as_of": datetime.fromisoformat(content["as_of"]), "served_at": datetime.fromisoformat(content["at"])}
    values = {config.key: content["keys"], config.time: list(map(datetime.fromisoformat, content["times"]))}
    values |= {"request_row": content["rows"]}
    return content["values"] | content["said"] | {name: [value] * count for name, value in same.items()} | values


def _concatenate(parts: Sequence[Columns], key: str) -> Columns:
    """Concatenate parts. Columns that a part does not have are None in its rows."""
    names = dict.fromkeys(chain.from_iterable(parts))
    return {
        name: list(chain.from_iterable(part.get(name) or repeat(None, len(part[key])) for part in parts))
        for name in names
    }
