"""Execute a backfill's plan: partitions in parallel, each under a claim, with progress, retries and cancellation."""

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
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from configs.load import load_model
from configs.settings import load_settings
from tasks.backfill.plan import inputs_digest, last_moment, state_digests
from tasks.backfill.progress import Progress
from tasks.backfill.scheduler import PlannedSteps, Schedule, Work
from tasks.backfill.threads import limit_threads
from tasks.backfill.verify import repair
from tasks.backfill.workers import Workers, open_runner
from tasks.contracts import Mode, Outcome, PartitionRef, Plan, Record
from tasks.errors import MissingPartition, PlanChanged
from tasks.orchestration.flow_runs import is_cancelled
from tasks.orchestration.prefect_tasks import TRANSIENT
from tasks.resources import LiveResources, Resources, Variant, live_resources
from tasks.steps.order import ALL
from tasks.steps.run import run_steps
from tasks.steps.step import Step, advance, freshness

ATTEMPTS, FIRST_WAIT, LONGEST_WAIT = 4, 1.0, 30.0
"""Number of attempts for a partition, and the first and longest wait between two of them in seconds. The wait doubles each time."""
POLL_SECONDS = 0.5
"""Seconds between two checks of progress and cancellation while no task ends."""


@dataclass(frozen=True)
class PartitionJob:
    """What a task needs beside its partitions. Plain values, because a task may run on another machine."""

    model: str
    variant: Variant
    state_digests: dict[str, str]
    until: datetime
    """When the newest partition in the plan is complete."""
    flow_run: str
    planned_at: datetime
    """When the plan was made, by the clock. An output that was written after that is not written again."""
    mode: Mode
    strict: bool
    """Whether a step fails if its inputs differ from those in the plan."""
    remote: bool
    """Whether the task runs in another process, which then has to check for cancellation itself."""


def execute_plan(
    plan: Plan, res: LiveResources, workers: Workers, planned_at: datetime | None = None, strict: bool = False
) -> list[Outcome]:
    """Execute the plan. After a cancellation no new partition starts, and the running ones finish.

    Args:
        plan: The plan.
        res: The model's resources.
        workers: Where and how many partitions run in parallel.
        planned_at: When a saved plan was made, by the clock; None for a plan of this run.
        strict: Fail a step if its inputs differ from those in the plan.

    Returns:
        The outcome of each partition, in the order of the plan.

    Raises:
        ClusterUnreachable, ClusterMismatch: see `workers.open_runner`.
    """
    outcomes: dict[str, Outcome] = {}
    if plan.todo:
        until, remote = last_moment(plan, res), workers.runner == "dask"
        res.threads = workers.threads_per_partition(res.settings.threads)
        since = planned_at or datetime.now(UTC)
        job = PartitionJob(
            res.config.name,
            res.variant,
            state_digests(res, until),
            until,
            res.flow_run,
            since,
            plan.request.mode,
            strict,
            remote,
        )
        _OPEN.update({job.flow_run: res})
        schedule = Schedule(plan, res)
        progress = Progress(len(plan.todo), schedule.parts, res)
        size = workers.chunk_size(plan.seconds, len(plan.todo))
        with limit_threads(res.threads), open_runner(workers) as runner:
            for outcome, last in run_schedule(runner, job, schedule, workers.concurrency, size, progress):
                key = outcome.partition
                outcomes[key] = _merge_outcomes(outcomes.get(key), outcome)
                progress.add(outcomes[key], last)
        progress.close()
        _OPEN.clear()
    return [outcomes.get(key, Outcome(key)) for key in plan.cells]


def _merge_outcomes(first: Outcome | None, second: Outcome) -> Outcome:
    """Merge the outcomes of both parts of a partition."""
    if first is None:
        return second
    return replace(second, passed=(*first.passed, *second.passed), blocked=first.blocked or second.blocked)


