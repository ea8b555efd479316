"""Evaluation of a replay: performance and cost of each policy with confidence intervals, and a recommendation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from configs.kinds import HIGHER_IS_BETTER
from configs.schema import ModelConfig
from tasks.contracts import Decision, Interval, PolicyRun
from tasks.models.bootstrap import mean_bounds
from tasks.models.metrics import LEVEL
from tasks.replay.cost_curve import BestRange, best_ranges, calendar_ranges, oracle_ranges
from tasks.replay.oracle import Schedule, TrainingTable, best_schedules, calendar_schedules
from tasks.replay.policies import LIVE, NEVER, UNGATED

UNCLEAR = "no clear difference"
MIN_PARTITIONS = 6
"""Fewer partitions give no interval of a metric that is no mean over rows: it would be many times as wide as the differences."""


@dataclass(frozen=True)
class PolicyResult:
    """The result of one policy over the whole range."""

    policy: str
    mean: float
    """Mean of the metric over partitions, weighted by their labelled rows."""
    interval: Interval | None
    """95 % confidence interval of the mean; only for the loss with which models are compared."""
    retrainings: int
    """With refused ones, without one after the last partition, since its version scores no partition."""
    refused: int
    seconds: float
    """Seconds of the trainings: those of the live trainings, or of the first computation of the models."""
    cost: float
    """Combined cost per partition: the metric as a loss, plus the cost of the retrainings divided by the number of partitions."""
    area: float
    """Mean of `cost` over the range of costs of a retraining, the area under that curve (Regol et al., When to retrain a machine
    learning model, ICML 2025, arXiv 2505.14903)."""
    gain: Interval | None
    """Gain in the metric over the live policy, see `compare`."""
    gain_each: float | None
    """Decrease of the metric's loss against never retraining, divided by the number of retrainings."""
    regret: float | None
    """`cost` minus the oracle's cost."""


@dataclass(frozen=True)
class Advice:
    """The policy that was selected on the first part of the range, and its performance on the rest."""

    policy: str
    against: str
    """The policy that it is compared with."""
    first: tuple[str, str]
    """First and last partition of the first part."""
    rest: tuple[str, str]
    """First and last partition of the rest; empty if there is none."""
    means: tuple[float, float]
    """Mean of the metric on the rest, of `policy` and of `against`."""
    gain: Interval | None
    """Gain in the metric over the other policy on the rest, minus the cost of more retrainings. None without an interval."""
    verdict: str
    """"better", "worse" or `UNCLEAR`."""
    equals: tuple[str, ...] = ()
    """Other policies with the same cost on the first part."""


@dataclass(frozen=True)
class Findings:
    """All results of a replay."""

    metric: str
    partitions: int
    cost: float
    """Cost of a retraining, in the metric over one partition."""
    costs: tuple[float, float]
    """Range of costs of a retraining for `area`."""
    standings: tuple[PolicyResult, ...]
    """Lowest cost first."""
    schedules: tuple[Schedule, ...]
    """The oracle's best schedule for each number of retrainings."""
    oracle: Schedule | None
    """The schedule with the lowest combined cost."""
    ranges: tuple[BestRange, ...]
    """For which costs of a retraining each gated policy is best."""
    oracle_ranges: tuple[BestRange, ...]
    """The same of the oracle's schedules."""
    calendar_ranges: tuple[BestRange, ...]
    """The same of the calendars in hindsight, without the gate: `every`, `every_2nd` ... for any number."""
    advice: Advice


def as_loss(metric: str, value: float | None) -> float:
    """Convert a metric to a loss, which is better when lower; NaN for None."""
    if value is None:
        return float("nan")
    return 1.0 - value if metric in HIGHER_IS_BETTER else value


def mean_loss(run: PolicyRun, metric: str, partitions: Sequence[str] | None = None) -> float:
    """Return the mean of the metric as a loss, weighted by the partitions' labelled rows; NaN without labelled rows."""
    steps = [s for s in run.steps if partitions is None or s.partition in partitions]
    pairs = [(as_loss(metric, s.metrics.get(metric)), s.rows) for s in steps if s.metrics.get(metric) is not None]
    total = sum(rows for _, rows in pairs)
    return sum(value * rows for value, rows in pairs) / total if total else float("nan")


def counted_retrainings(run: PolicyRun) -> list[Decision]:
    """Return the retrainings before the last partition: a version that is trained after it scores no partition of the range."""
    return [d for d in run.retrainings if d.as_of < run.steps[-1].as_of]


