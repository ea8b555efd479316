"""Carry out a backfill's plan: partitions side by side, each under its claim, with progress, retries and an orderly stop.

    plan ─ each partition by itself: ingest, validate, sketch, collect ─┐   (all of them, before any goes on)
                  ┌──────────────────────────────────────────────────────┘
                  └ in the light of the others: score, estimate, watch, shadow, former, assess

References, importances and the drift of outcomes look at earlier partitions. So these are made for the whole range first, and the
order in which partitions happen to run changes nothing.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner
from sqlalchemy.exc import OperationalError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from tasks.artifacts.backfills import Board
from tasks.contracts import Outcome, Plan, Request
from tasks.errors import RegistryUnavailable, SourceUnavailable
from tasks.passing import pass_through
from tasks.planning import RUNS, open_request
from tasks.resources import Resources
from tasks.stages import Step
from tasks.steps import ALL, ALONE
from tasks.workers import Workers, opened

PASSING = (SourceUnavailable, RegistryUnavailable, OperationalError, ConnectionError, TimeoutError)
"""Errors that may be gone in a moment. A failed contract, a wrong config or a full disk is none."""
ATTEMPTS, FIRST_WAIT, LONGEST_WAIT = 4, 1.0, 30.0
"""How often a partition is tried, and the seconds between: doubled each time."""
TICK = 0.5
"""Seconds between two looks at progress and cancellation while nothing ends."""
WORK = tuple[str, tuple[tuple[str, bool], ...]]
"""A partition, and the verbs of its steps with whether each is run though it is fresh."""


@dataclass(frozen=True)
class Errand:
    """What a task needs to know beside its partitions; plain values, since it may go to another machine."""

    request: Request
    flow_run: str
    since: datetime
    """When the backfill began, by the clock: what somebody else has made since is not made again."""


def carry_out(plan: Plan, res: Resources, workers: Workers) -> list[Outcome]:
    """Do what the plan says, and nothing else; returns what came of each of its partitions, in its order.

    Stops between partitions when the run is cancelled; what has begun is finished.

    Raises:
        ClusterUnreachable, ClusterMismatch: see `workers.opened`.
    """
    errand = Errand(plan.request, res.flow_run, datetime.now(UTC))
    found: dict[str, Outcome] = {}
    if plan.todo:
        phases = [work_of(plan, alone) for alone in (True, False)]
        board = Board(len(plan.todo), sum(map(len, phases)), res)
        later = {key for key, _ in phases[1]}
        with opened(workers) as runner:
            for phase in phases:
                work = [w for w in phase if not _ended(found.get(w[0]))]
                size = workers.chunk(plan.seconds, len(work))
                for outcome in run_phase(runner, errand, work, workers.concurrency, size, board):
                    key = outcome.partition
                    found[key] = _joined(found.get(key), outcome)
                    board.note(found[key], last=phase is phases[1] or key not in later or _ended(outcome))
        board.close()
    return [found.get(key, Outcome(key)) for key in plan.cells]


def work_of(plan: Plan, alone: bool) -> list[WORK]:
    """The partitions of a phase that have something to do, and what."""
    verbs = {step.verb for step in ALL if (step in ALONE) == alone}
    found = []
    for key, cells in plan.cells.items():
        todo = tuple((c.verb, c.action == "again") for c in cells if c.action in RUNS and c.verb in verbs)
        if todo:
            found.append((key, todo))
    return found


def _ended(outcome: Outcome | None) -> bool:
    """Whether a partition goes no further after its first phase."""
    return bool(outcome and (outcome.failed or outcome.blocked or outcome.untouched))


def _joined(one: Outcome | None, two: Outcome) -> Outcome:
    """Both phases of a partition as one outcome."""
    return replace(two, passed=(*one.passed, *two.passed), untouched=two.untouched and not one.passed) if one else two


def run_phase(
    runner: TaskRunner[Any], errand: Errand, work: Sequence[WORK], concurrency: int, size: int, board: Board
) -> Iterator[Outcome]:
    """Keep the workers busy until every partition has its outcome. Who is occupied elsewhere is tried again at the end."""
    chunks = deque(tuple(work[i : i + size]) for i in range(0, len(work), size))
    ended: queue.SimpleQueue[PrefectFuture[list[Outcome]]] = queue.SimpleQueue()
    running: dict[Any, tuple[WORK, ...]] = {}
    pause_until = 0.0
    try:
        while chunks or running:
            while chunks and len(running) < concurrency and time.monotonic() >= pause_until and not board.cancelled:
                chunk = chunks.popleft()
                future = runner.submit(advance_partitions, {"name": _name(chunk), "errand": errand, "work": chunk})
                running[future.task_run_id] = chunk
                future.add_done_callback(ended.put)
            if board.cancelled:
                yield from (Outcome(key, untouched=True) for chunk in chunks for key, _ in chunk)
                chunks.clear()
            with suppress(queue.Empty):
                future = ended.get(timeout=TICK)
                chunk = running.pop(future.task_run_id)
                again = yield from _outcomes(future, chunk, board)
                if again:
                    chunks.append(again)
                    pause_until = time.monotonic() + (0 if len(chunks) > 1 else TICK)
            board.tick()
    except BaseException:
        STOP.set()  # a signal: let the partitions that have begun be finished, and begin no other
        raise


def _outcomes(
    future: PrefectFuture[list[Outcome]], chunk: tuple[WORK, ...], board: Board
) -> Generator[Outcome, None, tuple[WORK, ...]]:
    """What a task returned; returns the part of its work that others are at. A task that died has failed its partitions."""
    try:
        outcomes = future.result(raise_on_failure=True)
    except Exception as error:  # noqa: BLE001  (a worker that was killed, say: its partitions are taken up by mode=missing)
        yield from (Outcome(key, failed=f"{type(error).__name__}: {error}") for key, _ in chunk)
        return ()
    occupied = {o.partition for o in outcomes if o.occupied}
    for outcome in outcomes:
        if outcome.occupied:
            board.meet(outcome)
        else:
            yield outcome
    return tuple(w for w in chunk if w[0] in occupied)


def _name(chunk: Sequence[WORK]) -> str:
    keys = [key for key, _ in chunk]
    return keys[0] if len(keys) == 1 else f"{keys[0]} to {keys[-1]}"


STOP = threading.Event()
"""Set when this process is told to end: no partition is begun any more."""


@task(name="advance partitions", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def advance_partitions(name: str, errand: Errand, work: tuple[WORK, ...]) -> list[Outcome]:
    """Take some partitions through what the plan says of them. One's failure does not stop the others."""
    res, log = _opened(errand), get_run_logger()
    outcomes = []
    for key, todo in work:
        outcome = take(key, dict(todo), res, errand.since)
        outcomes.append(outcome)
        if outcome.failed or outcome.blocked:
            log.error("%s %s: %s", res.title, key, outcome.failed or outcome.blocked)
        elif not outcome.occupied and not outcome.untouched:
            made = [verb for verb, state, _ in outcome.passed if state == "made"]
            log.info("%s %s: %s", res.title, key, ", ".join(made) or "was made by somebody else")
    return outcomes