def run_schedule(
    runner: TaskRunner[Any], job: PartitionJob, schedule: Schedule, concurrency: int, size: int, progress: Progress
) -> Iterator[tuple[Outcome, bool]]:
    """Submit tasks until every partition has its outcome.

    Yields:
        The outcome of each part of a partition, and whether it is the partition's last part.
    """
    ended: queue.SimpleQueue[PrefectFuture[list[Outcome]]] = queue.SimpleQueue()
    running: dict[Any, tuple[Work, ...]] = {}
    stopped = False
    while schedule.left or running:
        try:
            while len(running) < concurrency and (chunk := schedule.next(size)):
                future = runner.submit(
                    advance_partitions, {"name": _task_name(chunk), "job": job, "work": _with_blockers(chunk, schedule)}
                )
                running[future.task_run_id] = chunk
                future.add_done_callback(ended.put)
            future = ended.get(timeout=POLL_SECONDS)
        except queue.Empty:
            pass
        except TerminationSignal:
            # Prefect cancels by this signal. Running tasks finish, if they are not killed first.
            progress.cancelled = True
        else:
            yield from _collect_outcomes(future, running.pop(future.task_run_id), schedule, progress)
        progress.update()
        if progress.cancelled and not stopped:
            stopped = True
            yield from ((outcome, True) for outcome in schedule.cancel(2 * concurrency))


def _with_blockers(chunk: tuple[Work, ...], schedule: Schedule) -> tuple[tuple[str, PlannedSteps, str], ...]:
    """The work of a task: partition, its steps, and why they must not run (empty if they may)."""
    return tuple(
        (key, todos, "" if schedule.is_first(todos) else schedule.failed_dependency(key)) for key, todos in chunk
    )


def _collect_outcomes(
    future: PrefectFuture[list[Outcome]], chunk: tuple[Work, ...], schedule: Schedule, progress: Progress
) -> Iterator[tuple[Outcome, bool]]:
    """The outcomes that a task returned. If the task itself failed, all its partitions count as failed."""
    try:
        outcomes = future.result(raise_on_failure=True)
    except Exception as error:  # noqa: BLE001  (for example, the worker was killed)
        outcomes = [Outcome(key, failed=_record_failure(key, todos, schedule.res, error)) for key, todos in chunk]
    for work, outcome in zip(chunk, outcomes, strict=True):
        if outcome.occupied:
            progress.log_occupied(outcome)
            schedule.requeue(work)
        else:
            last = schedule.is_last(work)
            yield outcome, last or schedule.finish(work, outcome) is not None
            if last:
                schedule.finish(work, outcome)


def _task_name(chunk: Sequence[Work]) -> str:
    keys = [key for key, _ in chunk]
    return keys[0] if len(keys) == 1 else f"{keys[0]} to {keys[-1]}"