def from_loss(metric: str, loss: float) -> float:
    """Convert a loss back to the metric: the inverse of `as_loss`."""
    return 1.0 - loss if metric in HIGHER_IS_BETTER else loss


def compare(
    one: PolicyRun,
    other: PolicyRun,
    config: ModelConfig,
    partitions: Sequence[str] | None = None,
    metric: str = "",
) -> Interval | None:
    """Return the mean of `other`'s loss minus `one`'s with its 95 % interval, a paired bootstrap of blocks. None if there is none.

    For the loss with which models are compared, these are the blocks of time for which both have outcomes. Other metrics are no sums
    over blocks, so a partition is a block, and there must be `MIN_PARTITIONS`.

    Args:
        partitions: The partitions to compare on. By default all.
        metric: The metric, converted to a loss. By default the loss with which models are compared.
    """
    if metric in ("", config.target.eval_loss):
        a, b = (_blocks(run, partitions) for run in (one, other))
    else:
        a, b = (_partitions(run, metric, partitions) for run in (one, other))
    common = sorted(block for block in a.keys() & b.keys() if a[block][0] == b[block][0])
    if len(common) < (2 if metric in ("", config.target.eval_loss) else MIN_PARTITIONS):
        return None
    rows = np.array([a[block][0] for block in common])
    sums = np.array([b[block][1] - a[block][1] for block in common])
    return mean_bounds(sums, rows, LEVEL, config.gate.gain.resamples, config.training.seed)


def _partitions(run: PolicyRun, metric: str, partitions: Sequence[str] | None) -> dict[float, tuple[float, float]]:
    """Return labelled rows and the metric as a loss times these rows, by the partition's position."""
    return {
        float(at): (float(step.rows), as_loss(metric, step.metrics[metric]) * step.rows)
        for at, step in enumerate(run.steps)
        if (partitions is None or step.partition in partitions) and step.metrics.get(metric) is not None
    }


def _blocks(run: PolicyRun, partitions: Sequence[str] | None) -> dict[float, tuple[float, float]]:
    """Return labelled rows and sum of losses by block. The parts of a block in several partitions are added."""
    blocks: dict[float, tuple[float, float]] = {}
    for step in run.steps:
        if partitions is None or step.partition in partitions:
            for block, rows, loss in step.blocks:
                total = blocks.get(block, (0.0, 0.0))
                blocks[block] = (total[0] + rows, total[1] + loss)
    return blocks


def interval_of(run: PolicyRun, config: ModelConfig) -> Interval | None:
    """Return the mean of the loss with its 95 % interval."""
    blocks = _blocks(run, None)
    if not blocks:
        return None
    rows, sums = np.array([blocks[b] for b in sorted(blocks)]).T
    return mean_bounds(sums, rows, LEVEL, config.gate.gain.resamples, config.training.seed, 0.0)


def evaluate_policies(
    runs: Sequence[PolicyRun], table: TrainingTable | None, metric: str, cost: float, config: ModelConfig
) -> Findings:
    """Compare the policies with each other, with the live policy and with the oracle.

    Args:
        runs: One for each policy, with the live one.
        table: The oracle's table, None without an oracle.
        cost: Cost of a retraining, in the metric over one partition.
    """
    by_name = {run.policy: run for run in runs}
    schedules = tuple(best_schedules(_losses(table, metric), table.rows())) if table else ()
    calendars = calendar_schedules(_losses(table, metric), table.rows()) if table else []
    count = len(by_name[LIVE].steps)
    highest = 2 * cost or highest_gain_per_retraining(runs, metric) or gain_of_best_single_retraining(schedules, count)
    costs = (0.0, highest)
    oracle = min(schedules, key=lambda s: s.mean + cost * len(s.trainings) / count) if schedules else None
    oracle_cost = oracle.mean + cost * len(oracle.trainings) / count if oracle else None
    results = []
    for run in runs:
        mean, retrainings = mean_loss(run, metric), counted_retrainings(run)
        n = len(retrainings)
        combined = mean + cost * n / count
        gain = mean_loss(by_name[NEVER], metric) - mean if NEVER in by_name and n else None
        results.append(
            PolicyResult(
                policy=run.policy,
                mean=from_loss(metric, mean),
                interval=interval_of(run, config) if metric == config.target.eval_loss else None,
                retrainings=n,
                refused=sum(d.outcome == "refused" for d in retrainings),
                seconds=sum(d.seconds for d in retrainings),
                cost=combined,
                area=mean + (costs[0] + costs[1]) / 2 * n / count,
                gain=compare(run, by_name[LIVE], config, metric=metric) if run.policy != LIVE else None,
                gain_each=gain / n if gain is not None else None,
                regret=combined - oracle_cost if oracle_cost is not None else None,
            )
        )
    ranked = tuple(sorted(results, key=lambda s: (s.cost, s.retrainings, s.policy)))
    gated = [(run.policy, mean_loss(run, metric), len(counted_retrainings(run))) for run in _gated(runs)]
    return Findings(
        metric,
        count,
        cost,
        costs,
        ranked,
        schedules,
        oracle,
        best_ranges(gated, count),
        oracle_ranges(schedules, count),
        calendar_ranges(calendars, count),
        advise(by_name, metric, cost, config),
    )


