"""Plots of a replay, as PNG bytes by file name."""

from bisect import bisect
from collections.abc import Sequence
from math import inf

import numpy as np

from configs.kinds import LOWER_IS_BETTER
from tasks.contracts import PolicyRun
from tasks.contracts.escape import for_plot
from tasks.replay.cost_curve import lowest_costs
from tasks.replay.policies import LIVE, NEVER, UNGATED
from tasks.replay.standings import Findings, from_loss
from tasks.reports.figures import GREEN, GREY, ORANGE, as_png, new_figure

WIDE = 6.4
OTHERS = ("#4a7fb5", "#7d3c98", "#c0504d", "#5b8c85", "#8a6d3b", "#e08e0b", "#a55d8b", "#6b8e23")


def replay_plots(runs: Sequence[PolicyRun], findings: Findings) -> dict[str, bytes]:
    """Draw metric against retrainings, retrainings over time, the metric by partition, and the combined cost of each policy."""
    return {
        "retrainings.png": _trade_off(runs, findings),
        "timeline.png": _timeline(runs),
        "partitions.png": _partitions(runs, findings),
        "costs.png": _costs(runs, findings),
    }


def _colours(runs: Sequence[PolicyRun]) -> dict[str, str]:
    others = iter(OTHERS * (1 + len(runs) // len(OTHERS)))
    fixed = {LIVE: GREEN, NEVER: GREY}
    return {p.policy: fixed.get(p.policy) or next(others) for p in runs}


def _trade_off(runs: Sequence[PolicyRun], findings: Findings) -> bytes:
    """Draw the metric against the number of retrainings, with the oracle's best for each number as a line."""
    figure, axes = new_figure(f"{findings.metric} against retrainings")
    if findings.schedules:
        x = [len(s.trainings) for s in findings.schedules]
        axes.plot(
            x,
            [from_loss(findings.metric, s.mean) for s in findings.schedules],
            color=GREY,
            linewidth=1,
            label="oracle",
        )
    colours = _colours(runs)
    for s in findings.standings:
        axes.plot(s.retrainings, s.mean, "o", color=colours[s.policy], markersize=5, label=for_plot(s.policy))
    axes.set(xlabel="retrainings, refused ones too", ylabel=findings.metric)
    axes.legend(frameon=False, fontsize=6, ncols=2)
    return as_png(figure)


def _timeline(runs: Sequence[PolicyRun]) -> bytes:
    """Draw a row for each policy: filled dot = retraining led to a champion, hollow dot = refused, cross = rollback."""
    figure, axes = new_figure("When each policy retrained", height=0.28 * len(runs) + 1.2)
    keys = [step.partition for step in runs[0].steps]
    moments = [step.as_of for step in runs[0].steps]
    colours = _colours(runs)
    for row, run in enumerate(runs):
        axes.axhline(row, color="#eeeeee", linewidth=1, zorder=0)
        for decision in run.retrainings:
            filled = decision.outcome in ("promoted", "staged")
            face = colours[run.policy] if filled else "white"
            x = max(0, bisect(moments, decision.as_of) - 1)
            axes.plot(x, row, "o", color=colours[run.policy], markerfacecolor=face, markersize=5)
        for rollback in (p for p in run.promotions if p.action == "rollback"):
            x = max(0, bisect(moments, rollback.as_of) - 1)
            axes.plot(x, row, "x", color="#c0504d", markersize=7)
    axes.set_yticks(range(len(runs)), [for_plot(p.policy) for p in runs], fontsize=7)
    axes.invert_yaxis()
    _partition_ticks(axes, keys)
    return as_png(figure)


def _partitions(runs: Sequence[PolicyRun], findings: Findings) -> bytes:
    """Draw the metric of each partition: live with its interval, never, and the policy with the lowest cost."""
    figure, axes = new_figure(f"{findings.metric} of each partition")
    by_name = {p.policy: p for p in runs}
    policies = dict.fromkeys([LIVE, NEVER, findings.standings[0].policy])
    colours = {findings.standings[0].policy: ORANGE} | {LIVE: GREEN, NEVER: GREY}
    for run in (by_name[name] for name in policies if name in by_name):
        values = [step.metrics.get(findings.metric) for step in run.steps]
        y = [np.nan if value is None else value for value in values]
        axes.plot(
            range(len(y)),
            y,
            color=colours[run.policy],
            marker="o",
            markersize=3,
            linewidth=1.2,
            label=for_plot(run.policy),
        )
        if run.policy == LIVE:
            bounds = [step.intervals.get(findings.metric, (None, None)) for step in run.steps]
            low, high = (np.array([b[i] for b in bounds], dtype="float64") for i in (0, 1))  # None becomes NaN
            if findings.metric in LOWER_IS_BETTER:  # a loss is never negative, but a bound from few blocks may be
                low = np.maximum(low, 0.0)
            axes.fill_between(range(len(y)), low, high, color=colours[run.policy], alpha=0.15, linewidth=0)
    _partition_ticks(axes, [step.partition for step in runs[0].steps])
    axes.legend(frameon=False, fontsize=7)
    return as_png(figure)


def _costs(runs: Sequence[PolicyRun], findings: Findings) -> bytes:
    """Draw the combined cost against the cost of a retraining: each gated policy in grey, and in its colour where it is best."""
    figure, axes = new_figure("Best policy by the cost of a retraining", width=WIDE)
    count, colours = findings.partitions, _colours(runs)
    borders = [r.upper for r in findings.ranges if r.upper < inf] or [findings.costs[1] or 1.0]
    lowest, highest = borders[0] / 10, borders[-1] * 3
    costs = np.geomspace(lowest, highest, 200)
    for s in findings.standings:
        if s.policy not in UNGATED:
            axes.plot(costs, s.cost + (costs - findings.cost) * s.retrainings / count, color="#d5d7da", linewidth=0.8)
    for best in findings.ranges:
        at = np.geomspace(max(best.lower, lowest), min(best.upper, highest), 50)
        y, names = best.line.mean + at * best.line.retrainings / count, best.line.names
        axes.plot(at, y, color=colours[names[0]], linewidth=3, label=for_plot(" or ".join(names)))
    for ranges, style, label in (
        (findings.calendar_ranges, "--", "best calendar in hindsight"),
        (findings.oracle_ranges, ":", "oracle"),
    ):
        if ranges:
            y = lowest_costs(ranges, costs, count)
            axes.plot(costs, y, color="black", linewidth=1, linestyle=style, label=label)
    shown = [lowest_costs(r, costs[[0, -1]], count) for r in (findings.ranges, findings.oracle_ranges) if r]
    low, high = np.min(shown), np.max(shown)
    span = (high - low) or abs(high) or 1.0  # all policies may cost the same
    axes.set_ylim(low - 0.05 * span, high + 0.3 * span)
    if lowest < findings.cost < highest:
        axes.axvline(findings.cost, color=GREY, linewidth=1, linestyle=":")
    axes.set(
        xscale="log",
        xlabel=f"cost of a retraining, in {findings.metric} over one partition",
        ylabel="combined cost per partition",
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False, fontsize=7)
    return as_png(figure)


def _partition_ticks(axes, keys: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    ticks = range(0, len(keys), max(1, len(keys) // 8))
    axes.set_xticks(list(ticks), [keys[i] for i in ticks], rotation=30, ha="right", fontsize=7)