@task(name="advance partitions", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def advance_partitions(
    name: str,  # noqa: ARG001 - of the task run
    job: PartitionJob,
    work: tuple[tuple[str, PlannedSteps, str], ...],
) -> list[Outcome]:
    """Run the planned steps of some partitions. A failure of one does not stop the others."""
    res, log = _open_resources(job), get_run_logger()
    outcomes = []
    for key, todos, failed_dependency in work:
        outcome = (
            Outcome(key, failed=_record_failure(key, todos, res, MissingPartition(failed_dependency)))
            if failed_dependency
            else run_with_retries(key, todos, res, job)
        )
        outcomes.append(outcome)
        if outcome.failed or outcome.blocked:
            log.error("%s %s: %s", res.title, key, outcome.failed or outcome.blocked, extra={"partition": key})
        elif not outcome.occupied and not outcome.untouched:
            ran = [verb for verb, state, _ in outcome.passed if state == "made"]
            text = ", ".join(ran) or "nothing left to do"
            log.info("%s %s: %s", res.title, key, text, extra={"partition": key})
    return outcomes


def _open_resources(job: PartitionJob) -> LiveResources:
    """The model's resources: the flow's own if it runs in this process, else opened once per process and backfill.

    Raises:
        PlanChanged: config, code or ledger of this process differ from the flow's.
    """
    with _OPENING:
        if job.flow_run in _OPEN:
            return _OPEN[job.flow_run]
        model = load_model(job.model, override=job.variant.override)
        res = live_resources(model, load_settings(), job.flow_run, job.variant)
        digests = state_digests(res, job.until)
        if different := [name for name in digests if digests[name] != job.state_digests[name]]:
            raise PlanChanged(
                f"this worker and the flow run differ in: {', '.join(different)}. Start the worker with the same code, config and database"
            )
        _OPEN.clear()
        _OPEN[job.flow_run] = res
        return res


_OPENING = threading.Lock()
_OPEN: dict[str, LiveResources] = {}


def run_with_retries(key: str, todos: PlannedSteps, res: LiveResources, job: PartitionJob) -> Outcome:
    """Run the steps `todos` of one partition, and retry after a transient error."""
    if job.remote and is_cancelled(job.flow_run):
        return Outcome(key, untouched=True)
    retrying = Retrying(
        retry=retry_if_exception_type(TRANSIENT),
        wait=wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
        stop=stop_after_attempt(ATTEMPTS),
        before_sleep=_log_retry,
        reraise=True,
    )
    try:
        return retrying(_run_once, key, todos, res, job)
    except Exception as error:  # noqa: BLE001  (any error fails this partition only, and is in its outcome)
        return Outcome(key, failed=_record_failure(key, todos, res, error))


def _run_once(key: str, todos: PlannedSteps, res: LiveResources, job: PartitionJob) -> Outcome:
    """Run the steps once, under the partition's claim."""
    if other := res.claims.acquire(key):
        return Outcome(key, occupied=str(other))
    planned = {verb: (again, inputs) for verb, again, inputs in todos}
    ref, steps = res.ref(key), tuple(step for step in ALL if step.verb in planned)

    def again(step: Step) -> bool:
        record = res.lake.record(step.stage, key)
        written_since = record and record.run and record.run.started >= job.planned_at
        return planned[step.verb][0] and not written_since

    def run(
        step: Step, ref: PartitionRef, res: Resources, again: bool = False, inputs: Mapping[str, str] | None = None
    ) -> Record:
        planned_inputs = planned[step.verb][1]
        if job.strict and planned_inputs and planned_inputs != inputs_digest(step, inputs or {}):
            raise PlanChanged(
                f"{ref}: the inputs of {step.verb} have changed since the plan was made. Make a new plan with dry_run"
            )
        return advance(step, ref, res, again, inputs)

    try:
        if job.mode == "verify":
            return repair(key, steps, res)
        partition_run = run_steps(ref, steps, res, run, again)
    finally:
        res.claims.release(key)
    return Outcome(key, partition_run.steps, blocked=partition_run.newly_blocked)


def _record_failure(key: str, todos: PlannedSteps, res: LiveResources, error: Exception) -> str:
    """Write a failure for the step that it stopped, if that has none, so that mode=failed selects it.

    Returns:
        The error's type and message.
    """
    ref, verbs = res.ref(key), {verb for verb, *_ in todos}
    with suppress(Exception):  # for example, the disk is full
        step = next(s for s in ALL if s.verb in verbs and freshness(s, ref, res).state not in ("fresh", "blocked"))
        if not res.lake.failure(step.stage, key):
            res.lake.write_failure(ref, step.stage, error)
    return f"{type(error).__name__}: {error}"


def _log_retry(state: RetryCallState) -> None:
    """Log that a partition is retried. The steps that ran before the error are fresh, so they are skipped."""
    error = state.outcome.exception() if state.outcome else None
    wait = state.next_action.sleep if state.next_action else 0.0
    get_run_logger().warning("%s; retry in %.0f s", error, wait)
