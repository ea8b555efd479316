"""Technical documentation of one version, under the headings of Annex IV of the EU AI Act (Regulation (EU) 2024/1689).

It is put together from the card, the ledger, the data contract and the monitoring. What Evergreen cannot know, such as the risk
management of the company, is marked as missing, to be completed by the provider.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from configs.schema import ModelConfig
from tasks.contracts import Promotion
from tasks.contracts.words import bounds_text, change_text, number, percent, who
from tasks.reports.pages.performance import judged_row
from tasks.reports.pages.template import HERE, render_template
from tasks.reports.pages.versions import read_facts
from tasks.reports.summary import PartitionSummary
from tasks.resources import Resources
from tasks.storage.published_contract import promises_of

OPEN = "To be completed by the provider."


def render_documentation(
    page: Mapping[str, Any], own: Mapping[str, Any], shown: Sequence[PartitionSummary], res: Resources
) -> str | None:
    """Render the documentation of a version as one self-contained file; None if its card has left no file with its facts.

    Args:
        page: The output of `model.describe`.
        own: The version, from `versions.version_rows`.
        shown: The newest partitions.
        res: The resources of the model.
    """
    facts = read_facts(res, own["version"])
    if facts is None:
        return None
    rows = res.ledger.promotions()
    judged = judged_row(own["version"], rows)
    return render_template(
        HERE / "documentation.html.j2",
        alone=True,
        page=page,
        own=own,
        facts=facts,
        open=OPEN,
        owner=res.config.contract.owner or OPEN,
        target=target_text(res.config),
        columns=[[c, res.config.dictionary.get(c, ""), checks_of(c, res.config)] for c in res.config.columns],
        missing=[c for c in res.config.columns if c not in res.config.dictionary],
        oversight=oversight(res.config),
        verdicts=_verdicts(judged),
        monitored=[_measured(s) for s in shown if s.version == own["version"] and s.loss is not None],
        changes=[_change(row) for row in rows if row.version == own["version"]],
        before=_before(own["version"], rows),
    )


def checks_of(column: str, config: ModelConfig) -> str:
    """List the checks of the data contract about a column, each with its severity."""
    promises = (promise for promise in promises_of(config.expectations) if column in promise.columns)
    return "; ".join(f"{promise.rule}, {promise.severity}" for promise in promises)


def target_text(config: ModelConfig) -> str:
    """Describe target, kind, and when its outcome becomes known."""
    days = config.target.delay / timedelta(days=1)
    classes = f" of {', '.join(config.target.classes)}" if config.target.classes else ""
    return f"{config.target.column} ({config.target.kind}{classes}); the outcome is known {days:.3g} days after the row's time"


def oversight(config: ModelConfig) -> list[str]:
    """List the measures by which people and rules control the model, as model.yaml has them."""
    shadow, hindsight = config.promotion.shadow.partitions, config.retraining.hindsight
    approval = "A person approves each promotion."
    if not config.promotion.approval:
        approval = "A version that passes the gate is promoted without a person."
    return [
        approval,
        f"A challenger scores {shadow} partitions in shadow mode before it can be promoted."
        if shadow
        else "There is no shadow test before a promotion.",
        f"After a promotion both versions score {hindsight.partitions} partitions, and the effect is measured"
        + (". If it is worse, the previous champion comes back by itself." if hindsight.rollback else ".")
        if hindsight.partitions
        else "The effect of a promotion is not measured.",
        "At any time a person can refuse a challenger, promote another version, or go back to the previous champion.",
    ]


def _verdicts(judged: Promotion | None) -> list[list[str]]:
    """List rule, result, value and threshold of the gate's tests."""
    return [
        [v["rule"], v["outcome"], number(v["value"], 5), number(v["threshold"], 5), v["note"]]
        for v in (judged.evidence["verdicts"] if judged else ())
    ]


def _measured(s: PartitionSummary) -> list[str]:
    drift = percent(s.drift_share) if s.drift_share is not None else ""
    return [s.key, f"{s.rows or 0:,}", number(s.loss), bounds_text(s.interval), percent(s.skill), drift, s.retraining]


def _change(row: Promotion) -> list[str]:
    return [f"{row.as_of:%Y-%m-%d}", change_text(row), who(row.by), row.assurance, row.reason, row.hash[:16]]


def _before(version: str, rows: Sequence[Promotion]) -> str:
    """Return the version that this one replaced as champion; empty if it never was champion, or was the first."""
    return next((row.previous or "" for row in rows if row.version == version and row.to_stage == "champion"), "")
