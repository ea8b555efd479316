"""Play a model's history through the real servers: `make play MODEL=electricity FROM=1998-W27 TO=1998-W40`.

1. Start the stack. Without a champion, backfill the partitions before `FROM`, and train the first champion on them.
2. Run `process` for each partition from `FROM` to `TO` as of when it is complete, and `assess` as of when its labels have matured, in one
   order of time. The automation starts a retraining when a fact is emitted, and the next run waits for its decision and for the
   retraining. So each partition is scored by the champion that production would have had.
3. Print tables of results.

A second run continues where the first one stopped: partitions that are done are skipped.
"""

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from configs.errors import ConfigError
from configs.settings import load_settings
from ops import stack
from ops.errors import StackError
from ops.logs import log_errors, summary
from ops.play_range import blocked_reason, is_complete, order_of_runs, split_range, training_problem
from ops.programs import home_of
from ops.terminal import Bar, print_error, terminal
from tasks.contracts import FOR_PEOPLE, Stage
from tasks.contracts.escape import for_terminal
from tasks.contracts.words import first_line
from tasks.errors import EvergreenError
from tasks.reports.refusals import last_refusal, record_error
from tasks.resources import Resources, open_resources
from tasks.source.extent import PERIOD
from tasks.storage.partitions import NoPartition, between

if TYPE_CHECKING:
    from rich.table import Table

    from tasks.reports.summary import PartitionSummary

ExtraTables = Callable[["Play", "Sequence[PartitionSummary]"], "Iterable[Table]"]

SHOWN = 24
"""The newest partitions, which the tables show."""


class Play:
    """One run over a range of partitions, with the wall time of each activity."""

    def __init__(self, res: Resources, console: Console) -> None:
        self.res, self.console, self.model = res, console, res.config.name
        self.spent: dict[str, float] = defaultdict(float)
        """Wall seconds by activity, in the order in which the activities first ran."""
        self.shown: set[str] = set()
        """Ids of the facts whose decision was printed."""

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

    def run_over(self, keys: Sequence[str], activity: str, deployment: str, **parameters: str) -> None:
        """The same for a run over partitions. Partitions that are blocked by their data are printed, and do not stop the play.

        Raises:
            RunFailed: The run failed for another reason.
        """
        from ops.runs import RunFailed

        try:
            self.run(activity, deployment, model=self.model, **parameters)
        except RunFailed as error:
            blocked = {key: reason for key in keys if (reason := blocked_reason(key, self.res))}
            failures = ((key, self.res.lake.failure(stage, key)) for key in keys for stage in Stage)
            if failed := next((f"{key}: {first_line(text)}" for key, text in failures if text), ""):
                raise RunFailed(f"{error}\n{failed}") from error
            if not blocked:
                raise
            for key, reason in blocked.items():
                self.console.print(f"  {key} is blocked and left out: {for_terminal(reason)}", style="yellow")

    def prepare(self, earlier: Sequence[str], keys: Sequence[str]) -> Sequence[str]:
        """Backfill the partitions that a training before the first played one needs, and train the first champion if there is none.

        Args:
            earlier: The partitions before the first played one, oldest first.
            keys: The partitions to play.

        Returns:
            The partitions to play, without those at the beginning that the first champion needed for its training.

        Raises:
            StackError: There are too few rows for a first champion, or see `train_first_champion`.
        """
        if champion := self.res.ledger.champion():
            after = [key for key in earlier if self.res.ref(key).end > champion.window_end]
            if any(self.res.lake.record(Stage.RAW, key) is None for key in after):
                self.backfill(after)
            return keys
        self.backfill(earlier[-(self.res.config.training.window.partitions or len(earlier)) :])
        last = earlier[-1]
        while problem := training_problem(last, self.res):
            if len(keys) < 2:
                record_error(self.res.ref(last).complete, problem, self.res)
                raise StackError(f"{problem}; or choose a later TO")
            last, keys = keys[0], keys[1:]
            self.backfill([last])
        self.train_first_champion(last)
        return keys

    def backfill(self, keys: Sequence[str]) -> None:
        """Run all steps of partitions, without facts."""
        self.console.rule(f"{keys[0]} to {keys[-1]}, for the training", align="left")
        self.run_over(keys, "backfill", "backfill/manual", start=keys[0], end=keys[-1])

    def train_first_champion(self, key: str) -> None:
        """Train the first champion as of when a partition is complete.

        Raises:
            StackError: The gate refused it, or it waits for a person's approval.
        """
        ledger, name = self.res.ledger, self.model
        if ledger.challenger() is None:
            as_of = self.res.ref(key).complete.isoformat()
            self.run("first training", f"train/{name}", model=name, as_of=as_of, reason="first champion")
        if champion := ledger.champion():
            self.console.print(f"  champion: version {champion.version}")
            return
        if challenger := ledger.challenger():
            raise StackError(
                f"version {challenger.version} passed the gate and waits for your approval: prefect deployment run promote/manual "
                f'-p model={name} -p by=YOU -p reason="..."; then run the same command again, which continues'
            )
        refusal = last_refusal(self.res)
        change = f"\nTo change in {self.res.model.folder / 'model.yaml'}: {refusal.advice}" if refusal else ""
        raise StackError(
            f"the gate refused the first version of {name}, so there is no champion as of {key}. `make status MODEL={name}` has "
            f"each rule that refused, its value and its limit. A later FROM is more training data.{change}"
        )

    def wait_for_decisions(self, keys: Collection[str]) -> None:
        """Wait for the decision about each fact about some partitions, and for each other one without a decision."""
        from ops.runs import wait_for_decision
        from tasks.contracts.words import decision_text

        ledger = self.res.ledger
        facts = [f for f in ledger.facts() if f.kind not in FOR_PEOPLE and f.id not in self.shown]
        own = [f for f in facts if f.partition in keys]
        for fact in {f.id: f for f in (*own, *ledger.undecided())}.values():
            self.shown.add(fact.id)
            with self.timed("waiting for retraining"):
                decision = wait_for_decision(fact, self.res, self.console)
            text = f"{decision_text(decision, ledger.promotions())} ({decision.reason})"
            self.console.print(f"  {'retrain/' + self.model:<18} {fact.partition:<26} {for_terminal(text)}")


