"""What a replay found: how good each policy was, what it cost, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from configs.kinds import HIGHER_IS_BETTER
from configs.schema import ModelConfig
from tasks.contracts import Decision, Interval, PolicyRun
from tasks.models.bootstrap import mean_bounds
from tasks.models.metrics import LEVEL
from tasks.replay.oracle import Schedule, Table, best_schedules
from tasks.replay.policies import LIVE, NEVER

UNCLEAR = "no clear difference"


@dataclass(frozen=True)
class PolicyResult:
    """One policy over the whole range. `mean` is of the metric, partitions weighing by their labelled rows.

    `cost` is the combined cost a partition: the metric as a loss, and what the retrainings cost. `area` is its mean over the range of
    costs, the area under that curve (Regol et al., When to retrain a machine learning model, ICML 2025, arXiv 2505.14903).
    `gain` is the mean of the judged loss that the live policy has more on the same rows, with the bounds of a paired
    bootstrap over blocks of time that hold 95 % together. `regret` is the combined cost above the oracle's.
    """

    policy: str
    mean: float
    interval: Interval | None
    retrainings: int
    """Refused ones too; without one after the last partition, which could serve none."""
    refused: int
    seconds: float
    """Of training, as recorded when each model was made, or as the live one took."""
    cost: float
    area: float
    gain: Interval | None
    gain_each: float | None
    """What the metric gains over never retraining, by each retraining."""
    regret: float | None


@dataclass(frozen=True)
class Advice:
    """Which policy was chosen on the first part of the range, and how it then did on the rest."""

    policy: str
    against: str
    first: tuple[str, str]
    """The first and the last partition on which it was chosen."""
    rest: tuple[str, str]
    means: tuple[float, float]
    """Of the metric on the rest: the chosen policy's, and that of the one it is held against."""
    gain: Interval | None
    """In the judged loss over the other, less what more retrainings cost on the rest."""
    verdict: str


@dataclass(frozen=True)
class Findings:
    """Everything that the report tells."""

    metric: str
    cost: float
    costs: tuple[float, float]
    """The range of costs that `area` is over."""
    standings: tuple[PolicyResult, ...]
    schedules: tuple[Schedule, ...]
    """The oracle's best for each number of retrainings; means as of a loss."""
    oracle: Schedule | None
    """The best under the cost."""
    advice: Advice


def as_loss(metric: str, value: float | None) -> float:
    """A metric as something that is better when lower; NaN where there is none."""
    if value is None:
        return float("nan")
    return 1.0 - value if metric in HIGHER_IS_BETTER else value


def mean_of(played: PolicyRun, metric: str, partitions: Sequence[str] | None = None) -> float:
    """The metric as a loss, partitions weighing by their labelled rows; NaN where none has any."""
    steps = [s for s in played.steps if partitions is None or s.partition in partitions]
    pairs = [(as_loss(metric, s.metrics.get(metric)), s.rows) for s in steps if s.metrics.get(metric) is not None]
    total = sum(rows for _, rows in pairs)
    return sum(value * rows for value, rows in pairs) / total if total else float("nan")


def serving(played: PolicyRun) -> list[Decision]:
    """The retrainings that could still serve a partition of the range: one after the last comes to nothing in it."""
    return [d for d in played.retrainings if d.as_of < played.steps[-1].as_of]


def shown(metric: str, loss: float) -> float:
    """The metric itself again."""
    return 1.0 - loss if metric in HIGHER_IS_BETTER else loss


def compare(
    one: PolicyRun, other: PolicyRun, config: ModelConfig, partitions: Sequence[str] | None = None
) -> Interval | None:
    """The mean of the judged loss that `other` has more than `one`, on the blocks of time that both were assessed on."""
    mine, theirs = (_blocks(p, partitions) for p in (one, other))
    common = sorted(block for block in mine.keys() & theirs.keys() if mine[block][0] == theirs[block][0])
    if not common:
        return None
    rows = np.array([mine[block][0] for block in common])
    sums = np.array([theirs[block][1] - mine[block][1] for block in common])
    return mean_bounds(sums, rows, LEVEL, config.gate.gain.resamples, config.training.seed)


def _blocks(played: PolicyRun, partitions: Sequence[str] | None) -> dict[float, tuple[float, float]]:
    """Labelled rows and sum of losses by block; one that spans partitions is one."""
    found: dict[float, tuple[float, float]] = {}
    for step in played.steps:
        if partitions is None or step.partition in partitions:
            for block, rows, loss in step.blocks:
                held = found.get(block, (0.0, 0.0))
                found[block] = (held[0] + rows, held[1] + loss)
    return found


def interval_of(played: PolicyRun, config: ModelConfig) -> Interval | None:
    """The mean of the judged loss with its 95 % interval."""
    blocks = _blocks(played, None)
    if not blocks:
        return None
    rows, sums = np.array([blocks[b] for b in sorted(blocks)]).T
    return mean_bounds(sums, rows, LEVEL, config.gate.gain.resamples, config.training.seed)


