"""Artifacts of a `train` run: the trials and the verdicts of the gate."""

from collections.abc import Sequence
from dataclasses import replace

from tasks.contracts import PRIOR, GateDecision, Training, Trial
from tasks.contracts.escape import for_markdown
from tasks.contracts.words import change_text
from tasks.reports.advice import advice
from tasks.reports.artifacts.model import publish_model
from tasks.reports.artifacts.page import publish_page, publish_table, table_lines, version_link
from tasks.reports.refusals import verdict_values
from tasks.resources import Resources

GATE_LEGEND = "A rule of which the value is on the wrong side of the threshold refuses the version; the note has what was compared."


def publish_training(res: Resources, training: Training) -> tuple[Training, str, list[str]]:
    """Create the page and the gate's table of a `train` run.

    Returns:
        The training with its newest row of the ledger, the headline, and the run's tags.
    """
    name, decision, window, comparison = res.config.name, training.decision, training.window, training.comparison
    rows = [row for row in res.ledger.promotions() if row.version == training.version]
    training = replace(training, row=rows[-1] if rows else None)
    page = [
        f"Window {window.span}, as of {window.as_of:%Y-%m-%d}"
        + (f"; judged on {comparison.start:%Y-%m-%d} to {comparison.end:%Y-%m-%d}." if comparison else "."),
        *(f"Skipped, because it is blocked: {key}." for key in window.passed_over),
        "",
        *trial_table(training.selection.trials),
        "",
        *(f"- {row.action}: {for_markdown(row.reason)}" for row in rows),
        *(refused_change(training.refused) if training.refused else ()),
        *_version_links(res, training),
    ]
    publish_table(res, "gate", gate_rows(decision), f"{name}: {gate_headline(decision)}. {GATE_LEGEND}")
    line = publish_page(res, "train", training_headline(name, training, what_to_change(training, res)), page)
    if res.ledger.in_flight() is None:  # otherwise `retrain` publishes it at its end
        publish_model(res)
    return training, line, training_tags(training)


def training_tags(training: Training) -> list[str]:
    """Return the tags of a `train` run: the version, and whether it was promoted or refused."""
    row, version = training.row, [f"v{training.version}"] if training.version else []
    if row is None or row.to_stage == "refused":
        return [*version, "refused"]
    return [*version, "promoted"] if row.to_stage == "champion" else version


def refused_change(decision: GateDecision) -> list[str]:
    """Describe a change that was refused before the champion's recipe was judged in its place."""
    reasons = "; ".join(decision.reasons)
    return [
        f"- change: version {decision.version} was refused, so the champion's recipe was judged: {for_markdown(reasons)}"
    ]


def what_to_change(training: Training, res: Resources) -> str:
    """Return what to change in model.yaml after a training that leaves the model without a champion; empty if it has one."""
    if training.decision.passed or res.ledger.champion():
        return ""
    return advice([verdict_values(verdict) for verdict in training.decision.verdicts], res.config)


def training_headline(name: str, training: Training, change: str = "") -> str:
    """Summarise the result of a training in one line. `change` is what to change if there is no champion."""
    row, version, reasons = training.row, training.version, "; ".join(training.decision.reasons)
    end = f"There is no champion yet. To change: {change}" if change else "The champion stayed"
    if not version:
        return f"{name}: nothing beats the prior, so none was fitted. {end}. {reasons}"
    if row is None or row.to_stage == "refused":
        reasons = reasons or (row.reason if row else "")
        return f"{name}: version {version} was refused by the gate: {reasons}. {end}."
    line = f"{name}: version {version} passed the gate and {change_text(row)}"
    if row.action == "request":
        return f"{line}: run `promote`."
    return f"{line}." if row.to_stage == "champion" else f"{line}, to score in shadow mode beside the champion."


def trial_table(trials: Sequence[Trial]) -> list[str]:
    """List the candidates with their loss on the validation splits, as a markdown table."""
    cells = [
        (t.name, f"{t.loss:.5f}", "" if t.name == PRIOR else "yes" if t.beats_baseline else "no", t.note)
        for t in trials
    ]
    return table_lines(("candidate", "loss on the validation splits", "beats the prior", ""), cells)


def gate_headline(decision: GateDecision) -> str:
    """Summarise the gate's verdicts in one line."""
    if not decision.version:
        return f"nothing beats the prior, so the gate judged none. {'; '.join(decision.reasons)}"
    failed = [v.rule for v in decision.verdicts if not v.passed]
    if failed:
        return f"the gate refused version {decision.version}. It did not pass: {'; '.join(failed)}"
    return f"the gate passed version {decision.version} on every rule"


def gate_rows(decision: GateDecision) -> list[dict[str, str]]:
    """Return a table row for each rule of the gate."""
    return [
        {
            "rule": v.rule,
            "verdict": "REFUSED" if v.outcome == "failed" else v.outcome,
            "value": f"{v.value:.4g}",
            "threshold": f"{v.threshold:.4g}",
            "note": v.note,
        }
        for v in decision.verdicts
    ]


def _version_links(res: Resources, training: Training) -> list[str]:
    """Return links to the challenger and its refit in MLflow."""
    versions = {v.version: v for v in (training.challenger, training.final) if v}
    return [link for version in versions.values() for link in version_link(res, version.version, version.run_id)]