def play_history(res: Resources, first: str, last: str, console: Console) -> Play:
    """Play the partitions of a range that are not complete yet, oldest first. `first` and `last` are included.

    Raises:
        NoPartition, StackError: See `split_range` and `Play`.
    """
    play = Play(res, console)
    earlier, split = split_range(first, last, res)
    keys = play.prepare(earlier, split)
    if keys[0] > first:
        console.print(f"  {keys[0]} is the first partition to score; those before it are for the training")
    todo = [key for key in keys if not is_complete(res, key)]
    if not todo:
        what = f"{len(keys)} {PERIOD[res.config.partition.every]}s of {res.config.name}"
        console.print(f"Everything is fresh: {what}, {len(res.ledger.decisions())} decisions. Nothing to do.")
    else:
        run_partitions(play, todo, [key for key in (*earlier, *split) if key < todo[0]])
    return play


def run_partitions(play: Play, todo: Sequence[str], earlier: Sequence[str] = ()) -> None:
    """Run partitions in the order of time, and assess earlier ones whose labels mature. A terminal shows a progress bar."""
    began, count, periods = time.monotonic(), len(todo), f"{PERIOD[play.res.config.partition.every]}s"
    number = 0
    with Bar(play.console, f"0 of {count} {periods} done", count) as bar:
        for runs in order_of_runs(*([play.res.ref(key) for key in keys] for keys in (todo, earlier))):
            for flow, key in runs:
                if flow == "process":
                    bar.describe(f"{number} of {count} {periods} done")
                    bar.set_progress(number, count)
                    seconds = (time.monotonic() - began) / max(1, number)
                    left = f", about {seconds * (count - number) / 60:.0f} min left" if number else ""
                    number += 1
                    play.console.rule(f"{key}  ({number} of {count}{left})", align="left")
                play.run_over([key], flow, f"{flow}/{play.model}", partition=key)
            play.wait_for_decisions({key for _, key in runs})


def print_results(play: Play, keys: Sequence[str], started: float, extra: ExtraTables | None = None) -> None:
    """Print the tables of results and the addresses of the servers.

    Args:
        play: The run.
        keys: The partitions of the tables. The newest `SHOWN` are shown.
        started: Seconds that starting the servers took.
        extra: Returns more tables about the shown partitions.
    """
    from ops.tables import decision_table, gate_table, hindsight_table, time_table, year_table
    from tasks.reports.summary import summarise

    res, console, period = play.res, play.console, PERIOD[play.res.config.partition.every]
    rows, changes = summarise(res, keys[-SHOWN:]), res.ledger.promotions()
    decisions = {d.fact_id: d for d in res.ledger.decisions()}
    console.print(year_table(rows, period, res.config.target.eval_loss))
    console.print(decision_table(rows, decisions, changes, period), gate_table(changes))
    console.print(hindsight_table(res.ledger.hindsights()))
    for table in extra(play, rows) if extra else ():
        console.print(table)
    if len(keys) > SHOWN:
        console.print(f"These are the newest {SHOWN} of {len(keys)} {period}s. The page of the model has more.")
    if play.spent.keys() - {"tables"}:
        console.print(time_table({"starting the servers": started, **play.spent}))
    print_log_errors(home_of(res.settings), console)
    console.print(f"Open these pages:\n{stack.addresses(res.settings)}")


def print_log_errors(home: Path, console: Console) -> None:
    """Print the programs whose logs have errors, those of flow runs included: in the demo no run fails."""
    if lines := summary(log_errors(home)):
        console.print(
            "The logs should have no errors, but have:", *map(for_terminal, lines), sep="\n  ", style="yellow"
        )


def run_command(model: str, first: str, last: str, command: str, extra: ExtraTables | None = None) -> int:
    """Start the servers, play the range and print its results. Return the exit status.

    Args:
        model: The model's name.
        first: First partition to play, included.
        last: Last partition, included.
        command: What a person types to continue.
        extra: See `print_results`.
    """
    console = terminal()
    try:
        settings = load_settings()
        os.environ.update(stack.environment(settings))
        res = open_resources(model)
        list(between(res.config, first, last))  # an error in a name comes before the servers start
        began = time.monotonic()
        stack.up(settings, console)
        started = time.monotonic() - began
        play = play_history(res, first, last, console)
        print_results(play, [ref.key for ref in between(res.config, first, last)], started, extra)
    except (ConfigError, StackError, EvergreenError, NoPartition) as error:
        return print_error(error)
    except KeyboardInterrupt:
        console.print(f"Stopped. `{command}` continues. Servers that run keep running; `make down` stops them.")
        return 130
    return 0


def main() -> int:
    """Play the range of the command line."""
    parser = argparse.ArgumentParser(
        prog="make play", usage="make play MODEL=electricity FROM=1998-W27 TO=1998-W40", description=__doc__
    )
    for name in ("model", "first", "last"):
        parser.add_argument(name)
    given = parser.parse_args()
    command = f"make play MODEL={given.model} FROM={given.first} TO={given.last}"
    return run_command(given.model, given.first, given.last, command)


if __name__ == "__main__":
    sys.exit(main())
