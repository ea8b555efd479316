"""What a replay found, and how it is told: the advice with its doubt, what a reader must know, the policies as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.contracts import Interval, PolicyRun
from tasks.replay.persistence_baseline import Persistence, kappa
from tasks.replay.setup import ReplaySetup
from tasks.replay.standings import UNCLEAR, Findings, PolicyResult
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


@dataclass(frozen=True)
class Replay:
    """One replay: what was played on which range, and what came of it."""

    res: Resources
    course: ReplaySetup
    played: Sequence[PolicyRun]
    found: Findings
    last: Persistence | None
    """None where rows do not follow one another."""


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


def notes(replay: Replay) -> list[str]:
    """What a reader must know of the figures."""
    found, last, played = replay.found, replay.last, replay.played
    low, high = found.costs
    lines = [
        f"{found.metric}: mean over {len(replay.course.refs)} partitions by their labelled rows. Cost: {found.metric} as a loss, and "
        f"{found.cost:g} for each retraining, a partition; area: its mean over costs from {low:g} to {high:.4g}. Gain over live: "
        f"of the judged loss on the same rows, whole blocks of time drawn. Latency, size and load-and-query are as a live training of "
        f"that moment measured them, else taken as held. Retrainings after the last partition are not counted."
    ]
    if found.oracle:
        lines.append(
            f"The oracle, which knows what came, retrains {len(found.oracle.trainings)} times. It is a ceiling over the models that "
            f"a retraining at each moment would have made, ungated; no policy could have known it."
        )
    if replay.res.config.promotion.approval:
        lines.append("model.yaml asks for a person's approval; in a replay there is none, and what passes is promoted.")
    if last:
        lines.append(persistence_line(last, played))
    skipped = [f"{s.partition} ({s.note})" for s in played[0].steps if s.note]
    if skipped:
        lines.append(f"Passed over, as in production: {', '.join(skipped[:10])}{' ...' if len(skipped) > 10 else ''}.")
    return lines


def persistence_line(last: Persistence, played: Sequence[PolicyRun]) -> str:
    """Both reference lines, and how much better than the published one each policy is."""
    text = (
        f"Persistence: {last.measure} {last.before:.4f} by repeating the row before (the published protocol), "
        f"{last.known:.4f} by repeating the last outcome known when the partition began."
    )
    if last.measure != "accuracy":
        return text
    kappas = [f"{p.policy} {kappa(accuracy_of(p), last.before):+.3f}" for p in played]
    return f"{text} Kappa against the first: {', '.join(kappas)}."


def accuracy_of(played: PolicyRun) -> float:
    pairs = [(s.metrics["accuracy"] or 0.0, s.rows) for s in played.steps if s.metrics.get("accuracy") is not None]
    return sum(value * rows for value, rows in pairs) / max(sum(rows for _, rows in pairs), 1)


def table(found: Findings) -> list[str]:
    """The policies as markdown, cheapest first."""
    head = [name.replace("metric", found.metric) for name in COLUMNS]
    lines = [f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
    return lines + [f"| {' | '.join(cells(s))} |" for s in found.standings]


def cells(s: PolicyResult) -> list[str]:
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
