"""A file of answered rows on this machine's disk: what a request leaves behind before it is part of the lake."""

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
from serving.contract import Given
from serving.rules import Values
from tasks.contracts import PartitionRef
from tasks.models.targets import prediction_columns
from tasks.storage import partitions
from tasks.storage.answer_log import SHADOW

log = logging.getLogger("serving")

Columns = dict[str, list[Any]]
"""Rows column by column."""
AGE, SIZE = 60.0, 8 << 20
"""Seconds and bytes after which a journal is made into segments."""


@dataclass(frozen=True)
class Call:
    """One request: its id here, since a client's own may come twice, what the client calls it, and when it came."""

    id: str
    client_id: str
    at: datetime


@dataclass(frozen=True)
class Answered:
    """The rows of one request that one version has answered, in one role."""

    model: str
    version: str
    as_of: datetime
    role: str
    given: Given
    said: np.ndarray
    call: Call
    places: np.ndarray | None = None
    """Which rows of the request these are, where two versions have answered it; None for all."""

    @property
    def rows(self) -> int:
        return len(self.said)


@dataclass
class Journal:
    """A file of JSON lines that this process holds locked; each line is some rows of one request."""

    path: Path
    opened: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # a file system without locks
            os.close(self.file)
            self.path.unlink(missing_ok=True)
            raise
        self.size = os.fstat(self.file).st_size

    def write(self, content: bytes) -> None:
        """Append and make it last; what a full disk took in part is cut off again.

        Raises:
            OSError: it could not be written.
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
        return self.size > 0 and (time.monotonic() - self.opened > AGE or self.size > SIZE)

    def close(self) -> None:
        os.close(self.file)


def line(answered: Answered, config: ModelConfig) -> bytes:
    """Some rows of one request as JSON, column by column."""
    given, call = answered.given, answered.call
    rows = list(range(given.rows)) if answered.places is None else answered.places.tolist()
    keys = [key or f"{call.id}-{row}" for key, row in zip(given.keys, rows, strict=True)]
    shadow = answered.role == SHADOW  # the row itself stands beside it already
    told = prediction_columns(_predicted(answered.said, config), config.target)
    if odd := [name for name, own in (dict(given.values) | told).items() if len(own) != given.rows]:
        raise ValueError(f"{', '.join(odd)} has not a value for each row")
    content = {
        "rows": rows,
        "keys": keys,
        "times": [moment or call.at for moment in given.times],
        "values": {} if shadow else {name: _written(column) for name, column in given.values.items()},
        "said": {name: _written(column) for name, column in told.items()},
        "version": answered.version,
        "as_of": answered.as_of,
        "role": answered.role,
        "request_id": call.id,
        "client_id": call.client_id or None,
        "at": call.at,
    }
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _predicted(said: np.ndarray, config: ModelConfig) -> np.ndarray:
    """As a partition's predictions have it: of two classes the probability of 1."""
    return said[:, 1] if config.target.kind == "binary" else said


def _written(column: Values) -> Values:
    """A column as orjson takes it, which writes NaN as null. One of texts is a list."""
    if isinstance(column, np.ndarray):
        return column.tolist() if column.dtype == object else np.ascontiguousarray(column)
    return column


def in_use(path: Path) -> bool:
    """Whether a living process holds a journal."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:  # it is, or it has gone just now
        return True


def by_partition(path: Path, config: ModelConfig) -> dict[str, Columns]:
    """The rows of a journal by the partition that their time lies in. A last line that is cut off was never written."""
    found: dict[str, list[Columns]] = defaultdict(list)
    lines = path.read_bytes().split(b"\n")
    span: PartitionRef | None = None
    for number, text in enumerate(lines):
        if not text:
            continue
        try:
            columns = _columns(orjson.loads(text), config)
        except orjson.JSONDecodeError:
            if number < len(lines) - 1:
                log.error("%s: line %d cannot be read, and is lost", path, number + 1)
            continue
        places: dict[str, list[int]] = defaultdict(list)
        for at, moment in enumerate(columns[config.time]):
            if span is None or not span.start <= moment < span.end:
                span = partitions.containing(config, moment)
            places[span.key].append(at)
        for key, some in places.items():
            whole = len(places) == 1
            found[key].append(columns if whole else {name: [own[at] for at in some] for name, own in columns.items()})
    return {key: _joined(parts, config.key) for key, parts in found.items()}


def _columns(content: Mapping[str, Any], config: ModelConfig) -> Columns:
    """One line's rows."""
    count = len(content["rows"])
    same = {"model_version": content["version"], "role": content["role"], "request_id": content["request_id"]}
    same["client_id"] = content["client_id"]
    same |= {"as_of": datetime.fromisoformat(content["as_of"]), "served_at": datetime.fromisoformat(content["at"])}
    own = {config.key: content["keys"], config.time: list(map(datetime.fromisoformat, content["times"]))}
    own |= {"request_row": content["rows"]}
    return content["values"] | content["said"] | {name: [value] * count for name, value in same.items()} | own


def _joined(parts: Sequence[Columns], key: str) -> Columns:
    """One after another; a column that some do not have is None there."""
    names = dict.fromkeys(chain.from_iterable(parts))
    return {
        name: list(chain.from_iterable(part.get(name) or repeat(None, len(part[key])) for part in parts))
        for name in names
    }
