"""The result of a replay as text: recommendation, explanations and the table of policies."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from tasks.contracts import Interval, PolicyRun
from tasks.contracts.escape import for_markdown
from tasks.replay.cost_curve import BestRange, Line, best_at
from tasks.replay.persistence_baseline import Persistence, kappa
from tasks.replay.policies import LIVE
from tasks.replay.setup import ReplaySetup
from tasks.replay.standings import MIN_PARTITIONS, UNCLEAR, Advice, Findings, PolicyResult, from_loss
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
    text = f"{advice.policy}{_equals(advice)} cost least on {advice.first[0]} to {advice.first[1]}"
    if not advice.rest[0]:
        return f"{text}; the range is too short to confirm that on later partitions."
    of_policy = f"the {metric} of {advice.policy}" if advice.equals else f"its {metric}"
    text += f"; on {advice.rest[0]} to {advice.rest[1]} {of_policy} is {advice.means[0]:.4f}"
    if advice.policy == advice.against:
        return f"{text}. There is no other policy to compare it with."
    text += f", that of {advice.against} {advice.means[1]:.4f}"
    if gain is None:
        return f"{text}. These partitions are too few for an interval of {metric}, so nothing is confirmed."
    unit = f"{metric}, minus the cost of more retrainings" if findings.cost else metric
    figures = f" (gain in {unit}: {gain.value:+.4f}, 95 % {gain.lower:+.4f} to {gain.upper:+.4f})"
    if advice.verdict == UNCLEAR:
        return f"{text}: {UNCLEAR}{figures}."
    if advice.verdict == "worse":
        return f"{text}: worse{figures}. The result of the first part was not confirmed."
    return f"{text}: better{figures}."


def _equals(advice: Advice) -> str:
    """Return the policies that cost as little: ` and drift`, or ` and 8 other policies equally`; empty if there are none."""
    if len(advice.equals) > 1:
        return f" and {len(advice.equals)} other policies equally"
    return f" and {advice.equals[0]} equally" if advice.equals else ""


def cost_ranges(findings: Findings) -> str:
    """Describe for which costs of a retraining each policy is best."""
    texts = [f"{_names(r)} {_span(r)}" for r in findings.ranges]
    text = (
        f"The best policy by the cost of one retraining, in {findings.metric} over one partition: {', '.join(texts)}."
    )
    if not any(LIVE in r.line.names for r in findings.ranges):
        text += " The live policy is best for no cost."
    return text


def _names(best: BestRange) -> str:
    return " or ".join(best.line.names)


def _span(best: BestRange) -> str:
    if best.upper == inf:
        return f"above {best.lower:.3g}" if best.lower else "for every cost"
    return f"between {best.lower:.3g} and {best.upper:.3g}" if best.lower else f"below {best.upper:.3g}"


def range_table(findings: Findings) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of costs for which each gated policy is best, with the oracle's retrainings there."""
    head = ["best policy", "for costs from", "to", "retrained", findings.metric]
    rows = [
        [
            _names(r),
            f"{r.lower:.3g}",
            "any" if r.upper == inf else f"{r.upper:.3g}",
            str(r.line.retrainings),
            f"{from_loss(findings.metric, r.line.mean):.4f}",
            *([_retrainings(r, findings.oracle_ranges)] if findings.oracle_ranges else []),
        ]
        for r in findings.ranges
    ]
    return [*head, *(["the oracle retrains"] if findings.oracle_ranges else [])], rows


def _retrainings(best: BestRange, ranges: Sequence[BestRange]) -> str:
    """Return how often the best of other lines retrains within a range of costs, such as `2 to 5`."""
    counts = [r.line.retrainings for r in ranges if r.lower < best.upper and r.upper > best.lower]
    return f"{min(counts)} to {max(counts)}" if len(counts) > 1 else str(counts[0])


def notes(replay: Replay) -> list[str]:
    """Explain the figures of the table."""
    findings, persistence, runs = replay.findings, replay.persistence, replay.runs
    low, high = findings.costs
    gain_source = "on the same rows, with bounds from a bootstrap of whole blocks of time"
    if findings.metric != replay.res.config.target.eval_loss:
        gain_source = (
            f"by partition, with bounds from a bootstrap of partitions; empty with fewer than {MIN_PARTITIONS}"
        )
    lines = [
        f"{findings.metric}: mean over {len(replay.setup.refs)} partitions, weighted by their labelled rows. "
        f"Cost: {findings.metric} as a loss, plus {findings.cost:g} × retrainings / partitions. "
        f"Area: the mean of this cost for costs of a retraining from {low:g} to {high:.4g}. "
        f"Gain over live: difference in {findings.metric} {gain_source}. "
        f"Latency, size and the load-and-query check are those of the live training with the same as-of; if there is none, they count "
        f"as passed. Retrainings after the last partition are not counted."
    ]
    if findings.oracle:
        lines.append(
            f"The oracle uses the outcomes of the whole range and retrains {len(findings.oracle.trainings)} times. It is an upper limit "
            f"over the models that a retraining at each partition would have given without the gate. No policy can reach it in advance."
        )
        lines.append(
            "The best calendar is chosen in hindsight among every, every_2nd, every_3rd and so on, also without the gate."
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
    return markdown_table(head, policy_rows(findings))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table whose first column is text and whose other columns are numbers."""
    lines = [f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
    return lines + [f"| {' | '.join(map(for_markdown, row))} |" for row in rows]


def policy_rows(findings: Findings) -> list[list[str]]:
    """Return the table cells of all policies, lowest cost first, then those of the best calendar and the oracle."""
    bounds = [
        (f"best calendar: {_names(best)}" if ranges is findings.calendar_ranges else _names(best), best.line)
        for ranges in (findings.calendar_ranges, findings.oracle_ranges)
        if (best := best_at(ranges, findings.cost))
    ]
    return [cells(s) for s in findings.standings] + [_hindsight_cells(*bound, findings) for bound in bounds]


def _hindsight_cells(name: str, line: Line, findings: Findings) -> list[str]:
    """Return the table cells of a schedule that was chosen in hindsight."""
    cost = line.mean + findings.cost * line.retrainings / findings.partitions
    return [
        name,
        f"{from_loss(findings.metric, line.mean):.4f}",
        "",
        str(line.retrainings),
        "",
        "",
        f"{cost:.4f}",
        *[""] * 5,
    ]


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
