"""What a `replay` leaves: a page in Prefect, the same as a file for people without it, and an MLflow run with everything in it."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.artifacts.page import page_key, publish_page, told
from tasks.contracts import Interval, Played
from tasks.lake import digest_json, replacing
from tasks.replay.course import Course
from tasks.replay.persistence import Persistence, kappa
from tasks.replay.plots import replay_plots
from tasks.replay.standings import UNCLEAR, Findings, Standing
from tasks.resources import Resources

COLUMNS = (
    "policy",
    "metric",
    "95 %",
    "retrained",
    "refused",
    "seconds",
    "cost",
    "area",
    "gain over live",
    "95 %",
    "gain each",
    "regret",
)


def publish_replay(
    res: Resources, course: Course, played: Sequence[Played], found: Findings, last: Persistence | None
) -> str:
    """Publish all three; returns the headline."""
    line, plots = f"{res.title}, {course.span}: {advice_of(found)}", replay_plots(played, found)
    path = write_page(res, course, played, found, last, plots)
    run = log_run(res, course, played, found, last, plots, path)
    url = res.registry.run_url(run)
    body = [
        *(f"{note}\n" for note in notes(res, found, last, played, course)),
        *table(found),
        "",
        *(f"![{name}](data:image/png;base64,{base64.b64encode(image).decode()})" for name, image in plots.items()),
        "",
        f"The whole page: `{path}`" + (f"; everything is in its [MLflow run]({url})" if url else ""),
    ]
    return publish_page(res, "replay", line, body)


def advice_of(found: Findings) -> str:
    """The recommendation in words, with its doubt."""
    advice, name = found.advice, found.metric
    text = f"`{advice.policy}` cost least on {advice.first[0]} to {advice.first[1]}"
    if not advice.rest[0]:
        return f"{text}; the range is too short to see whether that holds."
    text += f"; on {advice.rest[0]} to {advice.rest[1]} its {name} is {advice.means[0]:.4f}"
    if advice.policy == advice.against:
        return f"{text}. There is nothing to hold it against."
    text += f", that of `{advice.against}` {advice.means[1]:.4f}"
    gain = advice.gain
    net = "judged loss, less what more retrainings cost" if found.cost else "judged loss"
    figures = f" (gain in the {net}, {gain.value:+.4f}, 95 % {gain.lower:+.4f} to {gain.upper:+.4f})" if gain else ""
    if advice.verdict == UNCLEAR:
        return f"{text}: {UNCLEAR}{figures}."
    if advice.verdict == "worse":
        return f"{text}: worse{figures}. What looked best did not hold."
    return f"{text}: better{figures}."


def notes(
    res: Resources, found: Findings, last: Persistence | None, played: Sequence[Played], course: Course
) -> list[str]:
    """What a reader must know of the figures."""
    low, high = found.costs
    lines = [
        f"{found.metric}: mean over {len(course.refs)} partitions by their labelled rows. Cost: {found.metric} as a loss, and "
        f"{found.cost:g} for each retraining, a partition; area: its mean over costs from {low:g} to {high:.4g}. Gain over live: "
        f"of the judged loss on the same rows, whole blocks of time drawn. Latency, size and load-and-query are as a live training of "
        f"that moment measured them, else taken as held. Retrainings after the last partition are not counted."
    ]
    if found.oracle:
        lines.append(
            f"The oracle, which knows what came, retrains {len(found.oracle.trainings)} times. It is a ceiling over the models that "
            f"a retraining at each moment would have made, ungated; no policy could have known it."
        )
    if res.config.promotion.approval:
        lines.append("model.yaml asks for a person's approval; in a replay there is none, and what passes is promoted.")
    if last:
        lines.append(persistence_line(last, played))
    skipped = [f"{s.partition} ({s.note})" for s in played[0].steps if s.note]
    if skipped:
        lines.append(f"Passed over, as in production: {', '.join(skipped[:10])}{' ...' if len(skipped) > 10 else ''}.")
    return lines


def persistence_line(last: Persistence, played: Sequence[Played]) -> str:
    """Both reference lines, and how much better than the published one each policy is."""
    text = (
        f"Persistence: {last.measure} {last.before:.4f} by repeating the row before (the published protocol), "
        f"{last.known:.4f} by repeating the last outcome known when the partition began."
    )
    if last.measure != "accuracy":
        return text
    kappas = [f"{p.policy} {kappa(accuracy_of(p), last.before):+.3f}" for p in played]
    return f"{text} Kappa against the first: {', '.join(kappas)}."


def accuracy_of(played: Played) -> float:
    pairs = [(s.metrics["accuracy"] or 0.0, s.rows) for s in played.steps if s.metrics.get("accuracy") is not None]
    return sum(value * rows for value, rows in pairs) / max(sum(rows for _, rows in pairs), 1)


def table(found: Findings) -> list[str]:
    """The policies as markdown, cheapest first."""
    head = [name.replace("metric", found.metric) for name in COLUMNS]
    lines = [f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
    return lines + [f"| {' | '.join(cells(s))} |" for s in found.standings]


def cells(s: Standing) -> list[str]:
    """One policy's figures as text."""
    return [
        s.policy,
        f"{s.mean:.4f}",
        _bounds(s.interval),
        str(s.retrainings),
        str(s.refused),
        f"{s.seconds:.0f}",
        f"{s.cost:.4f}",
        f"{s.area:.4f}",
        "" if s.gain is None else f"{s.gain.value:+.4f}",
        _bounds(s.gain, "+"),
        "" if s.gain_each is None else f"{s.gain_each:+.4f}",
        "" if s.regret is None else f"{s.regret:.4f}",
    ]


