"""In which order a backfill's partitions are taken up, and which must wait for which.

A partition has two parts: what it is by itself (ingest, validate, sketch, collect), and what looks at others (score, estimate, watch,
shadow, former, assess). The second may begin when every partition of the plan that was over by then has its first part, so that no
check sees a reference that is half there, whatever happens to run first. It is done as soon as it may, so that little is half done.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime

from tasks.backfill.plan import RUNS
from tasks.contracts import Outcome, Plan
from tasks.resources import Resources
from tasks.steps.drift_reference import reference_ranges
from tasks.steps.order import ALL, INDEPENDENT

Todo = tuple[tuple[str, bool, str], ...]
"""The verb of each step, whether it is run though it is fresh, and the digest of what the plan says it is made from."""
Work = tuple[str, Todo]
"""A partition and what to do to it."""
PATIENCE = 1.0
"""Seconds between two looks at partitions that somebody else is at work on."""


def work_of(plan: Plan, alone: bool) -> list[Work]:
    """The partitions with something to do in their first part, or in their second, and what."""
    verbs = {step.verb for step in ALL if (step in INDEPENDENT) == alone}
    found = []
    for key, cells in plan.cells.items():
        todo = tuple((c.verb, c.action == "again", c.inputs) for c in cells if c.action in RUNS and c.verb in verbs)
        if todo:
            found.append((key, todo))
    return found


class Agenda:
    """What is left to do. `next` gives what may be done now, `end` takes in what came of it."""

    def __init__(self, plan: Plan, res: Resources) -> None:
        self.res = res
        self.first, self.second = deque(work_of(plan, alone=True)), deque(work_of(plan, alone=False))
        self.parts = len(self.first) + len(self.second)
        refs = {key: res.ref(key) for key in plan.cells}
        self._as_of = {key: ref.as_of for key, ref in refs.items()}
        self._over = {key: ref.end for key, ref in refs.items()}
        self._span = {key: (ref.start, ref.end) for key, ref in refs.items()}
        self._unfinished = {key for key, _ in self.first}
        """Partitions whose first part is not done."""
        self._touched: set[str] = set()
        self._failed: set[str] = set()
        self._occupied: list[Work] = []
        self._look_again = 0.0

    @property
    def left(self) -> bool:
        return bool(self.first or self.second or self._occupied)

    def next(self, size: int) -> tuple[Work, ...]:
        """Up to `size` partitions that may be taken up now; none while all must wait."""
        found = self._ready(size) or [self.first.popleft() for _ in range(min(size, len(self.first)))]
        return tuple(found or self._free(size))

    def _ready(self, size: int) -> list[Work]:
        """Second parts for which everything that they may look at is there."""
        barrier = min((self._over[key] for key in self._unfinished), default=None)
        if self.res.variant.champion and barrier:
            return []  # today's champion may have learned from any of them
        found = []
        for work in self.second:
            if work[0] not in self._unfinished and (barrier is None or barrier > self._as_of[work[0]]):
                found.append(work)
                if len(found) == size:
                    break
        for work in found:
            self.second.remove(work)
        return found

    def _free(self, size: int) -> list[Work]:
        """Partitions that somebody else was at work on, and is no longer."""
        if not self._occupied or time.monotonic() < self._look_again:
            return []
        self._look_again = time.monotonic() + PATIENCE
        running = self.res.claims.running()
        found = [work for work in self._occupied if work[0] not in running][:size]
        self._occupied = [work for work in self._occupied if work not in found]
        return found

    def take_back(self, work: Work) -> None:
        """Somebody else is at work on it."""
        if not self._occupied:
            self._look_again = time.monotonic() + PATIENCE
        self._occupied.append(work)

    def end(self, work: Work, outcome: Outcome) -> Outcome | None:
        """Take in what came of a part; returns the outcome of the second where that will not be begun any more."""
        key, todo = work
        if not self.is_first(todo):
            return None
        self._unfinished.discard(key)
        if outcome.untouched:
            return None
        self._touched.add(key)
        if not outcome.failed:
            return None
        self._failed.add(key)
        dropped = [w for w in self.second if w[0] == key]
        for other in dropped:
            self.second.remove(other)
        return outcome if dropped else None

    def last(self, work: Work) -> bool:
        """Whether a partition has nothing to do after this part."""
        return not self.is_first(work[1]) or not any(key == work[0] for key, _ in self.second)

    def held(self, key: str) -> str:
        """Why the second part of a partition must not be done: what it leans on has failed. Empty when nothing has."""
        spans: list[tuple[datetime, datetime]] = reference_ranges(self.res.ref(key), self.res) if self._failed else []
        found = [
            f
            for f in sorted(self._failed)
            if any(self._span[f][0] < end and self._span[f][1] > start for start, end in spans)
        ]
        return f"it looks at {', '.join(found[:3])}, which failed; mode=failed takes up both" if found else ""

    def stop(self, finish: int) -> Iterator[Outcome]:
        """Begin nothing any more, but finish up to so many partitions that are half done; yields what is not done."""
        half = [work for work in self.second if work[0] in self._touched]
        kept = half if len(half) <= finish else []
        rest: Sequence[Work] = [*self.first, *self._occupied, *(w for w in self.second if w not in kept)]
        self.first.clear()
        self._occupied, self.second = [], deque(kept)
        self._unfinished &= self._touched
        yield from (Outcome(key, untouched=True) for key in dict.fromkeys(key for key, _ in rest))

    @staticmethod
    def is_first(todo: Todo) -> bool:
        """Whether it is the first part of a partition."""
        alone = {step.verb for step in INDEPENDENT}
        return todo[0][0] in alone
