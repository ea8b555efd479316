"""Markdown pages and tables that a run creates in Prefect. The first line states what happened and what to do next."""

from tasks.reports.artifacts.backfills import outcome_state, publish_backfill, publish_plan
from tasks.reports.artifacts.decisions import (
    audit_headline,
    audit_lines,
    publish_audit,
    publish_decision,
    publish_hindsights,
    publish_promotion,
    publish_reproduction,
)
from tasks.reports.artifacts.model import publish_model
from tasks.reports.artifacts.partitions import publish_assess, publish_process, step_table
from tasks.reports.artifacts.selection import publish_selection
from tasks.reports.artifacts.training import publish_training

__all__ = [
    "audit_headline",
    "audit_lines",
    "outcome_state",
    "publish_assess",
    "publish_audit",
    "publish_backfill",
    "publish_decision",
    "publish_hindsights",
    "publish_model",
    "publish_plan",
    "publish_process",
    "publish_promotion",
    "publish_reproduction",
    "publish_selection",
    "publish_training",
    "step_table",
]
