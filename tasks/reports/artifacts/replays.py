"""What a `replay` leaves: a page in Prefect, the same as a file for people without it, and an MLflow run with everything in it."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.contracts import PolicyRun
from tasks.contracts.words import decision_text
from tasks.orchestration.run_names import page_key
from tasks.replay.result import COLUMNS, Replay, advice_of, cells, notes, table
from tasks.reports.artifacts.page import publish_page
from tasks.reports.pages.template import fill
from tasks.reports.replay.plots import replay_plots
from tasks.storage.files import digest_json, replacing


def publish_replay(replay: Replay) -> str:
    """Publish all three; returns the headline."""
    res, found = replay.res, replay.found
    line, plots = f"{res.title}, {replay.course.span}: {advice_of(found)}", replay_plots(replay.played, found)
    path = write_page(replay, plots)
    url = res.registry.run_url(log_run(replay, plots, path))
    body = [
        *(f"{note}\n" for note in notes(replay)),
        *table(found),
        "",
        *(f"![{name}](data:image/png;base64,{base64.b64encode(image).decode()})" for name, image in plots.items()),
        "",
        f"The whole page: `{path}`" + (f"; everything is in its [MLflow run]({url})" if url else ""),
    ]
    return publish_page(res, "replay", line, body)


def write_page(replay: Replay, plots: Mapping[str, bytes]) -> Path:
    """The replay as a page that needs no server, under the home folder; returns its path."""
    res, played, found = replay.res, replay.played, replay.found
    page = fill(
        Path(__file__).parents[1] / "replay" / "page.html.j2",
        title=f"Replay of {res.title}, {replay.course.span}",
        description=res.config.description,
        advice=advice_of(found).replace("`", ""),
        notes=notes(replay),
        columns=[name.replace("metric", found.metric) for name in COLUMNS],
        rows=[cells(s) for s in found.standings],
        plots=[(name.removesuffix(".png"), base64.b64encode(image).decode()) for name, image in plots.items()],
        decisions=[(p.policy, _decisions(p)) for p in played],
        policies=[p.policy for p in played],
        partitions=list(_partitions(played, found.metric)),
    )
    settings, about = res.settings, [replay.course.span, [[p.policy, p.told] for p in played], asdict(found)]
    name = f"{page_key(res.slug, replay.course.refs[0].key)}-{digest_json(about)[:8]}.html".lower()
    path = settings.path(settings.home) / "replays" / name
    with replacing(path) as draft:
        draft.write_text(page, encoding="utf-8")
    return path


def _decisions(played: PolicyRun) -> list[tuple[str, str, str]]:
    return [
        (
            f"{d.as_of:%Y-%m-%d %H:%M}",
            decision_text(d),
            d.reason if d.action == "decline" else f"{d.reason}; {d.detail}",
        )
        for d in played.decisions
    ]


def _partitions(played: Sequence[PolicyRun], metric: str) -> Iterator[dict[str, Any]]:
    for steps in zip(*(p.steps for p in played), strict=True):
        values = [step.metrics.get(metric) for step in steps]
        bounds = [step.intervals.get(metric, (None, None)) for step in steps]
        shown = [
            "" if value is None else f"{value:.4f}" + ("" if None in b else f" ({b[0]:.3f}-{b[1]:.3f})")
            for value, b in zip(values, bounds, strict=True)
        ]
        yield {"key": steps[0].partition, "rows": f"{steps[0].rows:,}", "cells": shown, "note": steps[0].note}


def log_run(replay: Replay, plots: Mapping[str, bytes], page: Path) -> str:
    """An MLflow run with the figures of every policy, the page, the pictures, and all decisions; returns its id."""
    res, course, found = replay.res, replay.course, replay.found
    registry = res.registry
    settings = {
        "start": course.refs[0].key,
        "end": course.refs[-1].key,
        "metric": found.metric,
        "cost": found.cost,
        "variant": res.variant.name,
    }
    with registry.answers(), registry.run(run_name=f"replay {course.span}") as run:
        registry.client.set_tag(run, "evergreen.role", "replay")
        registry.client.set_tag(run, "evergreen.flow_run", res.flow_run)
        for name, value in settings.items():
            registry.client.log_param(run, name, value)
    figures: dict[str, float] = {}
    for s in found.standings:
        told_of = {found.metric: s.mean, "retrainings": float(s.retrainings), "cost": s.cost, "area": s.area}
        figures |= {f"{s.policy}.{name}": value for name, value in told_of.items()}
    policies = {p.policy: p.told for p in replay.played}
    findings = {
        "findings": asdict(found),
        "policies": policies,
        "persistence": asdict(replay.last) if replay.last else None,
    }
    documents = {
        "findings.json": _plain(findings),
        "plays.json": _plain([asdict(p) for p in replay.played]),
        "config.json": res.config.model_dump(mode="json"),
    }
    files = {"page.html": page.read_bytes(), **{f"plots/{name}": image for name, image in plots.items()}}
    registry.annotate(run, figures, documents, files, advice_of(found))
    return run


def _plain(value: Any) -> Any:
    """What JSON can hold: times as text, what is no number as null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
