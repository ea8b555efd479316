"""Mode `verify` of a backfill: find damaged outputs, and make them again from the inputs in their records.

An output that is made again from the same inputs has the same bytes, so what depends on it stays fresh. What cannot be made again is
reported: its source, config, code or champion has changed since, or an output that it needs cannot be made again either.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from tasks.contracts import Cell, Outcome, PartitionRef, Plan, Record, Stage
from tasks.errors import EvergreenError, RegistryUnavailable, SourceUnavailable
from tasks.resources import Resources
from tasks.steps.order import ALL, PREREQUISITES
from tasks.steps.step import NotDue, Step, advance
from tasks.storage.files import replacing
from tasks.storage.integrity import damage, intact_record
from tasks.storage.lake import changed_inputs

log = logging.getLogger(__name__)
FILE = "verified.json"
"""The result of the last verification, in the model's folder of the lake."""


def plan_repairs(ref: PartitionRef, steps: Sequence[Step], res: Resources) -> Iterator[Cell]:
    """Check the outputs of one partition. Damaged ones are planned, intact ones kept. A step without an output waits."""
    for step in steps:
        problem = _damage(step, ref.key, res)
        exists = res.lake.path(step.stage, ref.key, "json").is_file()
        yield Cell(step.verb, "again" if problem else "keep" if exists else "wait", problem and f"damaged: {problem}")


def repair(key: str, steps: Sequence[Step], res: Resources) -> Outcome:
    """Check the outputs of one partition again, under its claim, and make those again that are damaged, in the order of the steps."""
    results = tuple(_repair_step(step, key, res) for step in steps)
    for verb, state, why in results:
        if state != "fresh":
            log.log(logging.ERROR if state == "failed" else logging.WARNING, "%s %s: %s", verb, res.ref(key), why)
    return Outcome(key, results)


def _damage(step: Step, key: str, res: Resources) -> str:
    """What is wrong with a step's output. An output without a file is gone if the record of a later one has its digest."""
    if problem := damage(res.lake, step.stage, key):
        return problem
    recorded = res.lake.record(step.stage, key)
    return "" if recorded or not _expected_digest(step.stage, key, res) else f"the record {key}.json is gone"


def _repair_step(step: Step, key: str, res: Resources) -> tuple[str, str, str]:
    """Make one output again if it is damaged. Returns verb, state (`made`, `fresh` or `failed`) and the reason."""
    if not (problem := _damage(step, key, res)):
        return step.verb, "fresh", ""
    expected = _expected_digest(step.stage, key, res)
    try:
        with _without_damaged_record(step.stage, key, res) as recorded:
            ref = _ref(step, key, recorded, res)
            changed = changed_inputs(recorded, step.version, step.inputs(ref, res)) if recorded else []
            if changed:
                raise NotDue(
                    f"changed since it was made: {', '.join(changed)}. mode=stale makes a new one from what is there now"
                )
            record = advance(step, ref, res, again=True)
    except (SourceUnavailable, RegistryUnavailable):
        raise
    except (NotDue, EvergreenError) as error:
        return step.verb, "failed", f"damaged: {problem}. It cannot be made again: {error}"
    if record.status == "blocked" and not (recorded and recorded.status == "blocked"):
        return step.verb, "failed", f"damaged: {problem}. It cannot be made again: {record.reason}"
    return step.verb, "made", f"damaged: {problem}. {_result(record, expected, key, res)}"


@contextmanager
def _without_damaged_record(stage: Stage, key: str, res: Resources) -> Iterator[Record | None]:
    """Yield the record if it is intact. A damaged one is removed, since steps would read it, and put back if the body fails."""
    recorded, path = intact_record(res.lake, stage, key), res.lake.path(stage, key, "json")
    if recorded or not path.is_file():
        yield recorded
        return
    content = path.read_bytes()
    path.unlink()
    try:
        yield None
    except BaseException:
        with replacing(path) as draft:
            draft.write_bytes(content)
        raise


def _ref(step: Step, key: str, recorded: Record | None, res: Resources) -> PartitionRef:
    """The partition as of the moment of its record. Labels without a record were collected by the moment of their assessment."""
    if recorded is None and step.stage is Stage.LABELS:
        recorded = intact_record(res.lake, Stage.PERFORMANCE, key)
    return res.ref(key, recorded.as_of if recorded else None)


def _dependents(stage: Stage, key: str, res: Resources) -> Iterator[tuple[Step, str]]:
    """The steps of the same partition that were made from an output, each with the digest of it in the step's record."""
    for step in ALL:
        if stage in PREREQUISITES[step.stage] and (record := intact_record(res.lake, step.stage, key)):
            yield step, record.inputs.get(str(stage), "")


def _expected_digest(stage: Stage, key: str, res: Resources) -> str:
    """The digest that an output had: from its record, or else from the record of an output made from it; empty if unknown."""
    if recorded := intact_record(res.lake, stage, key):
        return recorded.digest
    return next((digest for _, digest in _dependents(stage, key, res) if digest), "")


def _result(record: Record, expected: str, key: str, res: Resources) -> str:
    """Describe an output that was made again."""
    if record.digest == expected:
        return "Made again, with the same content"
    stale = [step.verb for step, digest in _dependents(record.stage, key, res) if digest != record.digest]
    if not stale:
        return "Made again; there is no digest of the earlier content, and nothing was made from it"
    return f"Made again, with other content than before, so {', '.join(stale)} are stale: run mode=stale"


def write_verification(plan: Plan, outcomes: Sequence[Outcome], res: Resources) -> None:
    """Write the result of a verification into the lake, for `make status`."""
    states = [state for outcome in outcomes for _, state, _ in outcome.passed]
    content = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "first": min(plan.cells),
        "last": max(plan.cells),
        "outputs": sum(cell.action != "wait" for row in plan.cells.values() for cell in row),
        "repaired": states.count("made"),
        "failed": states.count("failed") + sum(bool(o.failed or o.untouched) for o in outcomes),
    }
    with replacing(res.lake.root / FILE) as draft:
        draft.write_text(json.dumps(content) + "\n", encoding="utf-8")


def last_verification(res: Resources) -> str:
    """Describe the last verification of a model's lake."""
    path = res.lake.root / FILE
    if not path.is_file():
        return "never verified"
    last = json.loads(path.read_text(encoding="utf-8"))
    text = f"verified on {last['at'][:10]}: {last['outputs']} outputs from {last['first']} to {last['last']}"
    found = f"{last['repaired']} damaged and repaired, {last['failed']} not repaired"
    return f"{text}, {found if last['repaired'] or last['failed'] else 'none damaged'}"
