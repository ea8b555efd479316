"""What a step is, whether its output is fresh, and how to run it.

process   ingest -> validate -> sketch -> score -> estimate -> watch; in shadow mode: shadow, former
assess    collect -> assess
"""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from configs.errors import ConfigError
from configs.settings import ROOT
from tasks.contracts import Freshness, PartitionRef, Record, Stage
from tasks.errors import BadData, MissingSource, StepFailed
from tasks.resources import Resources
from tasks.steps.publish import publishing
from tasks.storage.earlier import keeping_earlier
from tasks.storage.personal import error_text

VALUE_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError)
"""Errors of libraries whose messages may have values of the data."""


class NotDue(Exception):
    """An input of a step does not exist yet. This is no error. The message says what the step waits for."""


class UpstreamMissing(NotDue):
    """A step waits for the output of another step of the same partition."""

    def __init__(self, message: str, stage: Stage) -> None:
        super().__init__(message)
        self.stage = stage


@dataclass(frozen=True)
class StepOutput:
    """Output of a step: rows and digest of its file, and data for its record. `advance` writes the record."""

    rows: int = 0
    digest: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    blocked: str = ""
    """Why the partition cannot be used; empty if it can."""
    as_of: datetime | None = None
    """The as-of of the output, if it is not the ref's."""
    files: tuple[str, ...] = ()
    """Other files that the step has written, as paths below the lake's root."""


@dataclass(frozen=True)
class Step:
    """One step: its verb, the stage that it writes, its inputs, and the function that runs it.

    `version` is raised when the same inputs would give another output. `inputs` returns the digests of the inputs by name, and raises
    `NotDue` if one does not exist yet. If one of them is `as_of`, `run` gets the partition as of that moment.
    """

    verb: str
    stage: Stage
    version: int
    inputs: Callable[[PartitionRef, Resources], dict[str, str]]
    run: Callable[[PartitionRef, Resources], StepOutput]
    moment: Literal["complete", "matured"] = "complete"
    """Which of the partition's own moments the step is as of, if no other one was chosen."""

    def at_moment(self, ref: PartitionRef, res: Resources) -> PartitionRef:
        """A partition as of the chosen moment, by default the step's.

        v0.1 processed a partition only when its labels had matured. One that it has scored keeps that moment, and so its champion.

        Raises:
            NotDue: the labels of the partition have not matured yet.
        """
        if ref.chosen:
            return ref
        if self.moment == "complete":
            moment = scoring_moment(ref, res)
            return ref if moment == ref.complete else ref.at(moment)
        if ref.matured > datetime.now(UTC):
            raise NotDue(f"the labels of {ref} mature on {ref.matured:%Y-%m-%d %H:%M} UTC")
        return ref.at(ref.matured)


def scoring_moment(ref: PartitionRef, res: Resources) -> datetime:
    """The moment as of which a partition is scored: when it is complete or, if v0.1 has scored it, when its labels had matured."""
    scored = res.lake.record(Stage.PREDICTIONS, ref.key) if ref.complete < ref.matured else None
    return ref.matured if scored and scored.as_of == ref.matured else ref.complete


def freshness(step: Step, ref: PartitionRef, res: Resources) -> Freshness:
    """Whether a step needs to run for a partition, and why."""
    return inspect_step(step, ref, res)[0]


def inspect_step(step: Step, ref: PartitionRef, res: Resources) -> tuple[Freshness, dict[str, str]]:
    """Whether a step needs to run for a partition, and the digests of its inputs; empty if one does not exist yet."""
    try:
        inputs = step.inputs(step.at_moment(ref, res), res)
    except UpstreamMissing as reason:
        return Freshness("waiting", str(reason), needs=reason.stage), {}
    except (NotDue, MissingSource) as reason:
        return Freshness("waiting", str(reason)), {}
    status = res.lake.freshness(step.stage, ref.key, step.version, inputs)
    if status.state == "stale" and (failure := res.lake.failure(step.stage, ref.key)):
        return Freshness("failed", failure), inputs
    return status, inputs


