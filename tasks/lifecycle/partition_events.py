"""What the events about a partition say, for flows that use its outputs elsewhere. docs/events.md describes the fields."""

from typing import Any

from tasks.contracts import PartitionRef, PartitionRun, Stage
from tasks.resources import Resources
from tasks.steps.drift_verdict import drift_at
from tasks.steps.step import done_record


def is_newly_blocked(run: PartitionRun) -> bool:
    """Whether a run has blocked its partition. A source that does not answer blocks nothing."""
    return bool(run.newly_blocked) and not any(verb == "read" for verb, _, _ in run.steps)


def has_new_outputs(run: PartitionRun, ref: PartitionRef, res: Resources) -> bool:
    """Whether a run has made predictions or, without a champion, valid rows."""
    scored = done_record(Stage.PREDICTIONS, ref, res) is not None
    return ("score" if scored else "validate") in run.steps_run and done_record(Stage.VALID, ref, res) is not None


def processed_payload(ref: PartitionRef, res: Resources) -> dict[str, Any]:
    """Describe the outputs of a processed partition, and where its predictions are. Without a champion there are none."""
    raw, valid, scored = (done_record(stage, ref, res) for stage in (Stage.RAW, Stage.VALID, Stage.PREDICTIONS))
    drift = drift_at(ref, res)
    return {
        "as_of": (scored or ref).as_of.isoformat(),
        "rows": valid.rows if valid else 0,
        "quarantined": int(valid.data.get("quarantined", 0)) if valid else 0,
        "late_rows": int(raw.data.get("late_rows", 0)) if raw else 0,
        "version": scored.data["version"] if scored else None,
        "drifted": bool(drift["detected"]) if drift else None,
        "predictions": str(res.lake.file(Stage.PREDICTIONS, ref.key)) if scored else None,
        "digest": scored.digest if scored else None,
    }


def blocked_payload(run: PartitionRun) -> dict[str, Any]:
    """Say at which step a partition is blocked, and why."""
    verb = next((verb for verb, state, _ in run.steps if state in ("blocked", "failed")), "")
    return {"step": verb, "reason": run.newly_blocked}


def assessed_payload(ref: PartitionRef, res: Resources) -> dict[str, Any]:
    """Describe the measured performance of a partition's predictions."""
    measured = res.lake.done(Stage.PERFORMANCE, ref.key)
    scored, loss = res.lake.done(Stage.PREDICTIONS, ref.key), res.config.target.eval_loss
    return {
        "as_of": measured.as_of.isoformat(),
        "version": scored.data["version"],
        "loss": loss,
        "value": measured.data["metrics"].get(loss),
        "interval": measured.data["intervals"].get(loss),
        "labelled": measured.data["mature"],
        "pending": measured.data["pending"],
        "predictions": str(res.lake.file(Stage.PREDICTIONS, ref.key)),
    }
