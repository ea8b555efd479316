"""Mode `verify` of a backfill: find damaged outputs, and make them again from the inputs in their records.

An output that is made again from the same inputs has the same bytes, so what depends on it stays fresh. What cannot be made again is
reported and stays as it is: its source, config, code or champion has changed since, or an output that it needs cannot be made again
either. Without a record its inputs are unknown. Then the digest of its content decides, if that is in another record.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tasks.contracts import Cell, Outcome, PartitionRef, Plan, Record, Stage
from tasks.errors import EvergreenError, RegistryUnavailable, SourceUnavailable
from tasks.resources import LiveResources, Resources
from tasks.steps.order import ALL, PREREQUISITES
from tasks.steps.step import NotDue, Step, advance
from tasks.storage.aside import is_kept_aside, kept_aside, put_back
from tasks.storage.earlier import damaged_contents
from tasks.storage.files import digest_of, open_file, replacing
from tasks.storage.integrity import damage, intact_record
from tasks.storage.records import changed_inputs
from tasks.storage.retention import remove_unneeded

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
    """What is wrong with a step's output. An output without a file is gone if an output was made from it."""
    if is_kept_aside(res.lake, step.stage, key):
        return "an earlier repair of it was interrupted"
    if problem := damage(res.lake, step.stage, key):
        return problem
    if res.lake.record(step.stage, key) or not _was_used(step.stage, key, res):
        return ""
    return f"the record {key}.json is gone"


def _repair_step(step: Step, key: str, res: Resources) -> tuple[str, str, str]:
    """Make one output again if it is damaged. Returns verb, state (`made`, `fresh` or `failed`) and the reason."""
    put_back(res.lake, step.stage, key)
    if not (problem := _damage(step, key, res)):
        return step.verb, "fresh", ""
    try:
        return step.verb, "made", f"damaged: {problem}. {_make_again(step, key, res)}"
    except (SourceUnavailable, RegistryUnavailable):
        raise
    except (NotDue, EvergreenError) as error:
        return step.verb, "failed", f"damaged: {problem}. It cannot be made again: {error}"


def _make_again(step: Step, key: str, res: Resources) -> str:
    """Make one output again and describe the result. Its files stay as they are if that is not possible.

    Raises:
        NotDue: an input has changed or is damaged, or the new content is not that of which other outputs were made.
    """
    earlier = _earlier_output(step.stage, key, res)
    recorded = earlier.record
    if recorded is None and (damaged := [s.verb for s in _prerequisites(step) if _damage(s, key, res)]):
        raise NotDue(f"its record is lost, and the output of {', '.join(damaged)}, from which it was made, is damaged")
    with kept_aside(res.lake, step.stage, key):
        if recorded is None:  # steps would read a damaged one
            res.lake.path(step.stage, key, "json").unlink(missing_ok=True)
        ref = _ref(step, key, recorded, res)
        changed = changed_inputs(recorded, step.version, step.inputs(ref, res)) if recorded else []
        if changed:
            raise NotDue(
                f"changed since it was made: {', '.join(changed)}. mode=stale makes a new one from what is there now"
            )
        record = advance(step, ref, res, again=True)
        _refuse_other_content(record, earlier)
    return _result(record, earlier)


@dataclass(frozen=True)
class _Earlier:
    """What is known of a damaged output before it is made again."""

    record: Record | None
    """Its record, None if that is gone or damaged."""
    rows: str
    """The digest of its file with rows as it is now, empty if there is none."""
    intact: bool
    """Whether a record has the digest of the file, so that the file is not damaged."""
    used: Mapping[str, str]
    """The digest that it had for each step that was made from it, by verb. Only intact records count."""


def _earlier_output(stage: Stage, key: str, res: Resources) -> _Earlier:
    """What is known of a damaged output.

    A damaged record is evidence too, if it has the digest of the file: no damage turns another digest into that one.
    """
    record, dependents, path = intact_record(res.lake, stage, key), _dependents(stage), res.lake.path(stage, key)
    with open_file(path) as file:
        rows = digest_of(file) if path.is_file() else ""
    texts = (_record_text(s, key, res) for s in (stage, *(step.stage for step in dependents)))
    intact = bool(rows) and (rows == record.digest if record else any(rows.encode() in text for text in texts))
    digests = {
        step.verb: r.inputs.get(str(stage), "")
        for step in dependents
        if (r := intact_record(res.lake, step.stage, key))
    }
    return _Earlier(record, rows, intact, {verb: digest for verb, digest in digests.items() if digest})


