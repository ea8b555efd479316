"""Measure Evergreen in comparison with the libraries that it uses.

    python -m benchmarks             every ratio, in a quarter of an hour; writes docs/benchmarks.md and docs/benchmarks.json
    python -m benchmarks NAME ...    some of them, or a study that takes longer; writes nothing

Ratios: bootstrap, growth, ingest, monitoring, pipeline, reaction, scoring, serving, training, validation.
Studies, which print their own tables: always, backfill, drift, elec2, fleet, gate, new_model, pages, policy, poll, replay,
server, sink_database, source_address, source_database.
"""

import importlib
import sys
import time

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Row
from benchmarks.results import write
from benchmarks.site import open_site
from configs.settings import disable_telemetry

RATIOS = (
    "bootstrap",
    "ingest",
    "validation",
    "monitoring",
    "growth",
    "pipeline",
    "reaction",
    "training",
    "scoring",
    "serving",
)
STUDIES = (
    "always",
    "backfill",
    "drift",
    "elec2",
    "fleet",
    "gate",
    "new_model",
    "pages",
    "policy",
    "poll",
    "replay",
    "server",
    "sink_database",
    "source_address",
    "source_database",
)


def main() -> int:
    console = Console(highlight=False)
    names = sys.argv[1:]
    if unknown := set(names) - {*RATIOS, *STUDIES}:
        console.print(f"error: no benchmark {', '.join(sorted(unknown))}; there are: {', '.join((*RATIOS, *STUDIES))}")
        return 2
    disable_telemetry()
    began, measured, failed = time.monotonic(), [], []
    with open_site():
        for name in names or RATIOS:
            subject = importlib.import_module(f"benchmarks.{name}")
            if name in STUDIES:
                subject.report(console)
                continue
            try:
                with console.status(f"{name} ({time.monotonic() - began:.0f} s so far)"):
                    rows = subject.rows()
            except Exception:  # noqa: BLE001  (the others are measured all the same)
                failed.append(name)
                console.print_exception()
                continue
            measured += rows
            console.print(f"[{time.monotonic() - began:.0f} s so far]", markup=False)
            for row in rows:
                console.print(summary_line(row))
    if measured:
        console.print(table(measured))
    if failed:
        console.print(f"error: could not be measured: {', '.join(failed)}; nothing was written")
        return 1
    if not names:
        write(measured, time.monotonic() - began)
        console.print("Written: docs/benchmarks.md and docs/benchmarks.json")
    return 0


def summary_line(row: Row) -> str:
    """Return the ratio of a comparison as one line."""
    return f"{row.subject}: {row.ratio:.2f} x {row.against}"


def table(rows: list[Row]) -> Table:
    """Return a table of the comparisons, and whether each reaches its aim."""
    shown = Table("subject", "against", "ours", "theirs", "ratio", "spread", "aim", "", box=None)
    for row in rows:
        low, high = row.spread
        aim = "" if row.aim is None else f"{row.aim:.3g}"
        met = {None: "", True: "met", False: "MISSED"}[row.met]
        values = f"{row.ours:.3g} {row.unit}", f"{row.theirs:.3g}", f"{row.ratio:.3g}", f"{low:.3g}-{high:.3g}"
        shown.add_row(row.subject, row.against, *values, aim, met)
    return shown


if __name__ == "__main__":
    sys.exit(main())
