"""How far a backfill is: a progress artifact in Prefect, lines in the run's log, and whether somebody has cancelled it."""

import time
from contextlib import suppress
from typing import cast
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException

from tasks.contracts import Outcome
from tasks.contracts.words import duration_text
from tasks.orchestration.flow_runs import is_cancelled
from tasks.orchestration.run_names import page_key
from tasks.resources import Resources

SHOWN, TOLD = 2.0, 10.0
"""Seconds between two updates of the progress artifact, and between two lines of the log."""


class Board:
    """How far a backfill is: a progress artifact, lines in the log, and whether somebody has cancelled it.

    `parts` is how often a partition is taken up in all. A Prefect server that does not answer holds nothing up: the
    work goes on, and the next update is tried again.
    """

    def __init__(self, partitions: int, parts: int, res: Resources) -> None:
        self.partitions, self.parts, self.res, self.log = partitions, parts, res, get_run_logger()
        self.began = time.monotonic()
        self.over: dict[str, Outcome] = {}
        """The partitions that are done with, and what came of them."""
        self.cancelled = False
        self._passed = 0
        self._met: set[str] = set()
        self._shown = self._told = self.began
        self._artifact: UUID | None = None

    def note(self, outcome: Outcome, last: bool) -> None:
        """Take in that a part of a partition is done; `last` says that it has no other."""
        self._passed += 1
        if last:
            self.over[outcome.partition] = outcome
        self.tick()

    def meet(self, outcome: Outcome) -> None:
        """Say once that somebody else is at work on a partition."""
        if outcome.partition not in self._met:
            self._met.add(outcome.partition)
            self.log.info("%s; others come first", outcome.occupied)

    def tick(self) -> None:
        """Show how far it is, every few seconds."""
        now = time.monotonic()
        if now - self._shown >= SHOWN:
            self._shown = now
            self._show()
            self.cancelled = self.cancelled or is_cancelled(self.res.flow_run)
        if now - self._told >= TOLD:
            self._told = now
            self.log.info(self.line())

    def close(self) -> None:
        """Show the end."""
        self._passed = self.parts
        self._show()
        self.log.info(self.line())

    def line(self) -> str:
        """Done, failed, remaining, and the time left if it goes on like this."""
        failed = sum(bool(o.failed or o.blocked) for o in self.over.values())
        text = f"{len(self.over) - failed} of {self.partitions} partitions done, {failed} failed"
        if self._passed >= self.parts:
            return text
        text += f", {self.partitions - len(self.over)} to go"
        if not self._passed:
            return text
        left = (time.monotonic() - self.began) * (self.parts - self._passed) / self._passed
        return f"{text}, about {duration_text(left)} left"

    def _show(self) -> None:
        share = 100.0 * self._passed / max(self.parts, 1)
        text = f"{self.res.title}: {self.line()}"
        with suppress(httpx.HTTPError, PrefectException):
            if self._artifact is None:
                key = page_key(self.res.slug, "backfill-progress")
                self._artifact = cast("UUID", create_progress_artifact(share, key=key, description=text))
            else:
                update_progress_artifact(self._artifact, progress=share, description=text)
