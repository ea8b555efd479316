"""Columns that are compared and shown, and do not count in the verdict: ignored ones and calendar features."""

from collections.abc import Sequence
from dataclasses import replace

from configs.schema import ModelConfig
from tasks.drift.calendar_features import calendar_columns
from tasks.drift.columns import PREDICTION
from tasks.drift.reference import Reference
from tasks.drift.sketches import Sketch

IGNORED = "does not count, by monitoring.ignore"
CALENDAR = "calendar feature: "


def split_by_counting(reference: Reference, current: Sketch, config: ModelConfig) -> list[Reference]:
    """Split a reference by whether and why its columns do not count: those get the reason as `missing_reason`."""
    if reference.missing_reason:
        return [reference]
    rules, partition = config.monitoring, config.partition
    ignored = dict.fromkeys((c for c in reference.columns if c in rules.ignore), IGNORED)
    others = reference.sketch.select_columns([c for c in reference.columns if c not in ignored and c != PREDICTION])
    calendar = calendar_columns(others, current, partition.every, rules.block, partition.timezone)
    reasons = ignored | {column: CALENDAR + why for column, why in calendar.items()}
    parts: dict[str, list[str]] = {}
    for column in reference.columns:
        parts.setdefault(reasons.get(column, ""), []).append(column)
    return [
        replace(reference, columns=tuple(c), sketch=reference.sketch.select_columns(c), missing_reason=why)
        for why, c in parts.items()
    ]


def columns_set_aside(against: Sequence[Reference]) -> set[str]:
    """The columns that `split_by_counting` has set aside."""
    return {
        c for r in against if r.missing_reason == IGNORED or r.missing_reason.startswith(CALENDAR) for c in r.columns
    }