def _bounds(interval: Interval | None, sign: str = "") -> str:
    return "" if interval is None else f"{interval.lower:{sign}.4f} {interval.upper:{sign}.4f}"


def write_page(
    res: Resources,
    course: Course,
    played: Sequence[Played],
    found: Findings,
    last: Persistence | None,
    plots: Mapping[str, bytes],
) -> Path:
    """The replay as a page that needs no server, under the home folder; returns its path."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415  (only here)

    folder = Path(__file__).parents[1] / "replay"
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("page.html.j2").render(
        title=f"Replay of {res.title}, {course.span}",
        description=res.config.description,
        advice=advice_of(found).replace("`", ""),
        notes=notes(res, found, last, played, course),
        columns=[name.replace("metric", found.metric) for name in COLUMNS],
        rows=[cells(s) for s in found.standings],
        plots=[(name.removesuffix(".png"), base64.b64encode(image).decode()) for name, image in plots.items()],
        decisions=[(p.policy, _decisions(p)) for p in played],
        policies=[p.policy for p in played],
        partitions=list(_partitions(played, found.metric)),
    )
    settings, about = res.settings, [course.span, [[p.policy, p.told] for p in played], asdict(found)]
    name = f"{page_key(res.slug, course.refs[0].key)}-{digest_json(about)[:8]}.html".lower()
    path = settings.path(settings.home) / "replays" / name
    with replacing(path) as draft:
        draft.write_text(page, encoding="utf-8")
    return path


def _decisions(played: Played) -> list[tuple[str, str, str]]:
    return [
        (f"{d.as_of:%Y-%m-%d %H:%M}", told(d), d.reason if d.action == "decline" else f"{d.reason}; {d.detail}")
        for d in played.decisions
    ]


def _partitions(played: Sequence[Played], metric: str) -> Iterator[dict[str, Any]]:
    for steps in zip(*(p.steps for p in played), strict=True):
        values = [step.metrics.get(metric) for step in steps]
        bounds = [step.intervals.get(metric, (None, None)) for step in steps]
        shown = [
            "" if value is None else f"{value:.4f}" + ("" if None in b else f" ({b[0]:.3f}-{b[1]:.3f})")
            for value, b in zip(values, bounds, strict=True)
        ]
        yield {"key": steps[0].partition, "rows": f"{steps[0].rows:,}", "cells": shown, "note": steps[0].note}


def log_run(
    res: Resources,
    course: Course,
    played: Sequence[Played],
    found: Findings,
    last: Persistence | None,
    plots: Mapping[str, bytes],
    page: Path,
) -> str:
    """An MLflow run with the figures of every policy, the page, the pictures, and all decisions; returns its id."""
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
    policies = {p.policy: p.told for p in played}
    findings = {"findings": asdict(found), "policies": policies, "persistence": asdict(last) if last else None}
    documents = {
        "findings.json": _plain(findings),
        "plays.json": _plain([asdict(p) for p in played]),
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