def advance(
    step: Step, ref: PartitionRef, res: Resources, again: bool = False, inputs: Mapping[str, str] | None = None
) -> Record:
    """Run a step for one partition unless its output is fresh or blocked, and return its record.

    If another process works on the partition, wait for it and check again. `BadData` gives a blocked record. Any other error is
    noted as a failure, leaves the earlier output as it is, and is raised.

    Args:
        step: The step.
        ref: The partition.
        res: The model's resources.
        again: Run the step even if its output is fresh or blocked.
        inputs: The digests of its inputs, if the caller has the partition's claim, and has just inspected the step and
            found that it has to run.

    Raises:
        NotDue: an input does not exist yet.
    """
    ref = step.at_moment(ref, res)
    if inputs is None or not res.claims.held_by_this_thread(ref.key):
        inputs = step.inputs(ref, res)
        if not again and (record := _current_record(step, ref, inputs, res)):
            return record
        if not res.claims.held_by_this_thread(ref.key):
            with res.claims.hold(ref.key):
                return advance(step, ref, res, again)
    with res.cache.step(step.stage, ref, [step.verb, step.version, inputs]) as replayed:
        return replayed or _run_step(step, ref, inputs, res)


def _run_step(step: Step, ref: PartitionRef, inputs: Mapping[str, str], res: Resources) -> Record:
    with publishing(step.stage, ref, res) as contract, keeping_earlier(res.lake, step.stage, ref.key):
        return _run_and_record(step, ref, inputs, res, contract)


def _run_and_record(
    step: Step, ref: PartitionRef, inputs: Mapping[str, str], res: Resources, contract: Mapping[str, int]
) -> Record:
    """Run a step and write its record. `contract` is what the record of a published output has about its contract."""
    started = datetime.now(UTC)
    moment = datetime.fromisoformat(inputs["as_of"]) if "as_of" in inputs else ref.as_of
    try:
        output = step.run(ref.at(moment), res)
    except BadData as error:
        output = StepOutput(data={"reason": str(error)}, blocked=str(error))
    except VALUE_ERRORS as error:
        hidden = _without_values(error, step, ref, res)
        res.lake.write_failure(ref, step.stage, hidden)
        raise hidden from (None if hidden is not error else error.__cause__)
    except Exception as error:
        res.lake.write_failure(ref, step.stage, error)
        raise
    return res.lake.write_record(
        ref.at(output.as_of) if output.as_of else ref,
        step.stage,
        version=step.version,
        inputs=inputs,
        rows=output.rows,
        digest=output.digest,
        data={**output.data, **({"reason": output.blocked} if output.blocked else contract)},
        blocked=bool(output.blocked),
        run=res.run_info(started),
        files=output.files,
    )


def _without_values(error: Exception, step: Step, ref: PartitionRef, res: Resources) -> Exception:
    """The error itself or, if the model has personal columns, one with only its class and the line of our code."""
    if not res.config.personal or isinstance(error, ConfigError):
        return error
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(f"{ROOT}/tasks/")]
    line = f"{Path(frames[-1].filename).relative_to(ROOT)}:{frames[-1].lineno}" if frames else "unknown line"
    return StepFailed(f"{ref}: {step.verb} failed at {line}: {error_text(res.config, error)}")


def _current_record(step: Step, ref: PartitionRef, inputs: Mapping[str, str], res: Resources) -> Record | None:
    """The record of a step that need not run: its output is fresh, or blocked with the same inputs."""
    state = res.lake.freshness(step.stage, ref.key, step.version, inputs).state
    return res.lake.record(step.stage, ref.key) if state in ("fresh", "blocked") else None


def upstream_record(ref: PartitionRef, res: Resources, stage: Stage) -> Record:
    """The record of a stage of the same partition that a step needs as an input.

    Raises:
        UpstreamMissing: the stage has no record, or is blocked.
    """
    record = res.lake.record(stage, ref.key)
    if record is None:
        raise UpstreamMissing(f"no {stage} data of {ref} yet", stage)
    if record.status == "blocked":
        raise UpstreamMissing(f"{stage} of {ref} is blocked", stage)
    return record


def done_record(stage: Stage, ref: PartitionRef, res: Resources) -> Record | None:
    """A stage's record if its status is done, else None."""
    record = res.lake.record(stage, ref.key)
    return record if record and record.status == "done" else None
