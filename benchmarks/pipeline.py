"""Flow runs through real deployments and a real worker, and plain scripts that do the same without Prefect.

A run's CPU is that of the process that the worker starts for it, with its children. Plain scripts call the same functions one after
another, without tasks, server and artifacts. Both write pages, MLflow runs and the model card.
"""

import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from benchmarks.harness import Row, Spent, in_turns, row, run_program
from benchmarks.reaction import deploy_empty
from benchmarks.site import NEXT, Site, site

LONG, SHORT = 1, 2
"""Rounds of long runs, which take 30 s and differ by a few per cent from round to round, and of short ones."""
QUIET = """
from configs.settings import disable_telemetry
disable_telemetry()
"""
PROCESS = f"""{QUIET}
from tasks.reports.pages.publish import refresh_pages
from tasks.steps.run import run_steps
from tasks.resources import open_resources
from tasks.steps.order import PROCESS
res = open_resources("flights")
ref = res.ref("{NEXT}")
with res.claims.hold(ref.key):
    print(run_steps(ref, PROCESS, res))
refresh_pages(res)
"""
TRAIN = f"""{QUIET}
from tasks.reports.card.page import publish_card
from tasks.reports.pages.publish import refresh_pages
from tasks.orchestration.prefect_tasks import simulation
from tasks.lifecycle.train_and_judge import train_and_judge
from tasks.resources import open_resources
res = open_resources("flights")
with simulation():
    training = train_and_judge(res.ref("{NEXT}").as_of, "benchmark", res)
    publish_card(training, res)
refresh_pages(res)
"""
VENDORS = f"""{QUIET}
from benchmarks.vendors import month
month("{NEXT}")
"""
OUTPUTS = ("raw", "valid", "quarantine", "sketches", "predictions", "estimates", "monitoring", "shadow", "former")
"""Outputs of `process`."""


def rows() -> list[Row]:
    copy = site()
    deploy_empty(copy)
    *process, vendors = in_turns(
        deployed(copy, "process/flights", delete_outputs, partition=NEXT),
        plain(copy, PROCESS, delete_outputs),
        plain(copy, VENDORS),
        rounds=LONG,
        warm=False,
    )
    copy.run_deployment("assess/flights", partition=NEXT)  # its labels are collected once, for every training
    moment, ended = "2013-05-02T00:00:00-04:00", set()
    with restoring(copy) as restore:
        train = in_turns(
            then(deployed(copy, "train/flights", restore, as_of=moment), lambda: ended.add(actions(copy))),
            then(plain(copy, TRAIN, restore), lambda: ended.add(actions(copy))),
            rounds=LONG,
            warm=False,
        )
        restore(copy)
    assert len(ended) == 1, f"the trainings ended differently: {ended}"
    deployed_both, plain_both = (
        [_sum(a, b) for a, b in zip(*pair, strict=True)] for pair in zip(process, train, strict=True)
    )
    fresh, empty, imported = in_turns(
        then(deployed(copy, "process/flights", partition=NEXT), lambda: assert_everything_fresh(copy)),
        deployed(copy, "empty/benchmark"),
        plain(copy, "import prefect"),
        rounds=SHORT,
        warm=False,
    )
    return [
        row(
            "pipeline: process and train of flights, through deployments",
            "the same functions in a plain script",
            deployed_both,
            plain_both,
            1.25,
            note="a run's CPU is its process's, without the worker's and the servers' share",
        ),
        row("a `process` run that finds everything fresh", "import prefect", fresh, imported, 2.0),
        row("a run of a flow with nothing in it", "import prefect", empty, imported, note="Prefect's own minimum"),
        row(
            "a `process` run of a month of flights",
            "importing and calling its vendors in one script",
            process[0],
            vendors,
            1.15,
        ),
    ]


@contextmanager
def restoring(copy: Site) -> Iterator[Callable[[Site], None]]:
    """Yield a function that restores the current ledger, so that each training has the same champion."""
    path = copy.folder / ".evergreen" / "evergreen.db"
    with closing(sqlite3.connect(":memory:")) as backup:
        with closing(sqlite3.connect(path)) as ledger:
            ledger.backup(backup)

        def restore(_: Site) -> None:
            with closing(sqlite3.connect(path)) as ledger:
                backup.backup(ledger)

        yield restore


def actions(copy: Site) -> tuple[str, ...]:
    """Return the action of each row of the ledger."""
    with closing(sqlite3.connect(copy.folder / ".evergreen" / "evergreen.db")) as ledger:
        return tuple(action for (action,) in ledger.execute("SELECT action FROM promotions ORDER BY sequence"))


def then(way: Callable[[], Spent], after: Callable[[], object]) -> Callable[[], Spent]:
    """Call `after` after each measurement."""

    def both() -> Spent:
        spent = way()
        after()
        return spent

    return both


def assert_everything_fresh(copy: Site) -> None:
    """Check that the newest `process` run found everything fresh."""
    runs = sorted(copy.runs_of("process"), key=lambda run: run["start_time"] or "")
    assert "everything is fresh" in runs[-1]["state"]["message"], runs[-1]["state"]["message"]


def _sum(one: Spent, other: Spent) -> Spent:
    return Spent(one.wall + other.wall, one.cpu + other.cpu, max(one.mb, other.mb))


def delete_outputs(copy: Site) -> None:
    """Delete the outputs of `process` for the month."""
    for stage in OUTPUTS:
        for path in (copy.folder / "data" / "lake" / "flights" / stage).glob(f"{NEXT}.*"):
            path.unlink()


def deployed(
    copy: Site, name: str, before: Callable[[Site], None] = lambda _: None, **parameters: str
) -> Callable[[], Spent]:
    """Measure a deployment that the worker runs; the command that it starts measures itself."""

    def measured() -> Spent:
        before(copy)
        file = copy.folder / "spent.json"
        file.unlink(missing_ok=True)
        copy.run_deployment(
            name, f".venv/bin/python -m benchmarks.timed {file} .venv/bin/python -m prefect.engine", **parameters
        )
        while not file.exists():  # the run ends before its process does
            time.sleep(0.1)
        return Spent(**json.loads(file.read_text()))

    return measured


def plain(copy: Site, code: str, before: Callable[[Site], None] = lambda _: None) -> Callable[[], Spent]:
    """Measure Python code in the copy."""
    run = run_program([sys.executable, "-c", code], copy.environment, copy.folder)

    def measured() -> Spent:
        before(copy)
        return run()

    return measured
