"""Progress of a backfill: an artifact in Prefect, lines in the run's log, and a check for cancellation."""

import time
from contextlib import suppress
from typing import cast
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException

from tasks.contracts import Outcome
from tasks.contracts.escape import for_markdown
from tasks.contracts.words import duration_text
from tasks.orchestration.flow_runs import is_cancelled
from tasks.orchestration.run_names import page_key
from tasks.resources import Resources

ARTIFACT_SECONDS, LOG_SECONDS = 2.0, 10.0
"""Seconds between two updates of the progress artifact, and between two lines of the log."""


class Progress:
    """Progress of a backfill: an artifact, lines in the log, and whether the run was cancelled.

    An update that the Prefect server does not answer is skipped, and the backfill goes on.

    Args:
        partitions: Number of partitions with something to do.
        parts: Number of parts of all partitions together; a partition has one or two.
        res: The model's resources.
    """

    def __init__(self, partitions: int, parts: int, res: Resources) -> None:
        self.partitions, self.parts, self.res, self.log = partitions, parts, res, get_run_logger()
        self.started = time.monotonic()
        self.finished: dict[str, Outcome] = {}
        self.cancelled = False
        self._parts_done = 0
        self._occupied: set[str] = set()
        self._artifact_at = self._logged_at = self.started
        self._artifact: UUID | None = None

    def add(self, outcome: Outcome, last: bool) -> None:
        """Count a finished part of a partition; `last` if the partition has no other part."""
        self._parts_done += 1
        if last:
            self.finished[outcome.partition] = outcome
        self.update()

    def log_occupied(self, outcome: Outcome) -> None:
        """Log once for each partition that another process works on it."""
        if outcome.partition not in self._occupied:
            self._occupied.add(outcome.partition)
            self.log.info("%s; other partitions run first", outcome.occupied)

    def update(self) -> None:
        """Update the artifact, the log and `cancelled`, if the last update is old enough."""
        now = time.monotonic()
        if now - self._artifact_at >= ARTIFACT_SECONDS:
            self._artifact_at = now
            self._update_artifact()
            self.cancelled = self.cancelled or is_cancelled(self.res.flow_run)
        if now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            self.log.info(self.line())

    def close(self) -> None:
        """Write the final artifact and log line."""
        self._parts_done = self.parts
        self._update_artifact()
        self.log.info(self.line())

    def line(self) -> str:
        """Partitions done, failed and remaining, with the remaining time at the current speed."""
        failed = sum(bool(o.failed or o.blocked) for o in self.finished.values())
        text = f"{len(self.finished) - failed} of {self.partitions} partitions done, {failed} failed"
        if self._parts_done >= self.parts:
            return text
        text += f", {self.partitions - len(self.finished)} remaining"
        if not self._parts_done:
            return text
        seconds = (time.monotonic() - self.started) * (self.parts - self._parts_done) / self._parts_done
        return f"{text}, about {duration_text(seconds)} left"

    def _update_artifact(self) -> None:
        share = 100.0 * self._parts_done / max(self.parts, 1)
        text = for_markdown(f"{self.res.title}: {self.line()}")
        with suppress(httpx.HTTPError, PrefectException):
            if self._artifact is None:
                key = page_key(self.res.slug, "backfill-progress")
                self._artifact = cast("UUID", create_progress_artifact(share, key=key, description=text))
            else:
                update_progress_artifact(self._artifact, progress=share, description=text)