def _gated(runs: Iterable[PolicyRun]) -> list[PolicyRun]:
    """Return the policies that can be chosen: not those without the gate."""
    return [run for run in runs if run.policy not in UNGATED]


def _losses(table: TrainingTable, metric: str) -> np.ndarray:
    values = table.values(metric)
    return 1.0 - values if metric in HIGHER_IS_BETTER else values


def highest_gain_per_retraining(runs: Sequence[PolicyRun], metric: str) -> float:
    """Return the highest gain of a policy over never retraining, summed over partitions and divided by its retrainings.

    At a higher cost of a retraining, no policy is better than never retraining.
    """
    never = next((mean_loss(run, metric) for run in runs if run.policy == NEVER), float("nan"))
    counts = [(run, len(counted_retrainings(run))) for run in _gated(runs)]
    gains = [(never - mean_loss(run, metric)) * len(run.steps) / n for run, n in counts if n]
    return max([g for g in gains if g > 0], default=0.0)


def gain_of_best_single_retraining(schedules: Sequence[Schedule], partitions: int) -> float:
    """Return the gain of the oracle's best single retraining over none, summed over partitions."""
    by_count = {len(s.trainings): s.mean for s in schedules}
    return max(0.0, (by_count[0] - by_count[1]) * partitions) if {0, 1} <= by_count.keys() else 0.0


def advise(by_name: Mapping[str, PolicyRun], metric: str, cost: float, config: ModelConfig) -> Advice:
    """Select the gated policy with the lowest combined cost on the first half of the partitions, and evaluate it on the rest.

    It is compared with the live policy. The live policy itself is compared with never retraining.
    """
    keys = [step.partition for step in by_name[LIVE].steps]
    moments = {step.partition: step.as_of for step in by_name[LIVE].steps}
    half = (len(keys) + 1) // 2
    first, rest = keys[:half], keys[half:]

    def count(run: PolicyRun, part: list[str]) -> int:
        start = moments[part[0]] if part is rest else datetime.min.replace(tzinfo=UTC)
        return sum(start <= d.as_of < moments[part[-1]] for d in run.retrainings)

    def combined_cost(run: PolicyRun) -> tuple[float, int, str]:
        n = count(run, first)
        return mean_loss(run, metric, first) + cost * n / len(first), n, run.policy

    measured = [run for run in _gated(by_name.values()) if np.isfinite(mean_loss(run, metric, first))]
    selected = min(measured, key=combined_cost, default=by_name[LIVE])
    against = LIVE if selected.policy != LIVE else NEVER if NEVER in by_name else LIVE
    gain = compare(selected, by_name[against], config, rest, metric) if rest and against != selected.policy else None
    losses = mean_loss(selected, metric, rest), mean_loss(by_name[against], metric, rest)
    if gain is not None:
        difference = cost * (count(selected, rest) - count(by_name[against], rest)) / len(rest)
        gain = Interval(gain.value - difference, gain.lower - difference, gain.upper - difference)
    verdict = UNCLEAR
    if gain is not None and (gain.lower > 0 or gain.upper < 0):
        verdict = "better" if gain.lower > 0 else "worse"
    means = (from_loss(metric, losses[0]), from_loss(metric, losses[1]))
    spans = ((first[0], first[-1]), (rest[0], rest[-1]) if rest else ("", ""))
    equals = tuple(
        run.policy for run in measured if run is not selected and combined_cost(run)[0] == combined_cost(selected)[0]
    )
    return Advice(selected.policy, against, *spans, means, gain, verdict, equals)
