"""The hash chain over a model's rows in `promotions`.

Each row's hash covers its own fields and the hash of the row before, so that a row that was
changed, taken out or slipped in later shows, unless whoever did it could also rewrite every later
row, the MLflow runs and the events that carry the hashes too (docs/audit.md says more).
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tasks.contracts import Promotion
from tasks.storage.files import digest_json


def plain(value: Any) -> Any:
    """A value as it comes back from the database: times in UTC, mappings and tuples as JSON has them."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return json.loads(json.dumps(value, default=str)) if isinstance(value, dict | list | tuple) else value


def row_hash(row: Promotion) -> str:
    """SHA-256 of the row's canonical JSON without its own hash."""
    return digest_json({name: plain(value) for name, value in vars(row).items() if name != "hash"})


def broken_links(rows: Sequence[Promotion]) -> list[str]:
    """What is wrong with a model's rows, oldest first, a sentence each; nothing when the chain holds."""
    found, before, expected = [], "", 1
    for row in rows:
        if row.sequence != expected:
            found.append(f"row {expected} is missing before row {row.sequence}")
        if row.previous_hash != before:
            found.append(
                f"row {row.sequence} does not follow the row before it: that one was changed, or rows were taken out"
            )
        if row_hash(row) != row.hash:
            found.append(f"row {row.sequence} (version {row.version}, {row.action}) was changed after it was written")
        before, expected = row.hash, row.sequence + 1
    return found
