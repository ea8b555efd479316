"""Frozen dataclasses that the other packages exchange: small values, no data frames. Standard library only.

Every time is an aware datetime in UTC. Every range is half-open, `[start, end)`.
"""

from tasks.contracts.backfills import (
    Cell,
    ChampionChoice,
    Mode,
    Order,
    Outcome,
    Plan,
    Request,
    Runner,
    StageChoice,
)
from tasks.contracts.checks import ColumnDrift, Drift, Finding, Validation
from tasks.contracts.decisions import (
    AUTOMATION,
    FOR_PEOPLE,
    SERVING,
    STAGE_AFTER,
    Action,
    Decision,
    Fact,
    FactKind,
    Hindsight,
    ModelStage,
    PolicyInputs,
    Promotion,
    Training,
)
from tasks.contracts.judging import Comparison, Fairness, GateDecision, Interval, Query, Scorecard, Segment, Verdict
from tasks.contracts.learning import BASELINE, Learned, Recipe, Registration, Selection, Trial, Version, Window
from tasks.contracts.partitions import Freshness, PartitionRef, PartitionRun, Record, RunInfo, Stage
from tasks.contracts.replays import PartitionResult, PolicyRun

__all__ = [
    "AUTOMATION",
    "BASELINE",
    "FOR_PEOPLE",
    "SERVING",
    "STAGE_AFTER",
    "Action",
    "Cell",
    "ChampionChoice",
    "ColumnDrift",
    "Comparison",
    "Decision",
    "Drift",
    "Fact",
    "FactKind",
    "Fairness",
    "Finding",
    "Freshness",
    "GateDecision",
    "Hindsight",
    "Interval",
    "Learned",
    "Mode",
    "ModelStage",
    "Order",
    "Outcome",
    "PartitionRef",
    "PartitionResult",
    "PartitionRun",
    "Plan",
    "PolicyInputs",
    "PolicyRun",
    "Promotion",
    "Query",
    "Recipe",
    "Record",
    "Registration",
    "Request",
    "RunInfo",
    "Runner",
    "Scorecard",
    "Segment",
    "Selection",
    "Stage",
    "StageChoice",
    "Training",
    "Trial",
    "Validation",
    "Verdict",
    "Version",
    "Window",
]