def find(played: Sequence[PolicyRun], table: Table | None, metric: str, cost: float, config: ModelConfig) -> Findings:
    """Hold the policies against each other, against the live one and against the oracle."""
    by_name = {p.policy: p for p in played}
    schedules = tuple(best_schedules(_losses(table, metric), table.rows())) if table else ()
    count = len(by_name[LIVE].steps)
    costs = (0.0, 2 * cost or worth_each(played, metric) or worth_of_one(schedules, count))
    oracle = min(schedules, key=lambda s: s.mean + cost * len(s.trainings) / count) if schedules else None
    ceiling = oracle.mean + cost * len(oracle.trainings) / count if oracle else None
    standings = []
    for one in played:
        mean, n = mean_of(one, metric), len(serving(one))
        combined = mean + cost * n / count
        gained = mean_of(by_name[NEVER], metric) - mean if NEVER in by_name and n else None
        standings.append(
            PolicyResult(
                policy=one.policy,
                mean=shown(metric, mean),
                interval=interval_of(one, config) if metric == config.target.judged_by else None,
                retrainings=n,
                refused=sum(d.outcome == "refused" for d in serving(one)),
                seconds=sum(d.seconds for d in serving(one)),
                cost=combined,
                area=mean + (costs[0] + costs[1]) / 2 * n / count,
                gain=compare(one, by_name[LIVE], config) if one.policy != LIVE else None,
                gain_each=gained / n if gained is not None else None,
                regret=combined - ceiling if ceiling is not None else None,
            )
        )
    ranked = tuple(sorted(standings, key=lambda s: (s.cost, s.retrainings, s.policy)))
    return Findings(metric, cost, costs, ranked, schedules, oracle, advise(by_name, metric, cost, config))


def _losses(table: Table, metric: str) -> np.ndarray:
    values = table.values(metric)
    return 1.0 - values if metric in HIGHER_IS_BETTER else values


def worth_each(played: Sequence[PolicyRun], metric: str) -> float:
    """The most that a policy's retrainings gained each over never, over one partition: beyond such a cost no policy pays."""
    never = next((mean_of(p, metric) for p in played if p.policy == NEVER), float("nan"))
    gains = [(never - mean_of(p, metric)) * len(p.steps) / len(serving(p)) for p in played if serving(p)]
    return max([g for g in gains if g > 0], default=0.0)


def worth_of_one(schedules: Sequence[Schedule], partitions: int) -> float:
    """The cost at which not even the best single retraining pays."""
    by_count = {len(s.trainings): s.mean for s in schedules}
    return max(0.0, (by_count[0] - by_count[1]) * partitions) if {0, 1} <= by_count.keys() else 0.0


def advise(by_name: Mapping[str, PolicyRun], metric: str, cost: float, config: ModelConfig) -> Advice:
    """Choose by the combined cost on the first half of the partitions, and see on the rest whether that holds.

    What was chosen is held against the live policy; the live policy itself against never retraining.
    """
    keys = [step.partition for step in by_name[LIVE].steps]
    moments = {step.partition: step.as_of for step in by_name[LIVE].steps}
    half = (len(keys) + 1) // 2
    first, rest = keys[:half], keys[half:]

    def count(one: PolicyRun, part: list[str]) -> int:
        began = moments[part[0]] if part is rest else datetime.min.replace(tzinfo=UTC)
        return sum(began <= d.as_of < moments[part[-1]] for d in one.retrainings)

    def combined(one: PolicyRun) -> tuple[float, int, str]:
        n = count(one, first)
        return mean_of(one, metric, first) + cost * n / len(first), n, one.policy

    chosen = min(
        (p for p in by_name.values() if np.isfinite(mean_of(p, metric, first))), key=combined, default=by_name[LIVE]
    )
    against = LIVE if chosen.policy != LIVE else NEVER if NEVER in by_name else LIVE
    gain = compare(chosen, by_name[against], config, rest) if rest and against != chosen.policy else None
    losses = mean_of(chosen, metric, rest), mean_of(by_name[against], metric, rest)
    if gain is not None:
        paid = cost * (count(chosen, rest) - count(by_name[against], rest)) / len(rest)
        gain = Interval(gain.value - paid, gain.lower - paid, gain.upper - paid)
    verdict = UNCLEAR
    if gain is not None and gain.lower > 0 and (metric == config.target.judged_by or losses[0] < losses[1]):
        verdict = "better"
    elif gain is not None and gain.upper < 0 and (metric == config.target.judged_by or losses[0] > losses[1]):
        verdict = "worse"
    means = (shown(metric, losses[0]), shown(metric, losses[1]))
    spans = ((first[0], first[-1]), (rest[0], rest[-1]) if rest else ("", ""))
    return Advice(chosen.policy, against, *spans, means, gain, verdict)
