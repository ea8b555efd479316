"""Records of what was sent, beside the lake's partitions.

    <root>/<model>/sent/<sink>/<partition>.json       what the sink has of the partition
    <root>/<model>/sent/<sink>/<partition>.failure    why the last attempt failed

A sink that is no longer in model.yaml keeps its records, and nothing reads them.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import TypeAdapter
from upath import UPath

from tasks.contracts import RunInfo
from tasks.storage.files import replacing
from tasks.storage.lake import Lake

FOLDER = "sent"


@dataclass(frozen=True)
class Sent:
    """What a sink has of one partition.

    Attributes:
        output: What was sent, such as `predictions`.
        target: The place, without user and password.
        digest: Digest of the output that was sent.
        as_of: As-of of the output.
        run: The run that sent it.
    """

    model: str
    sink: str
    output: str
    partition: str
    target: str
    digest: str
    rows: int
    as_of: datetime
    model_version: str
    run: RunInfo


_SENT = TypeAdapter(Sent)


def read_sent(lake: Lake, sink: str, key: str) -> Sent | None:
    """The record of what a sink has of a partition. None if there is none, or if it cannot be read."""
    with suppress(FileNotFoundError, ValueError):
        return _SENT.validate_json(_path(lake, sink, key, "json").read_bytes())
    return None


def write_sent(lake: Lake, sent: Sent) -> None:
    """Write the record of what was sent, and delete the note of an earlier failure."""
    with replacing(_path(lake, sent.sink, sent.partition, "json")) as draft:
        draft.write_bytes(_SENT.dump_json(sent, indent=1) + b"\n")
    _path(lake, sent.sink, sent.partition, "failure").unlink(missing_ok=True)


def write_failure(lake: Lake, sink: str, key: str, error: str) -> None:
    """Note why an attempt failed. The record of what was sent earlier stays."""
    note = {"error": error, "at": datetime.now(UTC).isoformat()}
    with replacing(_path(lake, sink, key, "failure")) as draft:
        draft.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def failures(lake: Lake, sink: str) -> Iterator[tuple[str, str, datetime]]:
    """Yield partition, error and time of each failure of a sink that no later attempt has ended, newest partition first."""
    folder = lake.root / FOLDER / sink
    for path in sorted(folder.glob("*.failure"), key=lambda path: path.stem, reverse=True):
        if path.name.startswith("."):
            continue
        with suppress(FileNotFoundError, ValueError, KeyError):
            note = json.loads(path.read_text(encoding="utf-8"))
            yield path.stem, str(note["error"]), datetime.fromisoformat(note["at"])


def _path(lake: Lake, sink: str, key: str, suffix: str) -> UPath:
    return lake.root / FOLDER / sink / f"{key}.{suffix}"
