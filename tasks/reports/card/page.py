"""The model card of a version: purpose, training data, performance, limits, and the verdicts of the gate.

It is one self-contained HTML page on the training's MLflow run, with its plots beside it.
"""

import base64
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts import Comparison, Promotion, Scorecard, Training, Verdict, Version
from tasks.contracts.escape import for_markdown
from tasks.contracts.links import run_url
from tasks.contracts.words import change_text, who
from tasks.drift.workspace import project_id
from tasks.lifecycle.evidence import decision_evidence
from tasks.models.features import predict
from tasks.models.importance import importances
from tasks.models.targets import outcomes
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.reports.card import plots
from tasks.reports.card.facts import write_facts
from tasks.reports.card.limits import limits, warnings
from tasks.reports.pages.template import card_name, render_template
from tasks.resources import LiveResources
from tasks.storage.files import replacing
from tasks.training.evaluation import evaluation_rows

if TYPE_CHECKING:
    import pandas as pd


@as_task("write model card")
def publish_card(training: Training, res: LiveResources) -> None:
    """Write card, plots, metrics and the gate's evidence to the MLflow runs of the judged version and of its refit.

    Each of them has a card of its own. Cards are also written to the folder of the pages, where they can be read without MLflow.
    """
    judged, comparison = training.challenger, training.comparison
    assert judged
    assert comparison
    _, rows = evaluation_rows(training.window, comparison.start, res)
    importance = importances(res.load(judged.version), rows, res.config) if len(rows) else {}
    images = draw_plots(judged, comparison, rows, importance, res) if len(rows) else {}
    files = {f"plots/{name}": data for name, data in images.items()}
    metrics = {f"holdout_{k}": v for k, v in comparison.challenger.metrics.items()}
    for name, interval in comparison.challenger.intervals.items():
        metrics |= {f"holdout_{name}_lower": interval.lower, f"holdout_{name}_upper": interval.upper}
    if comparison.gain:
        metrics |= {
            "gain": comparison.gain.value,
            "gain_lower": comparison.gain.lower,
            "gain_upper": comparison.gain.upper,
        }
    gate = {"gate.json": decision_evidence(training.decision, comparison)}
    ledger_rows = [r for r in res.ledger.promotions() if r.version == training.version]
    headline = _headline(training, ledger_rows[-1] if ledger_rows else None)
    description = f"{for_markdown(headline)}\n\nThe model card is among the artifacts. {_links(res)}"
    refit = training.final if training.final and training.final.version != judged.version else None
    for version in (judged, refit):
        if version is None:
            continue
        page = render(training, version, images, importance, res)
        own = (metrics, files) if version is judged else ({}, {})
        res.registry.annotate(version.run_id, own[0], gate, {**own[1], "model-card.html": page.encode()}, description)
        with replacing(res.settings.pages / card_name(res.config.name, version.version)) as draft:
            draft.write_text(page, encoding="utf-8")
        write_facts(training, version, importance, res)
        run_log().info("model card of version %s written", version.version, extra={"version": version.version})


def _links(res: LiveResources) -> str:
    """Return markdown links to the flow run that trained, and to the model's monitoring."""
    run = f"[Prefect run]({run_url(res.settings.prefect_ui, res.flow_run)}), " if res.flow_run else ""
    return f"{run}[drift and performance in Evidently]({res.settings.evidently_ui}/projects/{project_id(res.config.name)})."


def draw_plots(
    judged: Version, comparison: Comparison, rows: "pd.DataFrame", importance: Mapping[str, float], res: LiveResources
) -> dict[str, bytes]:
    """Draw the plots of a comparison: PNG bytes by file name. `rows` are the holdout's, `importance` is by feature."""
    config = res.config
    target, model = config.target, res.load(judged.version)
    outcome, prediction = outcomes(rows, target), predict(model, rows, config)
    predictions = {f"version {judged.version}": prediction}
    if comparison.champion:
        champion = comparison.champion.version
        predictions[f"version {champion}, for the champion"] = predict(res.load(champion), rows, config)
    if target.kind == "binary":
        images = plots.binary_plots(outcome, predictions) if 0 < outcome.sum() < len(outcome) else {}
    elif target.kind == "multiclass":
        images = plots.multiclass_plots(outcome, prediction, target.classes)
    else:
        images = plots.regression_plots(outcome, prediction)
    images["importances.png"] = plots.importance_plot(importance, target.eval_loss)
    if comparison.segments:
        images["segments.png"] = plots.segment_plot(comparison.segments, target.eval_loss)
    return images


def render(
    training: Training,
    version: Version,
    images: Mapping[str, bytes],
    importance: Mapping[str, float],
    res: LiveResources,
) -> str:
    """Render the card of a training's judged version or of its refit as HTML.

    Args:
        training: The training.
        version: The version that the card is about.
        images: The plots by file name.
        importance: By feature.
        res: The resources of the model.
    """
    judged, comparison = training.challenger, training.comparison
    assert judged
    assert comparison
    return render_template(
        Path(__file__).parent / "card.html.j2",
        alone=True,
        **_identity(training, version, judged, comparison, res),
        **_numbers(training, version, comparison),
        plots=[
            {"alt": name.removesuffix(".png").replace("-", " "), "data": base64.b64encode(data).decode()}
            for name, data in images.items()
        ],
        importance=[(name, f"{value:+.5f}") for name, value in sorted(importance.items(), key=lambda item: -item[1])],
        **_lineage(training, version, importance, res),
    )


