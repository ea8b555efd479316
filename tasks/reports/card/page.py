"""The model card: what a version is for, what it learned from, how good it is and where not, and why it passed or was refused.

One self-contained HTML page on the training's MLflow run, with its pictures beside it.
"""

import base64
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts import Comparison, Promotion, Scorecard, Training, Verdict, Version
from tasks.drift.workspace import project_id
from tasks.lifecycle.gate import evidence
from tasks.models.features import predict
from tasks.models.importance import importances
from tasks.models.targets import outcomes
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.reports.card import plots
from tasks.reports.pages.template import card_name, fill
from tasks.resources import Resources
from tasks.storage.files import replacing
from tasks.training.evaluation import judged_rows

if TYPE_CHECKING:
    import pandas as pd


@as_task("write the model card")
def publish_card(training: Training, res: Resources) -> None:
    """Put card, pictures, metrics and the gate's evidence on the MLflow runs of the judged version and of its refit.

    The card also lies among the pages.
    """
    judged, comparison = training.challenger, training.comparison
    assert judged
    assert comparison
    _, rows = judged_rows(training.window, comparison.start, res)
    worth = importances(res.load(judged.version), rows, res.config) if len(rows) else {}
    pictures = draw(judged, comparison, rows, worth, res) if len(rows) else {}
    page = render(training, pictures, worth, res)
    files = {f"plots/{name}": data for name, data in pictures.items()} | {"model-card.html": page.encode()}
    metrics = {f"holdout_{k}": v for k, v in comparison.challenger.metrics.items()}
    for name, interval in comparison.challenger.intervals.items():
        metrics |= {f"holdout_{name}_lower": interval.lower, f"holdout_{name}_upper": interval.upper}
    if comparison.gain:
        metrics |= {
            "gain": comparison.gain.value,
            "gain_lower": comparison.gain.lower,
            "gain_upper": comparison.gain.upper,
        }
    gate = {"gate.json": evidence(training.decision, comparison)}
    rows_about = [r for r in res.ledger.promotions() if r.version == training.version]
    headline = _headline(training, rows_about[-1] if rows_about else None)
    description = f"{headline}\n\nThe model card is among the artifacts. {_links(res)}"
    res.registry.annotate(judged.run_id, metrics, gate, files, description)
    for version in {judged.version, training.version}:  # beside the model's page, where nobody needs MLflow to read it
        with replacing(res.settings.pages / card_name(res.config.name, version)) as draft:
            draft.write_text(page, encoding="utf-8")
    if training.final and training.final.run_id != judged.run_id:
        res.registry.annotate(training.final.run_id, {}, gate, {"model-card.html": page.encode()}, description)
    run_log().info("model card of version %s written", judged.version)


def _links(res: Resources) -> str:
    """From MLflow to the flow run that trained, and to what is watched of the model."""
    made = f"[Prefect run]({res.settings.prefect_ui}/runs/flow-run/{res.flow_run}), " if res.flow_run else ""
    return f"{made}[drift and performance in Evidently]({res.settings.evidently_ui}/projects/{project_id(res.config.name)})."


def draw(
    judged: Version, comparison: Comparison, rows: "pd.DataFrame", worth: Mapping[str, float], res: Resources
) -> dict[str, bytes]:
    """The pictures of a comparison by file name; `worth` has each feature's importance."""
    config = res.config
    target, model = config.target, res.load(judged.version)
    outcome, mine = outcomes(rows, target), predict(model, rows, config)
    sides = {f"version {judged.version}": mine}
    if comparison.champion:
        other = comparison.champion.version
        sides[f"champion, version {other}"] = predict(res.load(other), rows, config)
    if target.kind == "binary":
        found = plots.binary_plots(outcome, sides) if 0 < outcome.sum() < len(outcome) else {}
    elif target.kind == "multiclass":
        found = plots.multiclass_plots(outcome, mine, target.classes)
    else:
        found = plots.regression_plots(outcome, mine)
    found["importances.png"] = plots.importance_plot(worth, target.judged_by)
    if comparison.segments:
        found["segments.png"] = plots.segment_plot(comparison.segments, target.judged_by)
    return found


