"""The profile page of `make model FROM=`: what the data have, by column and by partition, as one HTML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.settings import Settings
from ops.profiling.distributions import PartitionRows, is_personal
from ops.profiling.periods import PERIOD
from ops.profiling.plan import Plan
from ops.profiling.summary import points_to_check, summary_rows
from ops.profiling.values import Column
from tasks.contracts.escape import one_line
from tasks.reports.pages.template import render_template
from tasks.storage.files import replacing

TEMPLATE = Path(__file__).parents[1] / "templates" / "profile.html.j2"
WIDTH, HEIGHT = 720.0, 120.0
"""Size of a chart over partitions, in its own units."""


def write_page(name: str, plan: Plan, warnings: Sequence[str], settings: Settings) -> Path:
    """Write the page into the folder of the pages, and return its path.

    Args:
        name: The model's name.
        plan: What was inferred.
        warnings: Those of `make lint`.
        settings: Settings with the folder of the pages.
    """
    path = settings.pages / f"{name}-profile.html"
    with replacing(path) as draft:
        draft.write_text(render_page(name, plan, warnings), encoding="utf-8")
    return path


def render_page(name: str, plan: Plan, warnings: Sequence[str] = ()) -> str:
    """Return the page as HTML. Text is escaped. Columns that may have personal data are shown without values."""
    partitions = plan.distributions.partitions
    return render_template(
        TEMPLATE,
        alone=True,
        model=name,
        source=one_line(plan.data.path),
        summary=[
            [what, one_line(value), one_line(reason)]
            for what, value, reason in summary_rows(plan)
            if what != "not used"
        ],
        points=[one_line(point) for point in (*points_to_check(plan), *warnings)],
        columns=[_column(column, plan) for column in plan.columns.values()],
        period=PERIOD[plan.periods.every],
        first=partitions[0].key if partitions else "",
        last=partitions[-1].key if partitions else "",
        rows=_rows_chart(partitions),
        outcomes=_outcome_charts(partitions),
        target=one_line(plan.target.name),
    )


def _column(column: Column, plan: Plan) -> dict[str, Any]:
    """Return the row of a column: role, type, missing and different values, its distribution, and the reason for its role."""
    role, reason = _role(column, plan)
    personal = is_personal(column.name)
    bars = plan.distributions.values.get(column.name, ())
    most = max((count for _, count in bars), default=0)
    return {
        "name": one_line(column.name), "role": role, "stored": column.stored.lower()[:30], "type": column.type,
        "missing": _percent(column.null_share), "distinct": f"{column.distinct:,}", "reason": one_line(reason),
        "used": role not in ("not used", ""), "span": "" if personal else _span(column), "personal": personal,
        "is_histogram": column.type == "number" and column.distinct > len(bars),
        "bars": [
            {"label": one_line(label)[:40], "count": f"{count:,}", "share": count / most if most else 0.0} for label, count in bars
        ],
    }  # fmt: skip


def _percent(share: float) -> str:
    """Return a share in percent: `21 %`, `0.3 %`, `under 0.1 %`."""
    percent = 100 * share
    return "under 0.1 %" if 0 < percent < 0.1 else f"{percent:.1f} %" if 0 < percent < 10 else f"{percent:.0f} %"


def _span(column: Column) -> str:
    if column.numbers:
        return f"{column.numbers[0]:.4g} to {column.numbers[-1]:.4g}, median {column.numbers[3]:.4g}"
    return f"{column.span[0]:%Y-%m-%d %H:%M} to {column.span[1]:%Y-%m-%d %H:%M}" if column.span else ""


def _role(column: Column, plan: Plan) -> tuple[str, str]:
    """Return the role of a column, and the reason for it."""
    name, features = column.name, plan.features
    if name == plan.time.name:
        return "time", plan.time.reason
    if name == plan.target.name:
        return "target", f"{plan.target.reason}; {plan.target.kind_reason}"
    if plan.label_time and name == plan.label_time.name:
        return "time of the outcome", plan.label_time.reason
    if name in features.excluded:
        return "not used", features.excluded[name]
    kinds = {"number": features.numeric, "category": features.categorical}
    role = next((f"feature ({kind})" for kind, own in kinds.items() if name in {c.name for c in own}), "")
    if name in plan.key.columns:
        return ("key" if len(plan.key.columns) == 1 else "part of the key") + (
            f", {role}" if role else ""
        ), plan.key.reason
    score, metric = features.scores.get(name), "R2" if plan.target.kind == "regression" else "ROC AUC"
    alone = f"alone it predicts {plan.target.name} with {metric} {score:.2f}" if score is not None else ""
    return role, features.notes.get(name, alone)


def _rows_chart(partitions: Sequence[PartitionRows]) -> dict[str, Any]:
    """Return the bars of the rows of partitions: those with an outcome, and above them those without."""
    most, step = max((p.rows for p in partitions), default=1), WIDTH / max(1, len(partitions))
    bars = [
        {
            "x": f"{at * step:.1f}", "width": f"{max(1.0, step - 1):.1f}", "y": f"{HEIGHT * (1 - p.rows / most):.1f}",
            "height": f"{HEIGHT * p.rows / most:.1f}", "known_y": f"{HEIGHT * (1 - p.known / most):.1f}",
            "known_height": f"{HEIGHT * p.known / most:.1f}", "title": f"{p.key}: {p.rows:,} rows, {p.known:,} with an outcome",
        }
        for at, p in enumerate(partitions)
    ]  # fmt: skip
    return {"bars": bars, "most": f"{most:,}"}


def _outcome_charts(partitions: Sequence[PartitionRows]) -> list[dict[str, Any]]:
    """Return a line over partitions for the mean outcome, or for the share of each class."""
    names = list(dict.fromkeys(name for p in partitions for name in p.outcomes))
    return [
        _line(name, [(at, p.outcomes[name]) for at, p in enumerate(partitions) if name in p.outcomes], partitions)
        for name in names
    ]


def _line(name: str, values: Sequence[tuple[int, float]], partitions: Sequence[PartitionRows]) -> dict[str, Any]:
    low, high = min(v for _, v in values), max(v for _, v in values)
    span, step = (high - low) or 1.0, WIDTH / max(1, len(partitions))
    points = [(step * (at + 0.5), HEIGHT - 6 - (HEIGHT - 12) * (value - low) / span) for at, value in values]
    dots = [
        {"x": f"{x:.1f}", "y": f"{y:.1f}", "title": f"{partitions[at].key}: {value:.4g}"}
        for (x, y), (at, value) in zip(points, values, strict=True)
    ]
    return {
        "name": one_line(name), "low": f"{low:.4g}", "high": f"{high:.4g}", "dots": dots,
        "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points),
    }  # fmt: skip
