"""Carry out a backfill's plan: partitions side by side, each under its claim, with progress, retries and an orderly stop."""

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner
from sqlalchemy.exc import OperationalError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from configs.load import load_model
from configs.settings import load_settings
from tasks.backfill.plan import inputs_digest, last_moment, world
from tasks.backfill.progress import Board
from tasks.backfill.scheduler import Agenda, Todo, Work
from tasks.backfill.threads import limited
from tasks.backfill.workers import Workers, opened
from tasks.contracts import Outcome, PartitionRef, Plan, Record
from tasks.errors import MissingPartition, PlanChanged, RegistryUnavailable, SourceUnavailable
from tasks.orchestration.flow_runs import is_cancelled
from tasks.resources import Resources, Variant
from tasks.steps.order import ALL
from tasks.steps.run import run_steps
from tasks.steps.step import Step, advance, freshness

TRANSIENT = (SourceUnavailable, RegistryUnavailable, OperationalError, ConnectionError, TimeoutError)
"""Errors that may be gone in a moment. A failed contract, a wrong config or a full disk is none."""
ATTEMPTS, FIRST_WAIT, LONGEST_WAIT = 4, 1.0, 30.0
"""How often a partition is tried, and the seconds between: doubled each time."""
TICK = 0.5
"""Seconds between two looks at progress and cancellation while nothing ends."""


@dataclass(frozen=True)
class PartitionJob:
    """What a task needs to know beside its partitions; plain values, since it may go to another machine."""

    model: str
    variant: Variant
    world: dict[str, str]
    until: datetime
    flow_run: str
    since: datetime
    """What somebody has made since, by the clock, is not made again."""
    strict: bool
    """Whether the inputs that the plan names are held to while it is carried out."""
    away: bool
    """Whether it goes to another process, which must ask by itself whether the run is cancelled."""


def carry_out(
    plan: Plan, res: Resources, workers: Workers, since: datetime | None = None, strict: bool = False
) -> list[Outcome]:
    """Do what the plan says, and nothing else; returns what came of each of its partitions, in its order.

    Stops between partitions when the run is cancelled; what has begun is finished. `since` is when the plan was made, where
    it was kept, and `strict` holds every step to the inputs that it names.

    Raises:
        ClusterUnreachable, ClusterMismatch: see `workers.opened`.
    """
    found: dict[str, Outcome] = {}
    if plan.todo:
        until, away = last_moment(plan, res), workers.runner == "dask"
        res.threads = workers.threads_each(res.settings.threads)
        moment = since or datetime.now(UTC)
        errand = PartitionJob(
            res.config.name, res.variant, world(res, until), until, res.flow_run, moment, strict, away
        )
        _OPEN.update({errand.flow_run: res})
        agenda = Agenda(plan, res)
        board = Board(len(plan.todo), agenda.parts, res)
        size = workers.chunk(plan.seconds, len(plan.todo))
        with limited(res.threads), opened(workers) as runner:
            for outcome, last in run_all(runner, errand, agenda, workers.concurrency, size, board):
                key = outcome.partition
                found[key] = _joined(found.get(key), outcome)
                board.note(found[key], last)
        board.close()
        _OPEN.clear()
    return [found.get(key, Outcome(key)) for key in plan.cells]


def _joined(one: Outcome | None, two: Outcome) -> Outcome:
    """Both parts of a partition as one outcome."""
    if one is None:
        return two
    return replace(two, passed=(*one.passed, *two.passed), blocked=one.blocked or two.blocked)


def run_all(
    runner: TaskRunner[Any], errand: PartitionJob, agenda: Agenda, concurrency: int, size: int, board: Board
) -> Iterator[tuple[Outcome, bool]]:
    """Keep the workers busy until every partition has its outcome; yields each part's, and whether it is the partition's last."""
    ended: queue.SimpleQueue[PrefectFuture[list[Outcome]]] = queue.SimpleQueue()
    running: dict[Any, tuple[Work, ...]] = {}
    stopped = False
    while agenda.left or running:
        try:
            while len(running) < concurrency and (chunk := agenda.next(size)):
                future = runner.submit(
                    advance_partitions, {"name": _name(chunk), "errand": errand, "work": _free(chunk, agenda)}
                )
                running[future.task_run_id] = chunk
                future.add_done_callback(ended.put)
            future = ended.get(timeout=TICK)
        except queue.Empty:
            pass
        except TerminationSignal:
            board.cancelled = (
                True  # Prefect's own way to cancel; what has begun is finished, if it is not killed before
            )
        else:
            yield from _outcomes(future, running.pop(future.task_run_id), agenda, board)
        board.tick()
        if board.cancelled and not stopped:
            stopped = True
            yield from ((outcome, True) for outcome in agenda.stop(2 * concurrency))


def _free(chunk: tuple[Work, ...], agenda: Agenda) -> tuple[tuple[str, Todo, str], ...]:
    """The work of a task, with why some of it must not be done."""
    return tuple((key, todo, "" if agenda.is_first(todo) else agenda.held(key)) for key, todo in chunk)


