"""Run the steps of one partition whose output is not fresh."""

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol

from tasks.contracts import Freshness, PartitionRef, PartitionRun, Record, Stage, Window
from tasks.errors import EvergreenError
from tasks.ledger.claims import Claim
from tasks.log_format import log_fields
from tasks.resources import Resources
from tasks.steps.collect import COLLECT
from tasks.steps.order import OPTIONAL, SHADOW_STEPS
from tasks.steps.step import NotDue, Step, advance, freshness, inspect_step

log = logging.getLogger(__name__)


class Advance(Protocol):
    """A function that runs one step: `advance`, or a Prefect task around it."""

    def __call__(
        self,
        step: Step,
        ref: PartitionRef,
        res: Resources,
        again: bool = False,
        inputs: Mapping[str, str] | None = None,
    ) -> Record:
        """See `step.advance`."""
        ...


def run_steps(
    ref: PartitionRef,
    steps: tuple[Step, ...],
    res: Resources,
    run: Advance = advance,
    again: Callable[[Step], bool] = lambda _: False,
    waiting_for: Callable[[Claim], None] = lambda _: None,
) -> PartitionRun:
    """Run the steps of a partition that have work, in order.

    If a step waits or is blocked, only the steps that need its output do not run. The partition is claimed when the first step
    has work. The inputs of each step are computed once, and those of that first step again under the claim.

    Args:
        ref: The partition.
        steps: The steps, each after its prerequisites.
        res: The model's resources.
        run: Runs one step.
        again: Whether to run a step even if its output is fresh or blocked.
        waiting_for: Called with the claim of another process, if this one has to wait for it.

    Returns:
        For each step its verb, its state and the reason. States are `made` (it ran), `fresh`, `blocked`, `waiting` and `failed`.

    Raises:
        EvergreenError: a step failed that is not in `OPTIONAL`.
    """
    results: list[tuple[str, str, str]] = []
    unavailable: set[Stage] = set()
    newly_blocked = ""
    with ExitStack() as claim, log_fields(model=res.config.name, partition=ref.key):
        for step in steps:
            rerun = again(step)
            status, inputs = inspect_step(step, ref, res)
            if _has_work(status, rerun) and not res.claims.held_by_this_thread(ref.key):
                claim.enter_context(res.claims.hold(ref.key, waiting_for))
                status, inputs = inspect_step(step, ref, res)  # another process may have run it in the meantime
            if status.state == "waiting":
                if status.needs in unavailable:
                    unavailable.add(step.stage)
                elif step not in SHADOW_STEPS:
                    results.append((step.verb, "waiting", status.why))
                continue
            if not _has_work(status, rerun):
                results.append((step.verb, status.state, status.why if status.state == "blocked" else ""))
                if status.state == "blocked":
                    unavailable.add(step.stage)
                continue
            try:
                record = run(step, ref, res, rerun, inputs)
            except NotDue as reason:
                results.append((step.verb, "waiting", str(reason)))
                continue
            except EvergreenError as error:
                if step not in OPTIONAL:
                    raise
                log.error("%s %s failed, and no other step depends on it: %s", step.verb, ref, error)
                results.append((step.verb, "failed", str(error)))
                continue
            if record.status == "blocked":
                results.append((step.verb, "blocked", record.reason))
                unavailable.add(step.stage)
                newly_blocked = newly_blocked or record.reason
                continue
            results.append((step.verb, "made", status.why))
    return PartitionRun(ref.key, tuple(results), newly_blocked=newly_blocked)


def _has_work(status: Freshness, again: bool) -> bool:
    """Whether a step has to run: its output is missing or stale, it has failed, or `again` requires it."""
    return status.state != "waiting" and (again or status.state not in ("fresh", "blocked"))


def collect_labels(window: Window, res: Resources, run: Callable[[Step, PartitionRef], Record]) -> Window:
    """Collect the labels of a window as of its moment, and drop the partitions whose labels are blocked."""
    blocked = []
    for key in window.partitions:
        ref = res.ref(key, window.as_of)
        if freshness(COLLECT, ref, res).state != "fresh" and run(COLLECT, ref).status == "blocked":
            blocked.append(key)
    kept = tuple(key for key in window.partitions if key not in blocked)
    return replace(window, partitions=kept, passed_over=(*window.passed_over, *blocked))
