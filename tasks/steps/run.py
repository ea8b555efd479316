"""Take one partition through some steps. Only what is not fresh runs, up to where the partition is blocked."""

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol

from tasks.contracts import Freshness, PartitionRef, PartitionRun, Record, Stage, Window
from tasks.errors import EvergreenError
from tasks.ledger.claims import Claim
from tasks.resources import Resources
from tasks.steps.collect import COLLECT
from tasks.steps.order import IN_SHADOW, OPTIONAL
from tasks.steps.step import NotDue, Step, advance, freshness, inspect_step

log = logging.getLogger(__name__)


class Advance(Protocol):
    """What runs one step: `advance` itself, or a Prefect task around it."""

    def __call__(
        self,
        step: Step,
        ref: PartitionRef,
        res: Resources,
        again: bool = False,
        inputs: Mapping[str, str] | None = None,
    ) -> Record: ...


def run_steps(
    ref: PartitionRef,
    steps: tuple[Step, ...],
    res: Resources,
    run: Advance = advance,
    again: Callable[[Step], bool] = lambda _: False,
    waiting_for: Callable[[Claim], None] = lambda _: None,
) -> PartitionRun:
    """Take a partition through some steps, in order.

    A step that must wait, or is blocked, holds up only the steps that need its output. The partition is claimed from the
    first step on that has work to do. Each step's inputs are asked for once, and that first step's once more under the claim.

    Args:
        ref: The partition.
        steps: The steps, each after those that it needs.
        res: The model's resources.
        run: Runs one step.
        again: Whether to run a step though its output is fresh or blocked.
        waiting_for: Called with the claim of another process, if there is one to wait for.

    Returns:
        For each step what became of it: `made`, `fresh`, `blocked`, `waiting` or `failed`, and why.

    Raises:
        EvergreenError: a step failed, other than one that nothing waits for.
    """
    done: list[tuple[str, str, str]] = []
    held_up: set[Stage] = set()
    newly_blocked = ""
    with ExitStack() as claim:
        for step in steps:
            anew = again(step)
            found, inputs = inspect_step(step, ref, res)
            if _has_work(found, anew) and not res.claims.mine(ref.key):
                claim.enter_context(res.claims.hold(ref.key, waiting_for))
                found, inputs = inspect_step(step, ref, res)  # another process may just have done it
            if found.state == "waiting":
                if found.needs in held_up:
                    held_up.add(step.stage)
                elif step not in IN_SHADOW:
                    done.append((step.verb, "waiting", found.why))
                continue
            if not _has_work(found, anew):
                done.append((step.verb, found.state, found.why if found.state == "blocked" else ""))
                if found.state == "blocked":
                    held_up.add(step.stage)
                continue
            try:
                record = run(step, ref, res, anew, inputs)
            except NotDue as reason:
                done.append((step.verb, "waiting", str(reason)))
                continue
            except EvergreenError as error:
                if step not in OPTIONAL:
                    raise
                log.error("%s %s failed, and nothing waits for it: %s", step.verb, ref, error)
                done.append((step.verb, "failed", str(error)))
                continue
            if record.status == "blocked":
                done.append((step.verb, "blocked", record.reason))
                held_up.add(step.stage)
                newly_blocked = newly_blocked or record.reason
                continue
            done.append((step.verb, "made", found.why))
    return PartitionRun(ref.key, tuple(done), newly_blocked=newly_blocked)


def _has_work(found: Freshness, again: bool) -> bool:
    """Whether a step has to run: its output is missing, stale or failed, or it is to run again."""
    return found.state != "waiting" and (again or found.state not in ("fresh", "blocked"))


def with_labels(window: Window, res: Resources, run: Callable[[Step, PartitionRef], Record]) -> Window:
    """Bring the labels of a window up to its moment; partitions whose labels are blocked are passed over."""
    blocked = []
    for key in window.partitions:
        ref = res.ref(key, window.as_of)
        if freshness(COLLECT, ref, res).state != "fresh" and run(COLLECT, ref).status == "blocked":
            blocked.append(key)
    kept = tuple(key for key in window.partitions if key not in blocked)
    return replace(window, partitions=kept, passed_over=(*window.passed_over, *blocked))
