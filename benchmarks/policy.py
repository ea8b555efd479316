"""The default retraining policy beside the simplest alternatives: never, always, the best calendar in hindsight, random schedules.

    python -m benchmarks policy

Replays `signals.expected_gain` with the gate on flights by the week and electricity by the week, from the bundled files, at five costs
of a retraining. Its constants were chosen on simulated data, not on these. The alternatives come from a table of every possible training
on every later partition, without the gate (tasks/replay/oracle.py). `always` retrains at each partition. The best calendar retrains after
every k-th partition, with the k that was best on these very data, so nobody could have known it. Mean loss plus cost of retrainings per
partition: lower is better. Writes the table into docs/results.md. Takes about an hour on two cores.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from benchmarks.always import DATA_SETS, DataSet, empty_lake
from configs.settings import ROOT

if TYPE_CHECKING:
    from tasks.replay.oracle import Schedule

COSTS = (0.003, 0.01, 0.03, 0.1, 0.3)
RANDOM = 2000
"""Random schedules with as many retrainings."""
SETS = ("flights by the week", "electricity by the week")
PAGE = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- made by `python -m benchmarks policy` -->\n", "<!-- end of policy -->\n"
HEAD = (
    "data",
    "cost",
    "never",
    "always",
    "best calendar in hindsight",
    "`expected_gain`",
    "retrained",
    "gap closed",
    "better than random",
)


@dataclass(frozen=True)
class Row:
    """One data set at one cost. All but the last four are loss plus cost per partition."""

    data: str
    cost: float
    never: float
    always: float
    best: float
    every: int
    """The best calendar's interval in partitions; 0: never."""
    ours: float
    retrainings: int
    partitions: int
    beaten: float | None
    """Share of random schedules with as many retrainings that have a higher loss; None without any retraining."""

    @property
    def closed(self) -> float | None:
        """Share of the gap between never and the best calendar that the policy closes; None if there is no gap."""
        gap = self.never - self.best
        return (self.never - self.ours) / gap if gap > 1e-9 else None


def measure(data: DataSet, costs: Sequence[float], on_row: Callable[[Row], None]) -> list[Row]:
    """Replay the policy at each cost, and compare it with schedules of the table of all trainings."""
    from configs.retraining import Retraining
    from tasks.replay.oracle import calendar_schedules, measure_all, random_schedules
    from tasks.replay.policies import EXPECTED_GAIN, policy_on
    from tasks.replay.setup import open_replayed_model, prepare_replay, prepare_variant
    from tasks.replay.simulate import simulate_policy
    from tasks.replay.standings import counted_retrainings, mean_loss

    live = open_replayed_model(data.model, data.override())
    prepare_variant(live.ref(data.end).end, live)
    setup = prepare_replay(data.start, data.end, live)
    metric, seed, rows = live.config.target.eval_loss, live.config.training.seed, []
    rule = Retraining().signals.expected_gain
    policies = {cost: policy_on(expected_gain=rule).model_copy(update={"cost": cost}) for cost in costs}
    runs = {cost: simulate_policy(EXPECTED_GAIN, p, setup.begin, setup.refs, live) for cost, p in policies.items()}
    table = measure_all(setup.begin, setup.refs, live)
    values, weights, count = table.values(metric), table.rows(), len(setup.refs)
    calendars = calendar_schedules(values, weights)
    for cost, run in runs.items():
        n, loss = len(counted_retrainings(run)), mean_loss(run, metric)
        best = min(calendars, key=lambda s: _priced(s, cost, count))
        beaten = random_schedules(values, weights, n, RANDOM, seed) > loss if n else None
        row = Row(
            data=data.title,
            cost=cost,
            never=calendars[-1].mean,
            always=_priced(calendars[0], cost, count),
            best=_priced(best, cost, count),
            every=best.trainings[0] if best.trainings else 0,
            ours=loss + cost * n / count,
            retrainings=n,
            partitions=count,
            beaten=None if beaten is None else float(np.mean(beaten)),
        )
        on_row(row)
        rows.append(row)
    return rows


def _priced(schedule: "Schedule", cost: float, partitions: int) -> float:
    """Return loss plus cost per partition of a schedule."""
    return schedule.mean + cost * len(schedule.trainings) / partitions


def cells(row: Row) -> list[str]:
    """Return a row's cells as text."""
    best = f"{row.best:.4f} (every {row.every})" if row.every else f"{row.best:.4f} (never)"
    return [
        row.data,
        f"{row.cost:g}",
        f"{row.never:.4f}",
        f"{row.always:.4f}",
        best,
        f"{row.ours:.4f}",
        f"{row.retrainings} of {row.partitions - 1}",
        "no gap" if row.closed is None else f"{row.closed:.0%}",
        "" if row.beaten is None else f"{row.beaten:.0%}",
    ]


def markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [f"| {' | '.join(HEAD)} |", f"|---{'|---:' * (len(HEAD) - 1)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(cells(row))} |" for row in rows)]) + "\n"


def write(rows: Sequence[Row]) -> None:
    """Replace the table in docs/results.md."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + markdown(rows) + END + rest.partition(END)[2])


def report(console: Console) -> None:
    """Print the rows as they come, and write the table."""
    rows: list[Row] = []
    with empty_lake():
        for name in SETS:
            began = time.monotonic()
            rows += measure(DATA_SETS[name], COSTS, lambda row: console.print(" | ".join(cells(row))))
            console.print(f"{time.monotonic() - began:.0f} s\n")
    write(rows)
    console.print(f"Written: {PAGE.relative_to(ROOT)}")
