"""Read, write and compare the JSON records that lie beside the partitions' files."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from tasks.contracts import Record
from tasks.storage.files import digest_json

_RECORD = TypeAdapter(Record)


@functools.lru_cache(maxsize=50_000)
def read_cached(path: str, changed: int, inode: int, size: int) -> Record:
    """A record, cached until its file is replaced, because each is read many times."""
    return _RECORD.validate_json(Path(path).read_bytes())


def parse_record(content: bytes) -> Record:
    """Read a record.

    Raises:
        ValueError: it is not a record.
    """
    return _RECORD.validate_json(content)


def dump_record(record: Record) -> bytes:
    """A record as JSON."""
    return _RECORD.dump_json(record, indent=1)


def record_checksum(content: Mapping[str, Any]) -> str:
    """Digest of a record's JSON object without its checksum."""
    return digest_json({**content, "run": {name: v for name, v in content["run"].items() if name != "checksum"}})


def changed_inputs(record: Record, version: int, inputs: Mapping[str, str]) -> list[str]:
    """The names of the inputs whose digests differ from the record, and the stage's code if its version differs."""
    names = [name for name in {**record.inputs, **inputs} if record.inputs.get(name) != inputs.get(name)]
    return sorted(names) + (["the stage's code"] if record.version != version else [])
