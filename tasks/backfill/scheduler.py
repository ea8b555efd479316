"""The order in which a backfill runs partitions, and which of them must wait for others.

A partition has two parts. The first are the independent steps, which read this partition only: ingest, validate, sketch and collect.
The second are the steps that also read other partitions: score, estimate, watch, shadow, former and assess. The second part may start
when the first part of every earlier partition in the plan is done. So no drift check uses an incomplete reference. A second part that
may start comes before any first part, so that few partitions are half done at any time.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime

from tasks.backfill.plan import RUN_ACTIONS
from tasks.contracts import Outcome, Plan
from tasks.resources import LiveResources
from tasks.steps.drift_reference import reference_ranges
from tasks.steps.order import ALL, INDEPENDENT

PlannedSteps = tuple[tuple[str, bool, str], ...]
"""For each step: its verb, whether to run it even if its output is fresh, and the digest of its inputs in the plan."""
Work = tuple[str, PlannedSteps]
"""A partition and the steps to run."""
RECHECK_SECONDS = 1.0
"""Seconds between two checks of partitions that another process works on."""


def work_items(plan: Plan, independent: bool) -> list[Work]:
    """The partitions with steps to run: of the first part if `independent`, else of the second."""
    verbs = {step.verb for step in ALL if (step in INDEPENDENT) == independent}
    items = []
    for key, cells in plan.cells.items():
        todos = tuple(
            (c.verb, c.action == "again", c.inputs) for c in cells if c.action in RUN_ACTIONS and c.verb in verbs
        )
        if todos:
            items.append((key, todos))
    return items


class Schedule:
    """The remaining work. `next` returns what may run now, and `finish` takes its outcome."""

    def __init__(self, plan: Plan, res: LiveResources) -> None:
        self.res = res
        self.first, self.second = deque(work_items(plan, independent=True)), deque(work_items(plan, independent=False))
        self.parts = len(self.first) + len(self.second)
        refs = {key: res.ref(key) for key in plan.cells}
        self._complete = {key: ref.complete for key, ref in refs.items()}
        self._end = {key: ref.end for key, ref in refs.items()}
        self._span = {key: (ref.start, ref.end) for key, ref in refs.items()}
        self._unfinished = {key for key, _ in self.first}
        """Partitions whose first part is not done."""
        self._started: set[str] = set()
        self._failed: set[str] = set()
        self._occupied: list[Work] = []
        self._recheck_at = 0.0

    @property
    def left(self) -> bool:
        """Whether any partition waits to run, also if another process works on it now."""
        return bool(self.first or self.second or self._occupied)

    def next(self, size: int) -> tuple[Work, ...]:
        """Up to `size` partitions that may run now; empty while all must wait."""
        ready = self._ready(size) or [self.first.popleft() for _ in range(min(size, len(self.first)))]
        return tuple(ready or self._released(size))

    def _ready(self, size: int) -> list[Work]:
        """Second parts for which every partition that they may read is ready."""
        barrier = min((self._end[key] for key in self._unfinished), default=None)
        if self.res.variant.champion and barrier:
            return []  # any of them may be in the training window of today's champion
        ready = []
        for work in self.second:
            if work[0] not in self._unfinished and (barrier is None or barrier > self._complete[work[0]]):
                ready.append(work)
                if len(ready) == size:
                    break
        for work in ready:
            self.second.remove(work)
        return ready

    def _released(self, size: int) -> list[Work]:
        """Partitions that another process has finished its work on."""
        if not self._occupied or time.monotonic() < self._recheck_at:
            return []
        self._recheck_at = time.monotonic() + RECHECK_SECONDS
        running = self.res.claims.active()
        released = [work for work in self._occupied if work[0] not in running][:size]
        self._occupied = [work for work in self._occupied if work not in released]
        return released

    def requeue(self, work: Work) -> None:
        """Keep work for later, because another process works on the partition."""
        if not self._occupied:
            self._recheck_at = time.monotonic() + RECHECK_SECONDS
        self._occupied.append(work)

    def finish(self, work: Work, outcome: Outcome) -> Outcome | None:
        """Take the outcome of a part. If its failure cancels the partition's second part, return the outcome for that."""
        key, todos = work
        if not self.is_first(todos):
            return None
        self._unfinished.discard(key)
        if outcome.untouched:
            return None
        self._started.add(key)
        if not outcome.failed:
            return None
        self._failed.add(key)
        dropped = [w for w in self.second if w[0] == key]
        for other in dropped:
            self.second.remove(other)
        return outcome if dropped else None

    def is_last(self, work: Work) -> bool:
        """Whether a partition has no other part after this one."""
        return not self.is_first(work[1]) or not any(key == work[0] for key, _ in self.second)

    def failed_dependency(self, key: str) -> str:
        """Why the second part of a partition must not run: a partition that it reads has failed. Empty if none has."""
        spans: list[tuple[datetime, datetime]] = reference_ranges(self.res.ref(key), self.res) if self._failed else []
        failed = [
            f
            for f in sorted(self._failed)
            if any(self._span[f][0] < end and self._span[f][1] > start for start, end in spans)
        ]
        return f"it reads {', '.join(failed[:3])}, which failed. Run mode=failed to process both" if failed else ""

    def cancel(self, finish: int) -> Iterator[Outcome]:
        """Drop the work that has not started, but keep half done partitions if there are at most `finish`.

        Yields:
            The outcome of each partition that is dropped.
        """
        half = [work for work in self.second if work[0] in self._started]
        kept = half if len(half) <= finish else []
        rest: Sequence[Work] = [*self.first, *self._occupied, *(w for w in self.second if w not in kept)]
        self.first.clear()
        self._occupied, self.second = [], deque(kept)
        self._unfinished -= {key for key, todos in rest if self.is_first(todos)}  # those that run now still count
        yield from (Outcome(key, untouched=True) for key in dict.fromkeys(key for key, _ in rest))

    @staticmethod
    def is_first(todos: PlannedSteps) -> bool:
        """Whether these are steps of a partition's first part."""
        return todos[0][0] in {step.verb for step in INDEPENDENT}