def render(training: Training, pictures: Mapping[str, bytes], worth: Mapping[str, float], res: Resources) -> str:
    """The page; `worth` has each feature's importance."""
    judged, comparison = training.challenger, training.comparison
    assert judged
    assert comparison
    return fill(
        Path(__file__).parent / "card.html.j2",
        **_identity(training, judged, comparison, res),
        **_numbers(training, comparison),
        plots=[
            {"alt": name.removesuffix(".png").replace("-", " "), "data": base64.b64encode(data).decode()}
            for name, data in pictures.items()
        ],
        worth=[(name, f"{value:+.5f}") for name, value in sorted(worth.items(), key=lambda item: -item[1])],
        **_lineage(training, judged, worth, res),
    )


def _identity(training: Training, judged: Version, comparison: Comparison, res: Resources) -> dict[str, Any]:
    config = res.config
    rows = [r for r in res.ledger.promotions() if r.version == training.version]
    last = rows[-1] if rows else None
    days = config.target.delay / timedelta(days=1)
    target = f"{config.target.column} ({config.target.kind}), known {days:.3g} days after a row's time"
    final = training.final if training.final and training.final.version != judged.version else None
    span = f"{comparison.start:%Y-%m-%d} to {comparison.end:%Y-%m-%d}"
    return {
        "model": config.name,
        "version": judged.version,
        "description": config.description,
        "passed": training.decision.passed,
        "headline": _headline(training, last),
        "target": target,
        "recipe": judged.recipe,
        "params": ", ".join(f"{k}={v}" for k, v in sorted(judged.recipe.params.items())) or "the library's own",
        "learned": f"{judged.rows:,} labelled rows from {judged.window_start:%Y-%m-%d} to {judged.window_end:%Y-%m-%d}",
        "judged_on": f"{comparison.challenger.rows:,} rows from {span} in {comparison.blocks} blocks of time. {comparison.note}",
        "final": f"version {final.version}, the same recipe fitted on {final.rows:,} rows up to {final.window_end:%Y-%m-%d}"
        if final
        else "",
    }


def _headline(training: Training, last: Promotion | None) -> str:
    if not training.decision.passed:
        return "Refused by the gate: " + "; ".join(training.decision.reasons)
    stage = f" Version {last.version} is {last.to_stage}." if last else ""
    return f"Passed every rule of the gate.{stage}"


def _numbers(training: Training, comparison: Comparison) -> dict[str, Any]:
    cards = [c for c in (comparison.challenger, comparison.champion, comparison.prior) if c]
    names = ["this version", *(["champion"] if comparison.champion else []), "prior"]
    metrics = [
        {"name": name.replace("_", " "), "cells": [cell(card, name) for card in cards]}
        for name in comparison.challenger.metrics
    ]
    selection = training.selection
    chosen = selection.recipe.candidate if selection.recipe else ""
    count = len(selection.trials[0].losses)
    return {
        "columns": names,
        "metrics": metrics,
        "verdicts": [_verdict(v) for v in training.decision.verdicts],
        "splits": f"{count} validation split{'s' if count > 1 else ''}",
        "trials": [
            {"name": t.name, "loss": f"{t.loss:.5f}", "note": t.note, "chosen": t.recipe.candidate == chosen}
            for t in selection.trials
        ],
        "segments": [
            {
                "name": s.name,
                "rows": f"{s.rows:,}",
                "loss": f"{s.loss:.4f}",
                "champion": "" if s.champion_loss is None else f"{s.champion_loss:.4f}",
                "gain": f"{s.gain.value:+.4f}" if s.gain else "",
            }
            for s in comparison.segments
        ],
        "fairness": [f"{f.metric.replace('_', ' ')} by {f.column}: {f.gap:.3f}" for f in comparison.fairness],
    }


