"""Run a year of flights through the real servers: `make demo`.

1. Start the stack, backfill January to March, and train the first champion.
2. Run `process` and `assess` for each month from April to December. The automation starts a retraining when a signal is
   emitted, and the demo waits for the decision.
3. Print tables of results.

A second run continues where the first one stopped.
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
from ops.terminal import Bar, print_error, terminal
from tasks.contracts.escape import for_terminal
from tasks.errors import EvergreenError
from tasks.resources import Resources, open_resources

MODEL = "flights"
FIRST, LAST_OF_START, LAST = "2013-01", "2013-03", "2013-12"


class Demo:
    """One run of the demo, with the wall time of each activity."""

    def __init__(self, res: Resources, console: Console) -> None:
        self.res, self.console = res, console
        self.spent: dict[str, float] = defaultdict(float)
        """Wall seconds by activity, in the order in which the activities first ran."""

    @contextmanager
    def timed(self, activity: str) -> Iterator[None]:
        """Count the body's wall seconds for the activity."""
        began = time.monotonic()
        yield
        self.spent[activity] += time.monotonic() - began

    def run(self, activity: str, deployment: str, **parameters: str) -> None:
        """Run a deployment, wait for its end and count its time for the activity."""
        from ops.runs import parameters_text, run

        with self.timed(activity):
            seconds = run(deployment, parameters, self.res.settings, self.console)
        self.console.print(f"  {deployment:<18} {for_terminal(parameters_text(parameters)):<26} {seconds:5.0f} s")

    def train_first_champion(self) -> None:
        """Backfill January to March and train the first champion on them."""
        self.run("backfill", "backfill/manual", model=MODEL, start=FIRST, end=LAST_OF_START)
        if self.res.ledger.champion() is None:
            as_of = self.res.ref(LAST_OF_START).as_of.isoformat()
            self.run("first training", f"train/{MODEL}", model=MODEL, as_of=as_of, reason="first champion")
        champion = self.res.ledger.champion()
        if champion is None:
            raise StackError(
                f"the gate refused the first model, so there is no champion; "
                f"read the reasons at {self.res.settings.prefect_url}/artifacts ({MODEL}-gate)"
            )
        self.console.print(f"  champion: version {champion.version}")

    def run_month(self, key: str) -> None:
        """Process and assess one month, and wait for the decision about each of its facts."""
        from ops.runs import wait_for_decision
        from tasks.contracts.words import decision_text

        self.run("process", f"process/{MODEL}", model=MODEL, partition=key)
        self.run("assess", f"assess/{MODEL}", model=MODEL, partition=key)
        facts = [f for f in self.res.ledger.facts() if f.partition == key]
        for fact in facts:
            with self.timed("waiting for retraining"):
                decision = wait_for_decision(fact, self.res, self.console)
            text = f"{decision_text(decision, self.res.ledger.promotions())} ({decision.reason})"
            self.console.print(f"  {'retrain/' + MODEL:<18} {key:<26} {for_terminal(text)}")


def is_complete(res: Resources, key: str) -> bool:
    """Return whether every step of a month is fresh and each of its facts has a decision."""
    from tasks.lifecycle.facts import assess_facts, process_facts
    from tasks.steps.order import SHADOW_STEPS, steps_of
    from tasks.steps.step import freshness

    ref = res.ref(key)
    states = {step: freshness(step, ref, res).state for step in steps_of(res.config)}
    needed = {state for step, state in states.items() if step not in SHADOW_STEPS or state != "waiting"}
    facts = [*process_facts(ref, res), *assess_facts(ref, res)]
    if needed != {"fresh"} or not all(res.ledger.has_fact(f.id) for f in facts):
        return False
    return not any(f.partition == key for f in res.ledger.undecided())


def run_demo(res: Resources, console: Console) -> Demo:
    """Run every month that is not complete yet, oldest first."""
    from tasks.storage.partitions import between

    demo = Demo(res, console)
    months = [r.key for r in between(res.config, FIRST, LAST)]
    later = months[months.index(LAST_OF_START) + 1 :]
    todo = later if res.ledger.champion() is None else [key for key in later if not is_complete(res, key)]
    if res.ledger.champion() is None:
        console.rule("January to March", align="left")
        demo.train_first_champion()
    if not todo:
        console.print(
            f"Everything is fresh: {len(months)} months of {MODEL}, {len(res.ledger.decisions())} decisions. Nothing to do."
        )
    if todo:
        run_months(demo, todo)
    return demo


def run_months(demo: Demo, todo: Sequence[str]) -> None:
    """Run months one after the other. A terminal shows a progress bar."""
    began, count = time.monotonic(), len(todo)
    with Bar(demo.console, f"0 of {count} months done", count) as bar:
        for number, key in enumerate(todo, start=1):
            bar.describe(f"{number - 1} of {count} months done")
            bar.set_progress(number - 1, count)
            seconds = (time.monotonic() - began) / max(1, number - 1)
            left = f", about {seconds * (count - number + 1) / 60:.0f} min left" if number > 1 else ""
            demo.console.rule(f"{key}  ({number} of {count}{left})", align="left")
            demo.run_month(key)


def print_results(demo: Demo, started: float) -> None:
    """Print the tables of results and the addresses of the servers. `started`: seconds that starting the servers took."""
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
    changes = res.ledger.promotions()
    console.print(year_table(rows), decision_table(rows, decisions, changes), gate_table(changes))
    console.print(hindsight_table(res.ledger.hindsights()), estimate_table(rows), never_table(rows, never, first))
    if demo.spent.keys() - {"tables"}:
        console.print(time_table({"starting the servers": started, **demo.spent}))
    print_log_errors(home_of(res.settings), console)
    console.print(f"Open these pages:\n{stack.addresses(res.settings)}")


def print_log_errors(home: Path, console: Console) -> None:
    """Print the programs whose logs have errors, those of flow runs included: in the demo no run fails."""
    if lines := summary(log_errors(home)):
        console.print(
            "The logs should have no errors, but have:", *map(for_terminal, lines), sep="\n  ", style="yellow"
        )


def main() -> int:
    """Start the servers, run the demo and print its results. It continues where an earlier call stopped."""
    console = terminal()
    try:
        settings = load_settings()
        os.environ.update(stack.environment(settings))
        began = time.monotonic()
        stack.up(settings, console)
        started = time.monotonic() - began
        demo = run_demo(open_resources(MODEL), console)
        print_results(demo, started)
    except (ConfigError, StackError, EvergreenError) as error:
        return print_error(error)
    except KeyboardInterrupt:
        console.print("Stopped. `make demo` continues. Servers that run keep running; `make down` stops them.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
