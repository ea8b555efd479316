"""Take one partition through some steps: what is not fresh is made, up to where the partition is blocked."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from tasks.contracts import PartitionRef, PartitionRun, Record, Stage, Window
from tasks.errors import EvergreenError
from tasks.resources import Resources
from tasks.steps.collect import COLLECT
from tasks.steps.order import IN_SHADOW, OPTIONAL
from tasks.steps.step import NotDue, Step, advance, freshness

log = logging.getLogger(__name__)


class Advance(Protocol):
    """What runs one step: `advance` itself, or a Prefect task around it."""

    def __call__(self, step: Step, ref: PartitionRef, res: Resources, again: bool = False) -> Record: ...


def run_steps(
    ref: PartitionRef,
    steps: tuple[Step, ...],
    res: Resources,
    run: Advance = advance,
    again: Callable[[Step], bool] = lambda _: False,
) -> PartitionRun:
    """How a partition passed through some steps. A step that `again` names is run though it is fresh or blocked.

    A step that must wait, or is blocked, holds up only what is made from it.
    """
    passed: list[tuple[str, str, str]] = []
    held: set[Stage] = set()
    newly = ""
    for step in steps:
        found, anew = freshness(step, ref, res), again(step)
        if found.state == "waiting" and found.needs in held:
            held.add(step.stage)
            continue
        if found.state == "waiting":
            if step not in IN_SHADOW:
                passed.append((step.verb, "waiting", found.why))
            continue
        if found.state == "fresh" and not anew:
            passed.append((step.verb, "fresh", ""))
            continue
        if found.state == "blocked" and not anew:
            passed.append((step.verb, "blocked", found.why))
            held.add(step.stage)
            continue
        try:
            record = run(step, ref, res, anew)
        except NotDue as reason:
            passed.append((step.verb, "waiting", str(reason)))
            continue
        except EvergreenError as error:
            if step not in OPTIONAL:
                raise
            log.error("%s %s failed, and nothing waits for it: %s", step.verb, ref, error)
            passed.append((step.verb, "failed", str(error)))
            continue
        if record.status == "blocked":
            passed.append((step.verb, "blocked", record.reason))
            held.add(step.stage)
            newly = newly or record.reason
            continue
        passed.append((step.verb, "made", found.why))
    return PartitionRun(ref.key, tuple(passed), newly_blocked=newly)


def with_labels(window: Window, res: Resources, run: Callable[[Step, PartitionRef], Record]) -> Window:
    """Bring the labels of a window up to its moment; partitions whose labels are blocked are passed over."""
    blocked = []
    for key in window.partitions:
        ref = res.ref(key, window.as_of)
        if freshness(COLLECT, ref, res).state != "fresh" and run(COLLECT, ref).status == "blocked":
            blocked.append(key)
    kept = tuple(key for key in window.partitions if key not in blocked)
    return replace(window, partitions=kept, passed_over=(*window.passed_over, *blocked))