def _identity(
    training: Training, version: Version, judged: Version, comparison: Comparison, res: LiveResources
) -> dict[str, Any]:
    config = res.config
    rows = [r for r in res.ledger.promotions() if r.version == training.version]
    last = rows[-1] if rows else None
    days = config.target.delay / timedelta(days=1)
    target = f"{config.target.column} ({config.target.kind}), known {days:.3g} days after a row's time"
    refit = training.final if training.final and version.version != training.final.version else None
    of = "" if version is judged else f"version {judged.version}, of which this is the refit on the whole window, on "
    span = f"{comparison.start:%Y-%m-%d} to {comparison.end:%Y-%m-%d}"
    return {
        "model": config.name,
        "model_page": f"{res.settings.pages_ui}/{config.name}.html",
        "version": version.version,
        "description": config.description,
        "passed": training.decision.passed,
        "headline": _headline(training, last),
        "target": target,
        "recipe": version.recipe,
        "params": ", ".join(f"{k}={v}" for k, v in sorted(version.recipe.params.items())) or "the library's defaults",
        "learned": f"{version.rows:,} labelled rows from {version.window_start:%Y-%m-%d} to {version.window_end:%Y-%m-%d}",
        "judged_on": f"{of}{comparison.challenger.rows:,} rows from {span} in {comparison.blocks} blocks of time. {comparison.note}",
        "judged_as": _judged_as(comparison),
        "final": f"version {refit.version}, the same recipe fitted on {refit.rows:,} rows up to {refit.window_end:%Y-%m-%d}"
        if refit
        else "",
    }


def _judged_as(comparison: Comparison) -> str:
    """Return what the version had to show, compared with which version; empty without a champion."""
    if not comparison.champion:
        return ""
    what = (
        "a refresh: it must not be surely worse"
        if comparison.burden == "refresh"
        else "a change: it must be surely better"
    )
    differs = f", other {', '.join(comparison.differences)}" if comparison.differences else ""
    return f"{what}{differs}. Compared with {comparison.reference}"


def _headline(training: Training, last: Promotion | None) -> str:
    if not training.decision.passed:
        return "Refused by the gate: " + "; ".join(training.decision.reasons)
    stage = f" Version {last.version} {change_text(last)}." if last else ""
    return f"Passed every rule of the gate.{stage}"


def _numbers(training: Training, version: Version, comparison: Comparison) -> dict[str, Any]:
    judged = comparison.challenger.version
    cards = [c for c in (comparison.challenger, comparison.champion, comparison.prior) if c]
    names = [
        "this version" if version.version == judged else f"version {judged}",
        *(["champion"] if comparison.champion else []),
        "prior",
    ]
    metrics = [
        {"name": name.replace("_", " "), "cells": [metric_cell(card, name) for card in cards]}
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


def metric_cell(card: Scorecard, name: str) -> str:
    """Format a metric with its interval; `-` if the scorecard does not have it."""
    value, interval = card.metrics.get(name, float("nan")), card.intervals.get(name)
    if value != value:
        return "-"
    bounds = f" [{interval.lower:.4f}, {interval.upper:.4f}]" if interval and interval.lower == interval.lower else ""
    return f"{value:.4f}{bounds}"


def _verdict(verdict: Verdict) -> dict[str, str]:
    colour = {"passed": "good", "failed": "bad"}.get(verdict.outcome, "open")
    return {
        "rule": verdict.rule,
        "outcome": "refused" if verdict.outcome == "failed" else verdict.outcome,
        "colour": colour,
        "value": f"{verdict.value:.5g}" if verdict.value == verdict.value else "",
        "threshold": f"{verdict.threshold:.5g}" if verdict.threshold == verdict.threshold else "",
        "note": verdict.note,
    }


def _lineage(
    training: Training, version: Version, importance: Mapping[str, float], res: LiveResources
) -> dict[str, Any]:
    lineage = res.registry.document(version.run_id, "lineage.json")
    rows = [r for r in res.ledger.promotions() if r.version in (version.version, training.version)]
    links = {
        "MLflow run": res.registry.run_url(version.run_id),
        "MLflow version": res.registry.version_url(version.version),
    }
    return {
        "digest": version.digest,
        "commit": lineage["git_commit"],
        "packages": ", ".join(f"{name} {number}" for name, number in lineage["packages"].items()),
        "as_of": f"{version.as_of.isoformat()}",
        "ledger": [
            f"row {r.sequence}, as of {r.as_of:%Y-%m-%d}: version {r.version}, {r.action} by {who(r.by)}: {r.reason}"
            for r in rows
        ],
        "links": {name: url for name, url in links.items() if url},
        "partitions": lineage["learned"],
        "limits": [
            *limits(training, version, lineage.get("labelled", version.rows), res),
            *warnings(importance, lineage),
        ],
        "loss": res.config.target.eval_loss.replace("_", " "),
    }
