"""Play a year of flights: the whole life of a model on real data, through the real servers.

    make demo

Brings the stack up, backfills January to March, trains the first champion, then lets time
pass: April to December, each month processed and assessed by its deployments while the
automation retrains when a fact asks for it. Run again, it goes on where it stopped.
"""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from configs.errors import ConfigError
from configs.settings import load_settings
from ops import stack
from ops.errors import StackError
from ops.logs import log_errors, summary
from ops.programs import home_of
from ops.terminal import Bar, complain, terminal
from tasks.errors import EvergreenError
from tasks.resources import Resources, open_resources

MODEL = "flights"
FIRST, LAST_OF_START, LAST = "2013-01", "2013-03", "2013-12"


class Demo:
    """One playing of the year, and where its time went."""

    def __init__(self, res: Resources, console: Console) -> None:
        self.res, self.console = res, console
        self.spent: dict[str, float] = defaultdict(float)
        """Wall seconds by what they went into, in the order of the first of each."""

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.spent[what] += time.monotonic() - began

    def run(self, what: str, deployment: str, **parameters: str) -> None:
        """Run one deployment and count its time."""
        from ops.runs import run

        with self.timed(what):
            seconds = run(deployment, parameters, self.res.settings, self.console)
        shown = " ".join(v for k, v in parameters.items() if k not in ("model", "reason"))
        self.console.print(f"  {deployment:<18} {shown:<26} {seconds:5.0f} s")

    def begin(self) -> None:
        """January to March, and the first champion."""
        self.run("backfill", "backfill/manual", model=MODEL, start=FIRST, end=LAST_OF_START)
        if self.res.ledger.champion() is None:
            as_of = self.res.ref(LAST_OF_START).as_of.isoformat()
            self.run("first training", f"train/{MODEL}", model=MODEL, as_of=as_of, reason="first champion")
        champion = self.res.ledger.champion()
        if champion is None:
            raise StackError(
                f"the gate refused the first model; see {self.res.settings.prefect_url}/artifacts ({MODEL}-gate)"
            )
        self.console.print(f"  champion: version {champion.version}")

    def month(self, key: str) -> None:
        """Process and assess one month, and wait for what its event triggers."""
        from ops.runs import wait_for_decision
        from tasks.contracts.words import decision_text

        self.run("process", f"process/{MODEL}", model=MODEL, partition=key)
        self.run("assess", f"assess/{MODEL}", model=MODEL, partition=key)
        facts = [f for f in self.res.ledger.facts() if f.partition == key]
        for fact in facts:
            with self.timed("waiting for retraining"):
                decision = wait_for_decision(fact, self.res, self.console)
            self.console.print(f"  {'retrain/' + MODEL:<18} {key:<26} {decision_text(decision)} ({decision.reason})")


def settled(res: Resources, key: str) -> bool:
    """Whether a month is fresh in every stage and each of its facts has been decided."""
    from tasks.lifecycle.facts import assess_facts, process_facts
    from tasks.steps.order import IN_SHADOW, steps_of
    from tasks.steps.step import freshness

    ref = res.ref(key)
    states = {step: freshness(step, ref, res).state for step in steps_of(res.config)}
    needed = {state for step, state in states.items() if step not in IN_SHADOW or state != "waiting"}
    facts = [*process_facts(ref, res), *assess_facts(ref, res)]
    if needed != {"fresh"} or not all(res.ledger.has_fact(f.id) for f in facts):
        return False
    return not any(f.partition == key for f in res.ledger.undecided())


def play(res: Resources, console: Console) -> Demo:
    """Everything that is not settled yet, month by month."""
    from tasks.storage.partitions import between

    demo = Demo(res, console)
    months = [r.key for r in between(res.config, FIRST, LAST)]
    later = months[months.index(LAST_OF_START) + 1 :]
    todo = later if res.ledger.champion() is None else [key for key in later if not settled(res, key)]
    if res.ledger.champion() is None:
        console.rule("January to March", align="left")
        demo.begin()
    if not todo:
        console.print(
            f"Everything is fresh: {len(months)} months of {MODEL}, {len(res.ledger.decisions())} decisions. Nothing to do."
        )
    if todo:
        play_months(demo, todo)
    return demo


def play_months(demo: Demo, todo: Sequence[str]) -> None:
    """One month after the other, with a bar of how many are done where there is a terminal."""
    began, count = time.monotonic(), len(todo)
    with Bar(demo.console, f"0 of {count} months done", count) as bar:
        for number, key in enumerate(todo, start=1):
            bar.say(f"{number - 1} of {count} months done")
            bar.reach(number - 1, count)
            each = (time.monotonic() - began) / max(1, number - 1)
            left = f", some {each * (count - number + 1) / 60:.0f} min left" if number > 1 else ""
            demo.console.rule(f"{key}  ({number} of {count}{left})", align="left")
            demo.month(key)


def show(demo: Demo, started: float) -> None:
    """The tables at the end, and where to look. `started` is how many seconds the servers took."""
    from ops.tables import (
        decision_table,
        estimate_table,
        gate_table,
        hindsight_table,
        never_table,
        time_table,
        year_table,
    )
    from tasks.reports.summary import summarise
    from tasks.steps.assess import measure_version

    res, console = demo.res, demo.console
    rows = [s for s in summarise(res) if s.key > LAST_OF_START]
    first = res.ledger.champions()[0].version
    with demo.timed("tables"):
        never = {s.key: measure_version(first, res.ref(s.key), res) for s in rows if s.roc_auc is not None}
    decisions = {d.fact_id: d for d in res.ledger.decisions()}
    console.print(year_table(rows), decision_table(rows, decisions), gate_table(res.ledger.promotions()))
    console.print(hindsight_table(res.ledger.hindsights()), estimate_table(rows), never_table(rows, never, first))
    if demo.spent.keys() - {"tables"}:
        console.print(time_table({"starting the servers": started, **demo.spent}))
    if problems := summary(log_errors(home_of(res.settings))):
        console.print(
            "Errors in the logs, which should have none:", *problems, sep="\n  ", style="yellow", markup=False
        )
    console.print(f"Look around:\n{stack.addresses(res.settings)}")


def show_log_errors(home: Path, console: Console) -> None:
    """Print each program whose log has errors, runs' own among them: in a demo nothing fails."""
    if found := summary(log_errors(home)):
        console.print("Errors in the logs, which should have none:", *found, sep="\n  ", style="yellow", markup=False)


def main() -> int:
    console = terminal()
    try:
        settings = load_settings()
        os.environ.update(stack.environment(settings))
        began = time.monotonic()
        stack.up(settings, console)
        started = time.monotonic() - began
        demo = play(open_resources(MODEL), console)
        show(demo, started)
    except (ConfigError, StackError, EvergreenError) as error:
        return complain(error)
    except KeyboardInterrupt:
        console.print("Stopped. `make demo` continues; servers that were up stay up, `make down` stops them.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
