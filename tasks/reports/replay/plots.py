"""Pictures of a replay, as PNG bytes by file name."""

from collections.abc import Sequence

import numpy as np

from configs.kinds import LOWER_IS_BETTER
from tasks.contracts import PolicyRun
from tasks.replay.policies import LIVE, NEVER
from tasks.replay.standings import Findings, shown
from tasks.reports.card.plots import GREY, MINE, THEIRS, as_png, new_figure

OTHERS = ("#4a7fb5", "#7d3c98", "#c0504d", "#5b8c85", "#8a6d3b", "#e08e0b", "#a55d8b", "#6b8e23")


def replay_plots(played: Sequence[PolicyRun], found: Findings) -> dict[str, bytes]:
    """What was gained for how many retrainings, when which policy acted, each partition's metric, and what it all costs."""
    return {
        "retrainings.png": _trade_off(played, found),
        "timeline.png": _timeline(played),
        "partitions.png": _partitions(played, found),
        "costs.png": _costs(played, found),
    }


def _colours(played: Sequence[PolicyRun]) -> dict[str, str]:
    others = iter(OTHERS * (1 + len(played) // len(OTHERS)))
    named = {LIVE: MINE, NEVER: GREY}
    return {p.policy: named.get(p.policy) or next(others) for p in played}


def _trade_off(played: Sequence[PolicyRun], found: Findings) -> bytes:
    """The metric against the number of retrainings, with the oracle's best for each number as a line."""
    figure, axes = new_figure(f"{found.metric} against retrainings")
    if found.schedules:
        x = [len(s.trainings) for s in found.schedules]
        axes.plot(
            x,
            [shown(found.metric, s.mean) for s in found.schedules],
            color=GREY,
            linewidth=1,
            label="best in hindsight",
        )
    colours = _colours(played)
    for s in found.standings:
        axes.plot(s.retrainings, s.mean, "o", color=colours[s.policy], markersize=5, label=s.policy)
    axes.set(xlabel="retrainings, refused ones too", ylabel=found.metric)
    axes.legend(frameon=False, fontsize=6, ncols=2)
    return as_png(figure)


def _timeline(played: Sequence[PolicyRun]) -> bytes:
    """A row for each policy: filled where a retraining led to a champion, hollow where it was refused, a cross where it rolled back."""
    figure, axes = new_figure("When each policy retrained", height=0.28 * len(played) + 1.2)
    keys = [step.partition for step in played[0].steps]
    moments = [step.as_of for step in played[0].steps]
    colours = _colours(played)
    for row, one in enumerate(played):
        axes.axhline(row, color="#eeeeee", linewidth=1, zorder=0)
        for decision in one.retrainings:
            filled = decision.outcome in ("promoted", "staged")
            face = colours[one.policy] if filled else "white"
            axes.plot(
                moments.index(decision.as_of), row, "o", color=colours[one.policy], markerfacecolor=face, markersize=5
            )
        for back in (p for p in one.promotions if p.action == "rollback"):
            at = max((i for i, moment in enumerate(moments) if moment <= back.as_of), default=0)
            axes.plot(at, row, "x", color="#c0504d", markersize=7)
    axes.set_yticks(range(len(played)), [p.policy for p in played], fontsize=7)
    axes.invert_yaxis()
    _partition_ticks(axes, keys)
    return as_png(figure)


def _partitions(played: Sequence[PolicyRun], found: Findings) -> bytes:
    """The metric of each partition: live with its interval, never, and the policy that costs least."""
    figure, axes = new_figure(f"{found.metric} of each partition")
    by_name = {p.policy: p for p in played}
    wanted = dict.fromkeys([LIVE, NEVER, found.standings[0].policy])
    colours = {found.standings[0].policy: THEIRS} | {LIVE: MINE, NEVER: GREY}
    for one in (by_name[name] for name in wanted if name in by_name):
        values = [step.metrics.get(found.metric) for step in one.steps]
        y = [np.nan if value is None else value for value in values]
        axes.plot(
            range(len(y)), y, color=colours[one.policy], marker="o", markersize=3, linewidth=1.2, label=one.policy
        )
        if one.policy == LIVE:
            bounds = [step.intervals.get(found.metric, (None, None)) for step in one.steps]
            low, high = ([np.nan if b[at] is None else b[at] for b in bounds] for at in (0, 1))
            if found.metric in LOWER_IS_BETTER:  # no loss is below nought, though the bound of few blocks may be
                low = np.maximum(low, 0.0)
            axes.fill_between(range(len(y)), low, high, color=colours[one.policy], alpha=0.15, linewidth=0)
    _partition_ticks(axes, [step.partition for step in played[0].steps])
    axes.legend(frameon=False, fontsize=7)
    return as_png(figure)


def _costs(played: Sequence[PolicyRun], found: Findings) -> bytes:
    """Combined cost over what a retraining may cost; the oracle chooses anew for each."""
    figure, axes = new_figure("Combined cost by the cost of a retraining")
    costs, count = np.linspace(*found.costs, 50), len(played[0].steps)
    colours = _colours(played)
    for s in found.standings:
        axes.plot(
            costs,
            s.cost + (costs - found.cost) * s.retrainings / count,
            color=colours[s.policy],
            linewidth=1.2,
            label=s.policy,
        )
    if found.schedules:
        lines = [schedule.mean + costs * len(schedule.trainings) / count for schedule in found.schedules]
        axes.plot(costs, np.min(lines, axis=0), color="black", linewidth=1, linestyle="--", label="oracle")
    axes.axvline(found.cost, color=GREY, linewidth=1, linestyle=":")
    axes.set(xlabel=f"cost of a retraining, in {found.metric} over one partition", ylabel="a partition")
    axes.legend(frameon=False, fontsize=6, ncols=2)
    return as_png(figure)


def _partition_ticks(axes, keys: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    at = range(0, len(keys), max(1, len(keys) // 8))
    axes.set_xticks(list(at), [keys[i] for i in at], rotation=30, ha="right", fontsize=7)