def _record_text(stage: Stage, key: str, res: Resources) -> bytes:
    """The bytes of a record, damaged or not; none if it is gone."""
    with open_file(res.lake.path(stage, key, "json")) as file:
        return file.read()


def _refuse_other_content(record: Record, earlier: _Earlier) -> None:
    """Refuse an output with other content than the earlier one, if that is intact or other outputs have its digest.

    Raises:
        NotDue: the output must not replace what is there.
    """
    if record.status == "blocked":
        was_blocked = earlier.record.status == "blocked" if earlier.record else not (earlier.rows or earlier.used)
        if not was_blocked:
            raise NotDue(f"{record.reason}. {_WAY_OUT}")
    elif earlier.intact and record.digest != earlier.rows:
        raise NotDue(f"its rows are intact, and those that are made from what is there now differ. {_WAY_OUT}")
    elif not earlier.record and earlier.used and record.digest not in (earlier.rows, *earlier.used.values()):
        raise NotDue(
            f"its record is lost, and what is there now gives other content than that of which {', '.join(earlier.used)} "
            f"were made. {_WAY_OUT}"
        )


_WAY_OUT = "Its files are left as they are. Restore them from a backup, or make a new output from what is there now with mode=all"


def _ref(step: Step, key: str, recorded: Record | None, res: Resources) -> PartitionRef:
    """The partition as of the moment of its record. Labels without a record were collected by the moment of their assessment."""
    if recorded is None and step.stage is Stage.LABELS:
        recorded = intact_record(res.lake, Stage.PERFORMANCE, key)
    return step.at_moment(res.ref(key, recorded.as_of if recorded else None), res)


def _prerequisites(step: Step) -> list[Step]:
    return [other for other in ALL if other.stage in PREREQUISITES[step.stage]]


def _dependents(stage: Stage) -> list[Step]:
    """The steps that are made from an output of the same partition."""
    return [step for step in ALL if stage in PREREQUISITES[step.stage]]


def _was_used(stage: Stage, key: str, res: Resources) -> bool:
    """Whether an output was made from this one. If a record is damaged so that this cannot be read, it counts as made from it."""
    for step in _dependents(stage):
        if res.lake.path(step.stage, key, "json").is_file():
            sound, readable = intact_record(res.lake, step.stage, key), res.lake.record(step.stage, key)
            if readable is None or readable.inputs.get(str(stage), "" if sound else "?"):
                return True
    return False


def _result(record: Record, earlier: _Earlier) -> str:
    """Describe an output that was made again."""
    if record.digest in (earlier.rows, *earlier.used.values(), earlier.record and earlier.record.digest):
        return "Made again, with the same content"
    if not earlier.record:
        return "Made again. There is no record of its inputs: made from today's source, config and champion"
    stale = [verb for verb, digest in earlier.used.items() if digest != record.digest]
    return "Made again, with other content than before" + (
        f", so {', '.join(stale)} are stale: run mode=stale" if stale else ""
    )


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


def remove_earlier_contents(res: LiveResources) -> None:
    """Check the earlier contents of partitions, and delete those that are not needed any more, see `retention` in model.yaml.

    Errors are logged. Nothing is deleted if MLflow does not know the present champion: then it is not the MLflow of this ledger.
    """
    for path in damaged_contents(res.lake):
        log.error("%s does not match its record; it cannot be made again, restore it from a backup", path)
    champion = res.ledger.champion()
    try:
        versions = res.registry.contents()
    except RegistryUnavailable as error:
        log.warning("no earlier content was deleted, since it is not known which versions exist: %s", error)
        return
    if champion is None or champion.version not in versions:
        log.warning("no earlier content was deleted, since MLflow does not have the champion of the ledger")
        return
    if removed := remove_unneeded(res.lake, versions, res.config.retention.earlier_contents):
        log.info("deleted %d earlier contents of partitions that no version needs any more", removed)


def last_verification(res: Resources) -> str:
    """Describe the last verification of a model's lake."""
    path = res.lake.root / FILE
    if not path.is_file():
        return "never verified"
    last = json.loads(path.read_text(encoding="utf-8"))
    text = f"verified on {last['at'][:10]}: {last['outputs']} outputs from {last['first']} to {last['last']}"
    found = f"{last['repaired']} damaged and repaired, {last['failed']} not repaired"
    return f"{text}, {found if last['repaired'] or last['failed'] else 'none damaged'}"