def _outcomes(
    future: PrefectFuture[list[Outcome]], chunk: tuple[Work, ...], agenda: Agenda, board: Board
) -> Iterator[tuple[Outcome, bool]]:
    """What a task returned. A task that died has failed its partitions."""
    try:
        outcomes = future.result(raise_on_failure=True)
    except Exception as error:  # noqa: BLE001  (a worker that was killed, say)
        outcomes = [Outcome(key, failed=_note(key, todo, agenda.res, error)) for key, todo in chunk]
    for work, outcome in zip(chunk, outcomes, strict=True):
        if outcome.occupied:
            board.meet(outcome)
            agenda.take_back(work)
        else:
            last = agenda.last(work)
            yield outcome, last or agenda.end(work, outcome) is not None
            if last:
                agenda.end(work, outcome)


def _name(chunk: Sequence[Work]) -> str:
    keys = [key for key, _ in chunk]
    return keys[0] if len(keys) == 1 else f"{keys[0]} to {keys[-1]}"


@task(name="advance partitions", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def advance_partitions(name: str, errand: PartitionJob, work: tuple[tuple[str, Todo, str], ...]) -> list[Outcome]:
    """Take some partitions through what the plan says of them. One's failure does not stop the others."""
    res, log = _opened(errand), get_run_logger()
    outcomes = []
    for key, todo, held in work:
        outcome = (
            Outcome(key, failed=_note(key, todo, res, MissingPartition(held))) if held else take(key, todo, res, errand)
        )
        outcomes.append(outcome)
        if outcome.failed or outcome.blocked:
            log.error("%s %s: %s", res.title, key, outcome.failed or outcome.blocked)
        elif not outcome.occupied and not outcome.untouched:
            made = [verb for verb, state, _ in outcome.passed if state == "made"]
            log.info("%s %s: %s", res.title, key, ", ".join(made) or "was made by somebody else")
    return outcomes


def _opened(errand: PartitionJob) -> Resources:
    """The model as the flow sees it: the flow's own where that runs here, else opened once a process and backfill.

    Raises:
        PlanChanged: this process sees another config, code or ledger than the flow.
    """
    with _OPENING:
        if errand.flow_run in _OPEN:
            return _OPEN[errand.flow_run]
        model = load_model(errand.model, override=errand.variant.override)
        res = Resources(model, load_settings(), errand.flow_run, errand.variant)
        mine = world(res, errand.until)
        if other := [name for name in mine if mine[name] != errand.world[name]]:
            raise PlanChanged(f"this worker sees another state than the run that it works for: {', '.join(other)}")
        _OPEN.clear()
        _OPEN[errand.flow_run] = res
        return res


_OPENING = threading.Lock()
_OPEN: dict[str, Resources] = {}


def take(key: str, todo: Todo, res: Resources, errand: PartitionJob) -> Outcome:
    """Take one partition through the steps in `todo`; an error that may pass is tried again."""
    if errand.away and is_cancelled(errand.flow_run):
        return Outcome(key, untouched=True)
    tries = Retrying(
        retry=retry_if_exception_type(TRANSIENT),
        wait=wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
        stop=stop_after_attempt(ATTEMPTS),
        before_sleep=_tell,
        reraise=True,
    )
    try:
        return tries(_take, key, todo, res, errand)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is this partition's, and is told with it)
        return Outcome(key, failed=_note(key, todo, res, error))


def _take(key: str, todo: Todo, res: Resources, errand: PartitionJob) -> Outcome:
    """One try, under the partition's claim."""
    if other := res.claims.take(key):
        return Outcome(key, occupied=str(other))
    planned = {verb: (anew, inputs) for verb, anew, inputs in todo}
    ref, steps = res.ref(key), tuple(step for step in ALL if step.verb in planned)

    def again(step: Step) -> bool:
        record = res.lake.record(step.stage, key)
        made_since = record and record.run and record.run.started >= errand.since
        return planned[step.verb][0] and not made_since

    def run(
        step: Step, ref: PartitionRef, res: Resources, again: bool = False, inputs: Mapping[str, str] | None = None
    ) -> Record:
        in_plan = planned[step.verb][1]
        if errand.strict and in_plan and in_plan != inputs_digest(step, inputs or {}):
            raise PlanChanged(f"{ref}: {step.verb} would be made from other data than the plan says; make a new plan")
        return advance(step, ref, res, again, inputs)

    try:
        passage = run_steps(ref, steps, res, run, again)
    finally:
        res.claims.leave(key)
    return Outcome(key, passage.steps, blocked=passage.newly_blocked)


def _note(key: str, todo: Todo, res: Resources, error: Exception) -> str:
    """Note a failure where the step that it stopped has none, so that mode=failed knows of it; returns it in words."""
    ref, verbs = res.ref(key), {verb for verb, *_ in todo}
    with suppress(Exception):  # a full disk takes no note either
        step = next(s for s in ALL if s.verb in verbs and freshness(s, ref, res).state not in ("fresh", "blocked"))
        if not res.lake.failure(step.stage, key):
            res.lake.write_failure(ref, step.stage, error)
    return f"{type(error).__name__}: {error}"


def _tell(state: RetryCallState) -> None:
    """Say that a partition is tried again. What was made before its error is fresh, and passed over then."""
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0.0
    get_run_logger().warning("%s; trying again in %.0f s", error, pause)
