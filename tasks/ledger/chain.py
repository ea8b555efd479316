"""The hash chains of a model: one over its rows in `promotions`, and one over all that the ledger has written about it.

A hash covers the content and the hash before. What was changed, deleted or inserted later is detected, unless all later hashes and
their copies in MLflow and in the Prefect events were rewritten too (see docs/audit.md).
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from tasks.contracts import Promotion
from tasks.storage.files import digest_json

Kind = Literal["promotion", "fact", "decision", "outcome", "hindsight"]
"""What an entry of the chain is about. A decision has two: one when it is made, and one with the outcome of its retraining."""
LABEL: dict[str, str] = {
    "promotion": "row",
    "fact": "fact",
    "decision": "the decision about fact",
    "outcome": "the outcome of the retraining for fact",
    "hindsight": "the measured effect of row",
}


@dataclass(frozen=True)
class Entry:
    """One entry of a model's chain.

    Attributes:
        number: From 1.
        key: The sequence of the promotion or of the measured effect, the id of the fact.
        digest: SHA-256 of the content; for a promotion its own hash.
        previous_hash: `hash` of the entry before, empty for the first.
        hash: SHA-256 of all other fields.
    """

    model: str
    number: int
    kind: Kind
    key: str
    digest: str
    previous_hash: str
    hash: str = ""

    @property
    def label(self) -> str:
        """Such as `row 3` or `the decision about fact 1f0c2a9b-...`."""
        return f"{LABEL.get(self.kind, self.kind)} {self.key}"


def as_stored(value: Any) -> Any:
    """Return a value as the database returns it: times in UTC, mappings and tuples after a JSON round trip."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return json.loads(json.dumps(value, default=str)) if isinstance(value, dict | list | tuple) else value


def row_hash(row: Promotion) -> str:
    """Return the SHA-256 of the row's canonical JSON without its own hash."""
    return digest_json({name: as_stored(value) for name, value in vars(row).items() if name != "hash"})


def entry_hash(entry: Entry) -> str:
    """Return the SHA-256 of the entry's canonical JSON without its own hash."""
    return digest_json({name: value for name, value in vars(entry).items() if name != "hash"})


def next_entry(model: str, last: Entry | None, kind: Kind, key: str, digest: str) -> Entry:
    """Return the entry after `last`."""
    number, previous_hash = (last.number + 1, last.hash) if last else (1, "")
    entry = Entry(model, number, kind, key, digest, previous_hash)
    return replace(entry, hash=entry_hash(entry))


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


def differing_marks(
    rows: Sequence[Promotion], marks: Mapping[str, Mapping[int, str]], undelivered: Collection[int], last_delivered: int
) -> list[str]:
    """Return the differences between rows and their marks in MLflow, and the gaps in their deliveries, one sentence each.

    Args:
        rows: The rows to compare.
        marks: Hash by version and sequence. A row that is not delivered may have no mark.
        undelivered: Sequences of the rows that are not delivered.
        last_delivered: Sequence of the newest delivered row, read before `undelivered`.
    """
    problems = []
    for row in rows:
        waits, mark = row.sequence in undelivered, marks.get(row.version, {}).get(row.sequence)
        if waits and row.sequence < last_delivered:
            problems.append(
                f"row {row.sequence} is not recorded as delivered, but row {last_delivered} after it is: the record was deleted"
            )
        if mark is not None and mark != row.hash:
            problems.append(f"row {row.sequence}: version {row.version} in MLflow has another hash of it")
        elif row.version not in marks and not waits:
            problems.append(f"row {row.sequence}: version {row.version} no longer exists in MLflow")
        elif mark is None and not waits:
            problems.append(f"row {row.sequence}: version {row.version} in MLflow has no mark of it")
    return problems


def unknown_marks(rows: Sequence[Promotion], marks: Mapping[str, Mapping[int, str]]) -> list[str]:
    """Return the marks in MLflow of rows that the ledger does not have, one sentence each.

    Args:
        rows: All rows of the model, read after the marks.
    """
    known = {(row.version, row.sequence) for row in rows}
    unknown = sorted((n, version) for version, own in marks.items() for n in own if (version, n) not in known)
    return [
        f"version {version} in MLflow has a mark of row {n}, which the ledger does not have" for n, version in unknown
    ]


def differing_anchors(entries: Sequence[Entry], anchors: Mapping[str, tuple[int, str]]) -> list[str]:
    """Return the differences between a model's chain and the hashes of earlier entries on versions in MLflow.

    Args:
        entries: The entries of the model.
        anchors: Number and hash of an entry by version.
    """
    hashes = {entry.number: entry.hash for entry in entries}
    return [
        f"version {version} in MLflow has another hash of entry {number} of the chain"
        if number in hashes
        else f"version {version} in MLflow has the hash of entry {number} of the chain, which the ledger does not have"
        for version, (number, anchor) in anchors.items()
        if hashes.get(number) != anchor
    ]


def broken_entries(entries: Sequence[Entry], digests: Mapping[tuple[str, str], str]) -> list[str]:
    """Return the differences between a model's chain and what the ledger contains, one sentence each.

    Args:
        entries: All entries of the model, oldest first.
        digests: The digest of the present content by kind and key, see `tasks.ledger.contents`.
    """
    problems, last, chained = [], None, set()
    for entry in entries:
        identity = (entry.kind, entry.key)
        if entry != next_entry(entry.model, last, entry.kind, entry.key, entry.digest):
            problems.append(
                f"entry {entry.number} of the chain ({entry.label}) does not follow the entry before it: one of them was changed, or "
                f"entries were deleted"
            )
        if identity in chained:
            problems.append(f"{entry.label} is in the chain twice")
        elif identity not in digests:
            problems.append(f"{entry.label} was deleted after it was written")
        elif digests[identity] != entry.digest:
            problems.append(f"{entry.label} was changed after it was written")
        chained.add(identity)
        last = entry
    inserted = (Entry("", 0, kind, key, "", "") for kind, key in digests if (kind, key) not in chained)  # type: ignore[arg-type]
    return problems + [f"{entry.label} is not in the chain: Evergreen has not written it" for entry in inserted]
