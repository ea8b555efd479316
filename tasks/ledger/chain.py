"""The hash chain over a model's rows in `promotions`.

The hash of each row covers its own fields and the hash of the row before. A row that was changed, deleted or inserted later is
detected, unless all later rows and the hashes in MLflow and in the Prefect events were rewritten too (see docs/audit.md).
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tasks.contracts import Promotion
from tasks.storage.files import digest_json


def as_stored(value: Any) -> Any:
    """Return a value as the database returns it: times in UTC, mappings and tuples after a JSON round trip."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return json.loads(json.dumps(value, default=str)) if isinstance(value, dict | list | tuple) else value


def row_hash(row: Promotion) -> str:
    """Return the SHA-256 of the row's canonical JSON without its own hash."""
    return digest_json({name: as_stored(value) for name, value in vars(row).items() if name != "hash"})


def broken_links(rows: Sequence[Promotion]) -> list[str]:
    """Return the errors in a model's hash chain, one sentence each. Empty if the chain is intact.

    Args:
        rows: All rows of the model, oldest first.
    """
    problems, previous_hash, expected = [], "", 1
    for row in rows:
        if row.sequence != expected:
            problems.append(f"row {expected} is missing before row {row.sequence}")
        if row.previous_hash != previous_hash:
            problems.append(
                f"row {row.sequence} does not follow the row before it: that row was changed, or rows were deleted"
            )
        if row_hash(row) != row.hash:
            problems.append(
                f"row {row.sequence} (version {row.version}, {row.action}) was changed after it was written"
            )
        previous_hash, expected = row.hash, row.sequence + 1
    return problems
