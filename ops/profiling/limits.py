"""Limits of the gate that fit the target: the loss of the best constant prediction in the worst partition."""

from typing import TYPE_CHECKING

from configs.flat import literal, quoted
from ops.profiling.describe import ROWS
from ops.profiling.periods import PERIOD
from ops.profiling.values import Periods, TargetChoice

if TYPE_CHECKING:
    import duckdb

LEAST = 30
"""Rows with an outcome that a partition must have to count."""


def loss_of_prior(
    con: "duckdb.DuckDBPyConnection", time: str, target: TargetChoice, outcome: str, periods: Periods
) -> tuple[float, float]:
    """Return a limit on the loss, a twentieth above the worst partition's loss by a constant prediction, and that loss.

    A constant prediction is the share of each class, or the mean, in all rows.
    """
    start = f"date_trunc('{PERIOD[periods.every]}', timezone({literal(periods.zone)}, {quoted(time)}))"
    rows = f"SELECT {start} AS period, {outcome} AS outcome FROM {ROWS} WHERE {quoted(time)} IS NOT NULL"  # noqa: S608
    if target.kind == "regression":
        loss = f"pow(outcome - (SELECT avg(outcome) FROM ({rows})), 2)"  # noqa: S608
    elif target.kind == "binary":
        loss = "-ln(CASE WHEN outcome = 1 THEN share ELSE 1 - share END)"
        rows = f"SELECT *, (SELECT avg(outcome) FROM ({rows})) AS share FROM ({rows})"  # noqa: S608
    else:
        total = sum(target.counts.values())
        cases = " ".join(f"WHEN {literal(name)} THEN {count / total!r}" for name, count in target.counts.items())
        loss = f"-ln(CASE outcome {cases} END)"
    query = (
        f"SELECT max(loss) FROM (SELECT avg({loss}) AS loss FROM ({rows}) WHERE outcome IS NOT NULL "  # noqa: S608
        f"GROUP BY period HAVING count(*) >= {LEAST})"
    )
    (worst,) = con.execute(query).fetchall()[0]
    if worst is None:  # partitions are small: all rows together
        (worst,) = con.execute(f"SELECT avg({loss}) FROM ({rows}) WHERE outcome IS NOT NULL").fetchall()[0]  # noqa: S608
    return float(f"{1.05 * worst:.3g}"), float(f"{worst:.3g}")
