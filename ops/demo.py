"""Play a year of flights through the real servers: `make demo`.

It is `make play` (`ops/play.py`) for April to December, with a first champion that is trained on January to March, and two more
tables: the estimates of the loss, and the same months without retraining.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ops.play import Play, run_command

if TYPE_CHECKING:
    from rich.table import Table

    from tasks.reports.summary import PartitionSummary

MODEL = "flights"
FIRST, LAST = "2013-04", "2013-12"


def more_tables(play: Play, rows: "Sequence[PartitionSummary]") -> "Iterator[Table]":
    """Yield the estimated losses, and the metrics that the first champion would have had in each month."""
    from ops.tables import estimate_table, never_table
    from tasks.steps.assess import measure_version

    res = play.res
    first = res.ledger.champions()[0].version
    with play.timed("tables"):
        never = {s.key: measure_version(first, res.ref(s.key), res) for s in rows if s.roc_auc is not None}
    yield estimate_table(rows)
    yield never_table(rows, never, first)


def main() -> int:
    """Start the servers, run the demo and print its results. It continues where an earlier call stopped."""
    return run_command(MODEL, FIRST, LAST, "make demo", more_tables)


if __name__ == "__main__":
    sys.exit(main())
