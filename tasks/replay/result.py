"""The result of a replay as text: recommendation, explanations and the table of policies."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.contracts import Interval, PolicyRun
from tasks.contracts.escape import for_markdown
from tasks.replay.persistence_baseline import Persistence, kappa
from tasks.replay.setup import ReplaySetup
from tasks.replay.standings import UNCLEAR, Findings, PolicyResult
from tasks.resources import LiveResources

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


@dataclass(frozen=True)
class Replay:
    """A replay and its results."""

    res: LiveResources
    setup: ReplaySetup
    runs: Sequence[PolicyRun]
    findings: Findings
    persistence: Persistence | None
    """None if model.yaml has no `replay.series`."""


def advice_of(findings: Findings) -> str:
    """Describe the recommendation and its uncertainty in a sentence."""
    advice, metric, gain = findings.advice, findings.metric, findings.advice.gain
    text = f"{advice.policy} cost least on {advice.first[0]} to {advice.first[1]}"
    if not advice.rest[0]:
        return f"{text}; the range is too short to confirm that on later partitions."
    text += f"; on {advice.rest[0]} to {advice.rest[1]} its {metric} is {advice.means[0]:.4f}"
    if advice.policy == advice.against:
        return f"{text}. There is no other policy to compare it with."
    text += f", that of {advice.against} {advice.means[1]:.4f}"
    unit = "loss, minus the cost of more retrainings" if findings.cost else "loss"
    figures = f" (gain in the {unit}, {gain.value:+.4f}, 95 % {gain.lower:+.4f} to {gain.upper:+.4f})" if gain else ""
    if advice.verdict == UNCLEAR:
        return f"{text}: {UNCLEAR}{figures}."
    if advice.verdict == "worse":
        return f"{text}: worse{figures}. The result of the first part was not confirmed."
    return f"{text}: better{figures}."


def notes(replay: Replay) -> list[str]:
    """Explain the figures of the table."""
    findings, persistence, runs = replay.findings, replay.persistence, replay.runs
    low, high = findings.costs
    lines = [
        f"{findings.metric}: mean over {len(replay.setup.refs)} partitions, weighted by their labelled rows. "
        f"Cost: {findings.metric} as a loss, plus {findings.cost:g} × retrainings / partitions. "
        f"Area: the mean of this cost for costs of a retraining from {low:g} to {high:.4g}. "
        f"Gain over live: difference of the losses on the same rows, with bounds from a bootstrap of whole blocks of time. "
        f"Latency, size and the load-and-query check are those of the live training with the same as-of; if there is none, they count "
        f"as passed. Retrainings after the last partition are not counted."
    ]
    if findings.oracle:
        lines.append(
            f"The oracle uses the outcomes of the whole range and retrains {len(findings.oracle.trainings)} times. It is an upper limit "
            f"over the models that a retraining at each partition would have given without the gate. No policy can reach it in advance."
        )
    if replay.res.config.promotion.approval:
        lines.append(
            "model.yaml requires a person's approval. A replay has none and promotes every version that passes the gate."
        )
    if persistence:
        lines.append(persistence_line(persistence, runs))
    skipped = [f"{s.partition} ({s.note})" for s in runs[0].steps if s.note]
    if skipped:
        lines.append(f"Skipped, as in production: {', '.join(skipped[:10])}{' ...' if len(skipped) > 10 else ''}.")
    return lines


def persistence_line(persistence: Persistence, runs: Sequence[PolicyRun]) -> str:
    """Describe both variants of the persistence baseline, and each policy's kappa against the published one."""
    text = (
        f"Persistence: {persistence.measure} {persistence.before:.4f} by repeating the outcome of the previous row (the published "
        f"protocol), {persistence.known:.4f} by repeating the last outcome known when the partition began."
    )
    if persistence.measure != "accuracy":
        return text
    kappas = [f"{run.policy} {kappa(accuracy_of(run), persistence.before):+.3f}" for run in runs]
    return f"{text} Kappa against the first: {', '.join(kappas)}."


def accuracy_of(run: PolicyRun) -> float:
    """Return the mean accuracy over partitions, weighted by their labelled rows."""
    pairs = [(s.metrics["accuracy"] or 0.0, s.rows) for s in run.steps if s.metrics.get("accuracy") is not None]
    return sum(value * rows for value, rows in pairs) / max(sum(rows for _, rows in pairs), 1)


def table(findings: Findings) -> list[str]:
    """Return the policies as lines of a Markdown table, lowest cost first."""
    head = [name.replace("metric", findings.metric) for name in COLUMNS]
    lines = [f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
    return lines + [f"| {' | '.join(map(for_markdown, cells(s)))} |" for s in findings.standings]


def cells(s: PolicyResult) -> list[str]:
    """Return the table cells of a policy."""
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
