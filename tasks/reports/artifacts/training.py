"""What `train` leaves: what was tried, and what the gate said of it."""

from collections.abc import Sequence
from dataclasses import replace

from prefect.artifacts import create_table_artifact

from tasks.contracts import GateDecision, Training, Trial
from tasks.orchestration.run_names import page_key
from tasks.reports.artifacts.model import publish_model
from tasks.reports.artifacts.page import publish_page, version_link
from tasks.resources import Resources


def publish_training(res: Resources, training: Training) -> Training:
    """The page and the gate's table of a `train` run; returns what it was given, the ledger's last row in it."""
    name, decision, window, judged = res.config.name, training.decision, training.window, training.comparison
    rows = [row for row in res.ledger.promotions() if row.version == training.version]
    training = replace(training, row=rows[-1] if rows else None)
    page = [
        f"Window {window.span}, as of {window.as_of:%Y-%m-%d}"
        + (f"; judged on {judged.start:%Y-%m-%d} to {judged.end:%Y-%m-%d}." if judged else "."),
        *(f"Passed over, since blocked: {key}." for key in window.passed_over),
        "",
        *trial_table(training.selection.trials),
        "",
        *(f"- {row.action}: {row.reason}" for row in rows),
        *_version_links(res, training),
    ]
    create_table_artifact(
        gate_rows(decision),
        key=page_key(name, "gate"),
        description=f"{name}: {gate_headline(decision)}",
    )
    publish_page(res, "train", training_headline(name, training), page)
    if res.ledger.in_flight() is None:  # else `retrain` goes on, and says how it ended
        publish_model(res)
    return training


def training_headline(name: str, training: Training) -> str:
    """What became of a training, in a line."""
    row, version = training.row, training.version
    if not version:
        return f"{name}: no candidate beats the baseline, so none was fitted; the champion stays. {'; '.join(training.decision.reasons)}"
    if row is None or row.to_stage == "refused":
        why = "; ".join(training.decision.reasons) or (row.reason if row else "")
        return f"{name}: version {version} was refused by the gate; the champion stays. {why}"
    if row.to_stage == "champion":
        return f"{name}: version {version} is champion for partitions after {row.as_of:%Y-%m-%d}."
    if row.action == "request":
        return f"{name}: version {version} passed the gate and waits for a person to run `promote`."
    return f"{name}: version {version} passed the gate and scores in the champion's shadow from now on."


def trial_table(trials: Sequence[Trial]) -> list[str]:
    """What was tried on the validation splits, as a markdown table."""
    head = ["| tried | loss on the validation splits | beats the baseline | |", "|---|---|---|---|"]
    cells = [
        (t.name, f"{t.loss:.5f}", "" if t.name.startswith("baseline") else "yes" if t.beats_baseline else "no", t.note)
        for t in trials
    ]
    return head + ["| " + " | ".join(cell) + " |" for cell in cells]


def gate_headline(decision: GateDecision) -> str:
    """What the gate said, in a line."""
    refused = [v.rule for v in decision.verdicts if not v.passed]
    about = f"version {decision.version}" if decision.version else "no candidate"
    return f"the gate refused {about}: {'; '.join(refused)}" if refused else f"the gate passed {about} on every rule"


def gate_rows(decision: GateDecision) -> list[dict[str, str]]:
    return [
        {
            "rule": v.rule,
            "verdict": "REFUSED" if v.outcome == "failed" else v.outcome,
            "value": f"{v.value:.5g}",
            "threshold": f"{v.threshold:.5g}",
            "note": v.note,
        }
        for v in decision.verdicts
    ]


def _version_links(res: Resources, training: Training) -> list[str]:
    """The MLflow pages of the challenger and of its refit."""
    made = {v.version: v for v in (training.challenger, training.final) if v}
    return [link for version in made.values() for link in version_link(res, version.version, version.run_id)]
