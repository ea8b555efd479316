"""Take partitions through their steps, in order, doing only what is not fresh."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from configs.schema import ModelConfig
from tasks.contracts import PartitionRef, Passage, Record, Stage, Window
from tasks.drift.sketching import SKETCH
from tasks.drift.watch import WATCH
from tasks.errors import EvergreenError
from tasks.estimation import ESTIMATE
from tasks.ingestion import INGEST
from tasks.labels import COLLECT
from tasks.performance import ASSESS
from tasks.resources import Resources
from tasks.scoring import FORMER, SCORE, SHADOW
from tasks.source import available, fingerprint
from tasks.stages import NotDue, Step, advance, freshness
from tasks.validation.step import VALIDATE
from tasks.window import newest_ref

PROCESS = (INGEST, VALIDATE, SKETCH, SCORE, ESTIMATE, WATCH, SHADOW, FORMER)
OUTCOMES = (COLLECT, ASSESS)
ALL = PROCESS + OUTCOMES
IN_SHADOW = (SHADOW, FORMER)
"""Steps that most partitions do not need."""
ASIDE = (ESTIMATE, *IN_SHADOW)
"""Steps that nothing waits for: where one fails, the partition goes on."""


def steps_of(config: ModelConfig) -> tuple[Step, ...]:
    """Every step that partitions of a model go through; only some models have a challenger in the shadow, or look back."""
    left_out = [
        step
        for step, count in (
            (SHADOW, config.promotion.shadow.partitions),
            (FORMER, config.retraining.hindsight.partitions),
        )
        if not count
    ]
    return tuple(step for step in ALL if step not in left_out)


def due(res: Resources, partition: str | None, as_of: datetime | None) -> list[PartitionRef]:
    """The partition that was named, or every one of the source whose as-of is over, oldest first.

    Raises:
        NoPartition: the name is none of the model's calendar.
        MissingSource: the source has nothing for the partition that was named.
    """
    if partition:
        ref = res.ref(partition, as_of)
        fingerprint(res.model, ref)
        return [ref]
    until = as_of or datetime.now(UTC)
    return [ref for key in available(res.model) if (ref := res.ref(key)).as_of <= until]


@task(cache_policy=NO_CACHE, task_run_name="{step.verb} {ref.key}")
def advance_partition(step: Step, ref: PartitionRef, res: Resources, again: bool = False) -> Record:
    """Run one step of one partition, and say in the log what came of it."""
    record = advance(step, ref, res, again)
    log = get_run_logger()
    if record.status == "blocked":
        log.error("%s is blocked at %s: %s", ref, step.stage, record.reason)
    else:
        log.info("%s %s: %d rows in %.2f s", step.verb, ref, record.rows, record.run.seconds if record.run else 0)
    return record


def walk(ref: PartitionRef, steps: tuple[Step, ...], res: Resources, again: bool = False) -> Passage:
    """Take one partition through some steps, up to where it is blocked.

    A step that must wait holds up only what is made from it: labels are collected before there
    is a champion. With `again`, what is blocked is tried once more.
    """
    passed: list[tuple[str, str, str]] = []
    for step in steps:
        found = freshness(step, ref, res)
        if found.state == "fresh":
            passed.append((step.verb, "fresh", ""))
            continue
        if found.state == "waiting":
            if step in IN_SHADOW:
                continue
            passed.append((step.verb, "waiting", found.why))
            continue
        if found.state == "blocked" and not again:
            passed.append((step.verb, "blocked", found.why))
            break
        try:
            record = advance_partition(step, ref, res, again)
        except NotDue as reason:
            passed.append((step.verb, "waiting", str(reason)))
            continue
        except EvergreenError as error:
            if step not in ASIDE:
                raise
            get_run_logger().error("%s %s failed, and nothing waits for it: %s", step.verb, ref, error)
            passed.append((step.verb, "failed", str(error)))
            continue
        if record.status == "blocked":
            return Passage(ref.key, (*passed, (step.verb, "blocked", record.reason)), newly_blocked=record.reason)
        passed.append((step.verb, "made", found.why))
    return Passage(ref.key, tuple(passed))


def walk_range(
    refs: Sequence[PartitionRef], steps: tuple[Step, ...], res: Resources
) -> tuple[list[Passage], dict[str, str]]:
    """Take a range through its steps, oldest first; returns what passed, and what failed with its error."""
    passages, failed = [], {}
    for done, ref in enumerate(refs, start=1):
        try:
            passages.append(walk(ref, steps, res, again=True))
        except Exception as error:  # noqa: BLE001  (one partition's failure must not stop the others)
            failed[ref.key] = f"{type(error).__name__}: {error}"
            get_run_logger().exception("%s failed", ref)
        get_run_logger().info("%d of %d partitions, %d failed", done, len(refs), len(failed))
    return passages, failed


def maturing(res: Resources, partition: str | None, as_of: datetime | None) -> list[PartitionRef]:
    """The partition that was named, or every ingested one, as of the newest one's moment: labels come late.

    Raises:
        NoPartition: the name is none of the model's calendar.
        MissingPartition: nothing was ever validated.
    """
    if partition:
        return [res.ref(partition, as_of)]
    moment = as_of or newest_ref(res).as_of
    keys = res.lake.keys(Stage.RAW)
    return [res.ref(key, moment) for key in keys if res.ref(key).as_of <= moment]


def collect_window(window: Window, res: Resources) -> Window:
    """Bring the labels of a window up to its moment; partitions whose labels are blocked are passed over."""
    blocked = []
    for key in window.partitions:
        ref = res.ref(key, window.as_of)
        if freshness(COLLECT, ref, res).state != "fresh" and advance_partition(COLLECT, ref, res).status == "blocked":
            blocked.append(key)
    kept = tuple(key for key in window.partitions if key not in blocked)
    return replace(window, partitions=kept, passed_over=(*window.passed_over, *blocked))
