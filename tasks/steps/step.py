"""The steps of a partition as one table, and the one way to run a step: only when it is not fresh.

process   ingest -> validate -> sketch -> score -> estimate -> watch, and in the shadow: shadow, former
assess    collect -> assess
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from tasks.contracts import Freshness, PartitionRef, Record, Stage
from tasks.errors import BadData, MissingSource
from tasks.resources import Resources


class NotDue(Exception):
    """A step has nothing to do yet: what it is made from is not there. No error; the message says what it waits for."""


class UpstreamMissing(NotDue):
    """A step waits for another one's stage of the same partition."""

    def __init__(self, message: str, stage: Stage) -> None:
        super().__init__(message)
        self.stage = stage


@dataclass(frozen=True)
class StepOutput:
    """What a step made: the rows and digest of its file, and what it found. The runner writes the record."""

    rows: int = 0
    digest: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    blocked: str = ""
    """Why the partition cannot be used; empty when it can."""
    as_of: datetime | None = None
    """The moment that it tells of, where that is another than the ref's."""


@dataclass(frozen=True)
class Step:
    """One step: the stage that it makes, from what, and how.

    `version` is raised when the same inputs would make another output. `inputs` names digests
    and raises `NotDue` when there is nothing to make the stage from.
    """

    verb: str
    stage: Stage
    version: int
    inputs: Callable[[PartitionRef, Resources], dict[str, str]]
    run: Callable[[PartitionRef, Resources], StepOutput]


def freshness(step: Step, ref: PartitionRef, res: Resources) -> Freshness:
    """Whether a step needs to run for a partition, and why."""
    return inspect_step(step, ref, res)[0]


def inspect_step(step: Step, ref: PartitionRef, res: Resources) -> tuple[Freshness, dict[str, str]]:
    """Return whether a step needs to run for a partition, and the digests of its inputs; empty where they are not there yet."""
    try:
        inputs = step.inputs(ref, res)
    except UpstreamMissing as reason:
        return Freshness("waiting", str(reason), needs=reason.stage), {}
    except (NotDue, MissingSource) as reason:
        return Freshness("waiting", str(reason)), {}
    found = res.lake.freshness(step.stage, ref.key, step.version, inputs)
    if found.state == "stale" and (failure := res.lake.failure(step.stage, ref.key)):
        return Freshness("failed", failure), inputs
    return found, inputs


def advance(
    step: Step, ref: PartitionRef, res: Resources, again: bool = False, inputs: Mapping[str, str] | None = None
) -> Record:
    """Bring one stage of one partition up to date, and return its record.

    What is fresh or blocked stays, unless `again`. Where another process is at work on the partition, this waits for it
    and looks again. Bad data leaves a blocked record; any other error leaves a note of the failure, keeps what was there,
    and is raised.

    Args:
        step: The step.
        ref: The partition.
        res: The model's resources.
        again: Run it though its output is fresh or blocked.
        inputs: The digests of its inputs, if the caller has the partition's claim and has just inspected the step, which
            has to run.

    Raises:
        NotDue: there is nothing to make it from yet.
    """
    if inputs is None or not res.claims.mine(ref.key):
        inputs = step.inputs(ref, res)
        if not again and (record := _settled(step, ref, inputs, res)):
            return record
        if not res.claims.mine(ref.key):
            with res.claims.hold(ref.key):
                return advance(step, ref, res, again)
    with res.making(step.stage, ref, [step.verb, step.version, inputs]) as known:
        return known or _make(step, ref, inputs, res)


def _make(step: Step, ref: PartitionRef, wanted: Mapping[str, str], res: Resources) -> Record:
    started = datetime.now(UTC)
    try:
        made = step.run(ref, res)
    except BadData as error:
        made = StepOutput(data={"reason": str(error)}, blocked=str(error))
    except Exception as error:
        res.lake.write_failure(ref, step.stage, error)
        raise
    return res.lake.write_record(
        replace(ref, as_of=made.as_of) if made.as_of else ref,
        step.stage,
        version=step.version,
        inputs=wanted,
        rows=made.rows,
        digest=made.digest,
        data={**made.data, **({"reason": made.blocked} if made.blocked else {})},
        blocked=bool(made.blocked),
        run=res.run_info(started),
    )


def _settled(step: Step, ref: PartitionRef, inputs: Mapping[str, str], res: Resources) -> Record | None:
    """The record of what needs no run: it is fresh, or blocked with the same inputs."""
    state = res.lake.freshness(step.stage, ref.key, step.version, inputs).state
    return res.lake.record(step.stage, ref.key) if state in ("fresh", "blocked") else None


def upstream_record(ref: PartitionRef, res: Resources, stage: Stage) -> Record:
    """The record of the stage before.

    Raises:
        UpstreamMissing: it was not made, or is blocked.
    """
    record = res.lake.record(stage, ref.key)
    if record is None:
        raise UpstreamMissing(f"no {stage} data of {ref} yet", stage)
    if record.status == "blocked":
        raise UpstreamMissing(f"{stage} of {ref} is blocked", stage)
    return record


def done_record(stage: Stage, ref: PartitionRef, res: Resources) -> Record | None:
    """A stage's record, if it is done."""
    record = res.lake.record(stage, ref.key)
    return record if record and record.status == "done" else None
