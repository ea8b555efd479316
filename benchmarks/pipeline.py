"""Flow runs through real deployments and a real worker, beside plain scripts that do the same without Prefect.

A run's CPU is that of the process that the worker starts for it, with its children. Plain scripts call the same functions one after
another: no tasks, no server, no artifacts; pages, MLflow runs and the model card are made in both.
"""

import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from benchmarks.harness import Row, Spent, in_turns, row, tree
from benchmarks.reaction import deploy_empty
from benchmarks.site import NEXT, Site, site

LONG, SHORT = 1, 2
"""Rounds: of runs that take half a minute each, which differ by a few hundredths from round to round, and of short ones."""
QUIET = """
from configs.settings import silence_vendors
silence_vendors()
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
MADE = ("raw", "valid", "quarantine", "sketches", "predictions", "estimates", "monitoring", "shadow", "former")
"""Stages of `process`."""


def rows() -> list[Row]:
    made = site()
    deploy_empty(made)
    *process, vendors = in_turns(
        deployed(made, "process/flights", forget, partition=NEXT),
        plain(made, PROCESS, forget),
        plain(made, VENDORS),
        rounds=LONG,
        warm=False,
    )
    made.deployment("assess/flights", partition=NEXT)  # its labels are collected once, for every training
    moment, ended = "2013-05-02T00:00:00-04:00", set()
    with restoring(made) as restore:
        train = in_turns(
            then(deployed(made, "train/flights", restore, as_of=moment), lambda: ended.add(actions(made))),
            then(plain(made, TRAIN, restore), lambda: ended.add(actions(made))),
            rounds=LONG,
            warm=False,
        )
        restore(made)
    assert len(ended) == 1, f"the trainings ended otherwise: {ended}"
    both = [[_sum(a, b) for a, b in zip(*pair, strict=True)] for pair in zip(process, train, strict=True)]
    fresh, empty, imported = in_turns(
        then(deployed(made, "process/flights", partition=NEXT), lambda: hold_to_fresh(made)),
        deployed(made, "empty/benchmark"),
        plain(made, "import prefect"),
        rounds=SHORT,
        warm=False,
    )
    return [
        row(
            "pipeline: process and train of flights, through deployments",
            "the same functions in a plain script",
            *both,
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
def restoring(made: Site) -> Iterator[Callable[[Site], None]]:
    """Yields what puts the ledger back to what it is now, so that each training has the same champion to beat."""
    path = made.folder / ".evergreen" / "evergreen.db"
    with closing(sqlite3.connect(":memory:")) as kept:
        with closing(sqlite3.connect(path)) as ledger:
            ledger.backup(kept)

        def restore(_: Site) -> None:
            with closing(sqlite3.connect(path)) as ledger:
                kept.backup(ledger)

        yield restore


def actions(made: Site) -> tuple[str, ...]:
    """What the ledger says was done, row by row."""
    with closing(sqlite3.connect(made.folder / ".evergreen" / "evergreen.db")) as ledger:
        return tuple(action for (action,) in ledger.execute("SELECT action FROM promotions ORDER BY sequence"))


def then(way: Callable[[], Spent], after: Callable[[], object]) -> Callable[[], Spent]:
    """Do something when it has been measured."""

    def both() -> Spent:
        spent = way()
        after()
        return spent

    return both


def hold_to_fresh(made: Site) -> None:
    """See that the newest `process` run found nothing to do."""
    runs = sorted(made.runs_of("process"), key=lambda run: run["start_time"] or "")
    assert "everything is fresh" in runs[-1]["state"]["message"], runs[-1]["state"]["message"]


def _sum(one: Spent, other: Spent) -> Spent:
    return Spent(one.wall + other.wall, one.cpu + other.cpu, max(one.mb, other.mb))


def forget(made: Site) -> None:
    """Remove what `process` makes of the month, so that it is made again."""
    for stage in MADE:
        for path in (made.folder / "data" / "lake" / "flights" / stage).glob(f"{NEXT}.*"):
            path.unlink()


def deployed(
    made: Site, name: str, before: Callable[[Site], None] = lambda _: None, **parameters: str
) -> Callable[[], Spent]:
    """Run a deployment by the worker; the command that it starts counts what it takes."""

    def measured() -> Spent:
        before(made)
        file = made.folder / "spent.json"
        file.unlink(missing_ok=True)
        made.deployment(
            name, f".venv/bin/python -m benchmarks.timed {file} .venv/bin/python -m prefect.engine", **parameters
        )
        while not file.exists():  # the run ends before its process does
            time.sleep(0.1)
        return Spent(**json.loads(file.read_text()))

    return measured


def plain(made: Site, code: str, before: Callable[[Site], None] = lambda _: None) -> Callable[[], Spent]:
    """Run some lines of Python in the copy."""
    run = tree([sys.executable, "-c", code], made.environment, made.folder)

    def measured() -> Spent:
        before(made)
        return run()

    return measured
