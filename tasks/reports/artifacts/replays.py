"""Results of a `replay` run: a page in Prefect, the same page as an HTML file, and an MLflow run with all data."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.contracts import PolicyRun
from tasks.contracts.escape import for_markdown
from tasks.contracts.words import decision_text
from tasks.orchestration.run_names import page_key
from tasks.replay.result import (
    COLUMNS,
    Replay,
    advice_of,
    cost_ranges,
    markdown_table,
    notes,
    policy_rows,
    range_table,
    table,
)
from tasks.reports.artifacts.page import publish_page
from tasks.reports.pages.template import render_template
from tasks.reports.replay.plots import replay_plots
from tasks.storage.files import digest_json, replacing


def publish_replay(replay: Replay) -> str:
    """Create the page in Prefect, the HTML file and the MLflow run; returns the headline."""
    res, findings = replay.res, replay.findings
    line, plots = f"{res.title}, {replay.setup.span}: {advice_of(findings)}", replay_plots(replay.runs, findings)
    path = write_page(replay, plots)
    url = res.registry.run_url(log_run(replay, plots, path))
    body = [
        f"{for_markdown(cost_ranges(findings))}\n",
        *(f"{for_markdown(note)}\n" for note in notes(replay)),
        *table(findings),
        "",
        *markdown_table(*range_table(findings)),
        "",
        *(f"![{name}](data:image/png;base64,{base64.b64encode(image).decode()})" for name, image in plots.items()),
        "",
        f"The full page: `{path}`" + (f"; all data are in its [MLflow run]({url})" if url else ""),
    ]
    return publish_page(res, "replay", line, body)


def write_page(replay: Replay, plots: Mapping[str, bytes]) -> Path:
    """Write the replay as an HTML page that needs no server, in `replays` of the home folder; returns its path."""
    res, runs, findings = replay.res, replay.runs, replay.findings
    page = render_template(
        Path(__file__).parents[1] / "replay" / "page.html.j2",
        alone=True,
        title=f"Replay of {res.title}, {replay.setup.span}",
        description=res.config.description,
        advice=advice_of(findings),
        notes=notes(replay),
        columns=[name.replace("metric", findings.metric) for name in COLUMNS],
        rows=policy_rows(findings),
        cost_ranges=cost_ranges(findings),
        ranges=range_table(findings),
        plots=[(name.removesuffix(".png"), base64.b64encode(image).decode()) for name, image in plots.items()],
        decisions=[(run.policy, _decisions(run)) for run in runs],
        policies=[run.policy for run in runs],
        partitions=list(_partitions(runs, findings.metric)),
    )
    settings, content = res.settings, [replay.setup.span, [[run.policy, run.told] for run in runs], asdict(findings)]
    name = f"{page_key(res.slug, replay.setup.refs[0].key)}-{digest_json(content)[:8]}.html".lower()
    path = settings.path(settings.home) / "replays" / name
    with replacing(path) as draft:
        draft.write_text(page, encoding="utf-8")
    return path


def _decisions(run: PolicyRun) -> list[tuple[str, str, str]]:
    return [
        (
            f"{d.as_of:%Y-%m-%d %H:%M}",
            decision_text(d, run.promotions),
            d.reason if d.action == "decline" else f"{d.reason}; {d.detail}",
        )
        for d in run.decisions
    ]


def _partitions(runs: Sequence[PolicyRun], metric: str) -> Iterator[dict[str, Any]]:
    for steps in zip(*(run.steps for run in runs), strict=True):
        values = [step.metrics.get(metric) for step in steps]
        bounds = [step.intervals.get(metric, (None, None)) for step in steps]
        cells = [
            "" if value is None else f"{value:.4f}" + ("" if None in b else f" ({b[0]:.3f}-{b[1]:.3f})")
            for value, b in zip(values, bounds, strict=True)
        ]
        yield {"key": steps[0].partition, "rows": f"{steps[0].rows:,}", "cells": cells, "note": steps[0].note}


def log_run(replay: Replay, plots: Mapping[str, bytes], page: Path) -> str:
    """Log an MLflow run with the metrics of every policy, the page, the plots and all decisions; returns its id."""
    res, setup, findings = replay.res, replay.setup, replay.findings
    registry = res.registry
    settings = {
        "start": setup.refs[0].key,
        "end": setup.refs[-1].key,
        "metric": findings.metric,
        "cost": findings.cost,
        "variant": res.variant.name,
    }
    with registry.translated_errors(), registry.run(run_name=setup.span, experiment="replays") as run:
        registry.client.set_tag(run, "evergreen.role", "replay")
        registry.client.set_tag(run, "evergreen.flow_run", res.flow_run)
        for name, value in settings.items():
            registry.client.log_param(run, name, value)
    metrics: dict[str, float] = {}
    for s in findings.standings:
        values = {findings.metric: s.mean, "retrainings": float(s.retrainings), "cost": s.cost, "area": s.area}
        metrics |= {f"{s.policy}.{name}": value for name, value in values.items()}
    policies = {p.policy: p.told for p in replay.runs}
    result = {
        "findings": asdict(findings),
        "policies": policies,
        "persistence": asdict(replay.persistence) if replay.persistence else None,
    }
    documents = {
        "findings.json": _plain(result),
        "plays.json": _plain([asdict(p) for p in replay.runs]),
        "config.json": res.config.model_dump(mode="json"),
    }
    files = {"page.html": page.read_bytes(), **{f"plots/{name}": image for name, image in plots.items()}}
    registry.annotate(run, metrics, documents, files, for_markdown(advice_of(findings)))
    return run


def _plain(value: Any) -> Any:
    """Convert to JSON types: times to text, NaN and infinity to null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