def _opened(errand: Errand) -> Resources:
    """The model as the request wants to see it; opened once a process and backfill."""
    with _OPENING:
        if errand.flow_run not in _OPEN or _OPEN[errand.flow_run][0] != errand:
            _OPEN.clear()
            _OPEN[errand.flow_run] = errand, open_request(errand.request, errand.flow_run)
        return _OPEN[errand.flow_run][1]


_OPENING = threading.Lock()
_OPEN: dict[str, tuple[Errand, Resources]] = {}


def take(key: str, todo: Mapping[str, bool], res: Resources, since: datetime) -> Outcome:
    """Take one partition through the steps in `todo`, whose values say whether a fresh one is made again."""
    if STOP.is_set():
        return Outcome(key, untouched=True)
    if other := res.claims.take(key):
        return Outcome(key, occupied=str(other))
    ref, steps = res.ref(key), tuple(step for step in ALL if step.verb in todo)

    def again(step: Step) -> bool:
        record = res.lake.record(step.stage, key)
        made_since = record and record.run and record.run.started >= since
        return todo[step.verb] and not made_since

    tries = Retrying(
        retry=retry_if_exception_type(PASSING),
        wait=wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
        stop=stop_after_attempt(ATTEMPTS),
        before_sleep=_tell,
        reraise=True,
    )
    try:
        passage = tries(pass_through, ref, steps, res, again=again)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is this partition's, and is told with it)
        return Outcome(key, failed=f"{type(error).__name__}: {error}")
    finally:
        res.claims.leave(key)
    return Outcome(key, passage.steps, blocked=passage.newly_blocked)


def _tell(state: RetryCallState) -> None:
    """Say that a partition is tried again. What was made before its error is fresh, and passed over then."""
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0.0
    get_run_logger().warning("%s; trying again in %.0f s", error, pause)