def cell(card: Scorecard, name: str) -> str:
    """A metric with its interval."""
    value, interval = card.metrics.get(name, float("nan")), card.intervals.get(name)
    if value != value:
        return "-"
    bounds = f" [{interval.lower:.4f}, {interval.upper:.4f}]" if interval and interval.lower == interval.lower else ""
    return f"{value:.4f}{bounds}"


def _verdict(verdict: Verdict) -> dict[str, str]:
    colour = {"passed": "good", "failed": "bad"}.get(verdict.outcome, "open")
    known = verdict.value == verdict.value
    return {
        "rule": verdict.rule,
        "outcome": "refused" if verdict.outcome == "failed" else verdict.outcome,
        "colour": colour,
        "value": f"{verdict.value:.5g}" if known else "",
        "threshold": f"{verdict.threshold:.5g}" if verdict.threshold == verdict.threshold else "",
        "note": verdict.note,
    }


def _lineage(training: Training, judged: Version, worth: Mapping[str, float], res: Resources) -> dict[str, Any]:
    lineage = res.registry.document(judged.run_id, "lineage.json")
    rows = [r for r in res.ledger.promotions() if r.version in (judged.version, training.version)]
    links = {
        "MLflow run": res.registry.run_url(judged.run_id),
        "MLflow version": res.registry.version_url(judged.version),
    }
    return {
        "digest": judged.digest,
        "commit": lineage["git_commit"],
        "packages": ", ".join(f"{name} {number}" for name, number in lineage["packages"].items()),
        "as_of": f"{judged.as_of.isoformat()}",
        "ledger": [f"row {r.sequence}: version {r.version}, {r.action} by {r.by}: {r.reason}" for r in rows],
        "links": {name: url for name, url in links.items() if url},
        "partitions": lineage["learned"],
        "limits": [*limits(training, judged, lineage.get("labelled", judged.rows), res), *doubts(worth, lineage)],
        "loss": res.config.target.judged_by.replace("_", " "),
    }


def doubts(worth: Mapping[str, float], lineage: Mapping[str, Any]) -> list[str]:
    """Features that did not help, and files that nobody can look up in git."""
    found = []
    if idle := [name for name, value in worth.items() if value <= 0]:
        found.append(
            f"On the judged rows these features did not help, shuffling them costs nothing: {', '.join(idle)}. "
            f"Where that is so in version after version, let new ones do without them (`features.retired`)."
        )
    if changed := lineage.get("uncommitted"):
        found.append(f"It was made from files that differed from the git commit: {', '.join(changed[:8])}.")
    return found


def limits(training: Training, judged: Version, labelled: int, res: Resources) -> list[str]:
    """What a user of the version must know of where its evidence ends. `labelled` counts the rows that it might have learned from."""
    config, comparison, window = res.config, training.comparison, training.window
    assert comparison
    small = [s for s in comparison.segments if config.gate.segments and s.rows < config.gate.segments.min_rows]
    found = [
        f"It has seen rows from {judged.window_start:%Y-%m-%d} to {judged.window_end:%Y-%m-%d} only; other seasons are new to it.",
        f"Its evidence is {comparison.blocks} blocks of time. What changes more slowly than that cannot show in the intervals.",
        "A category that training did not see, and a null, count as missing.",
    ]
    if labelled > judged.rows:
        found.append(
            f"It was fitted on a sample: {judged.rows:,} of {labelled:,} labelled rows, as training.window.max_rows allows; "
            f"drawn by the seed {config.training.seed} from each partition by its share."
        )
    if window.passed_over:
        found.append(f"Blocked partitions were passed over: {', '.join(window.passed_over)}.")
    if small and config.gate.segments:
        names = ", ".join(s.name for s in small[:12])
        found.append(f"Segments of fewer than {config.gate.segments.min_rows} rows were shown, not judged: {names}.")
    if not config.gate.fairness:
        found.append("No groups are declared in model.yaml, so fairness between groups was not judged.")
    if judged.recipe.calibration == "none" and config.target.kind != "regression":
        found.append(
            "Probabilities are the estimator's own: calibrating them did not surely help, or was not asked for."
        )
    return found
