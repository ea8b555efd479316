"""What a run found out about partitions: the text of its state's message, and the tags by which Prefect filters."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.contracts import Fact, FactKind, PartitionRun
from tasks.contracts.words import counted
from tasks.drift.columns import methods
from tasks.orchestration.run_tags import partition_tags
from tasks.resources import Resources
from tasks.steps.drift_verdict import drift_verdicts

FACT_TAGS: Mapping[FactKind, str] = {"drift": "drift", "decay": "decay", "estimate": "decay"}
"""The tag of a run that emitted a fact of this kind."""


def drift_of(keys: Sequence[str], res: Resources) -> dict[str, str]:
    """Describe the drift of each of some partitions that has drifted, as in `drift in 7 of 30 columns (carrier_late_7d first)`."""
    compared = methods(res.config)
    return {
        key: _drift_text(verdict["columns"], len(compared))
        for key, verdict in drift_verdicts(keys, res).items()
        if verdict["detected"]
    }


def _drift_text(columns: Sequence[Mapping[str, Any]], compared: int) -> str:
    names = list(dict.fromkeys(c["column"] for c in columns if c["drifted"]))
    first = f" ({names[0]} first)" if len(names) > 1 else f" ({names[0]})" if names else ""
    return f"drift in {len(names)} of {counted(compared, 'column')}{first}"


def outcome_text(drifted: Mapping[str, str], facts: Sequence[Fact], single: bool) -> str:
    """Describe drift, decay and the emitted facts of a run, beginning with a comma; empty if there are none.

    Args:
        drifted: What `drift_of` returned.
        facts: The facts of the partitions that the run worked on.
        single: Whether it worked on one partition, which the message names before.
    """
    text = ""
    if drifted:
        key, first = next(iter(drifted.items()))
        text += f", {first}" if single else f", drift in {counted(len(drifted), 'partition')}, first {key}: {first}"
    decayed = [f for f in facts if FACT_TAGS.get(f.kind) == "decay"]
    for fact in decayed[:1]:
        kind = "estimated decay" if fact.kind == "estimate" else "decay"
        text += f", {kind}{'' if single else f' in {fact.partition}'}: {fact.payload['told']}"
    outcomes = [f for f in facts if f.payload.get("of") == "outcomes"]
    text += f", {outcomes[0].payload['told']}" if outcomes else ""
    if facts:
        text += ", fact emitted" if len(facts) == 1 else f", {len(facts)} facts emitted"
    return text


def run_tags(runs: Sequence[PartitionRun], drifted: Mapping[str, str], facts: Sequence[Fact]) -> list[str]:
    """Return the tags of a run: the partitions that it worked on, and their outcomes."""
    tags = partition_tags(r.partition for r in runs if r.steps_run or r.newly_blocked)
    tags += ["drift"] if drifted else []
    tags += ["blocked"] if any(r.newly_blocked for r in runs) else []
    return [*tags, *sorted({FACT_TAGS[f.kind] for f in facts if f.kind in FACT_TAGS})]
