"""The partitions of a play: which train the first champion, which are played, and which are done already."""

from collections.abc import Sequence
from datetime import UTC, datetime

from configs.schema import ModelConfig
from ops.errors import StackError
from tasks.contracts import PartitionRef, Stage
from tasks.errors import NotEnoughData
from tasks.resources import Resources
from tasks.source.extent import available_partitions, why_no_partition
from tasks.source.kinds import is_covered
from tasks.storage.partitions import between, in_order_of_time, partition


def blocked_reason(key: str, res: Resources) -> str:
    """Return why a partition is blocked, empty if it is not."""
    records = (res.lake.record(stage, key) for stage in Stage)
    return next((r.reason for r in records if r and r.status == "blocked"), "")


def is_complete(res: Resources, key: str) -> bool:
    """Return whether every step of a partition is fresh or blocked by its data, and each of its facts has a decision.

    Steps that need labels do not count before the labels have matured.
    """
    from tasks.lifecycle.facts import assess_facts, process_facts
    from tasks.steps.order import OUTCOMES, SHADOW_STEPS, steps_of
    from tasks.steps.step import freshness

    ref = res.ref(key)
    later = OUTCOMES if ref.matured > datetime.now(UTC) else ()
    states = {step: freshness(step, ref, res).state for step in steps_of(res.config) if step not in later}
    blocked = "blocked" in states.values()
    needed = {state for step, state in states.items() if state != "waiting" or not (blocked or step in SHADOW_STEPS)}
    facts = [*process_facts(ref, res), *assess_facts(ref.at(ref.matured), res)]
    if not needed <= {"fresh", "blocked"} or not all(res.ledger.has_fact(f.id) for f in facts):
        return False
    return not any(f.partition == key for f in res.ledger.undecided())


def order_of_runs(refs: Sequence[PartitionRef], earlier: Sequence[PartitionRef] = ()) -> list[list[tuple[str, str]]]:
    """Return flow and partition of each run of a play, grouped by their moments, in the order of time.

    At the same moment, partitions are processed before others are assessed. Labels that have not matured yet are not assessed.

    Args:
        refs: The partitions to play, oldest first.
        earlier: Partitions before them, oldest first. Those whose labels mature during the play are assessed.
    """
    now = datetime.now(UTC)
    groups = [
        [*(("process", ref.key) for ref in completed), *(("assess", ref.key) for ref in matured if moment <= now)]
        for moment, completed, matured in in_order_of_time(refs, earlier)
    ]
    return [runs for runs in groups if runs]


def split_range(first: str, last: str, res: Resources) -> tuple[list[str], list[str]]:
    """Return the source's partitions before the range, and those of the range to play, oldest first.

    If there is no champion and too little data before the range to train one, the beginning of the range trains it.

    Raises:
        NoPartition: A name is not in the model's calendar, or the range ends before it starts.
        StackError: The source has no due partition in the range, or too few to train a first champion and play another one.
    """
    name, champions = res.config.name, res.ledger.champions()
    list(between(res.config, first, last))  # the names are valid
    refs = [res.ref(key) for key in available_partitions(res.model) if key <= last]
    due = [ref.key for ref in refs if ref.complete <= datetime.now(UTC) and is_covered(res.model, ref)]
    if champions:
        first = next((key for key in due if key >= first and res.ref(key).complete > champions[0].as_of), "")
    else:
        start = training_partitions(due, res.config)
        first = max(first, due[start]) if start < len(due) else ""
    earlier, played = [key for key in due if key < first], [key for key in due if first and key >= first]
    if played:
        return earlier, played
    if not due:
        why = why_no_partition(res.model) or f"its first one is {available_partitions(res.model)[0]}"
        raise StackError(f"{name}: there is no due partition up to TO={last}: {why}")
    why = "all are before the first champion" if champions else "the first champion needs all of them for its training"
    raise StackError(f"{name}: nothing to play up to TO={last}: of {due[0]} to {due[-1]} {why}; choose a later TO")


def training_partitions(keys: Sequence[str], config: ModelConfig) -> int:
    """Return how many of the first `keys` a first training needs at least: `min_partitions`, and enough time.

    One holdout is for the gate, and one validation split of the same length chooses the candidate. A label delay is before each. The
    rows before are fitted on.
    """
    rules, reserved = config.training.window, 2 * (config.training.window.holdout + config.target.delay)
    if not keys:
        return 0
    refs = [partition(config, key) for key in keys]
    spans = (min(ref.end, ref.complete - config.target.delay) - refs[0].start for ref in refs)
    long_enough = (number for number, span in enumerate(spans, start=1) if span > reserved)
    return max(rules.min_partitions, next(long_enough, len(keys)))


def training_problem(key: str, res: Resources) -> str:
    """Return why no training is possible when a partition is complete by the number of rows, empty if one is possible."""
    from tasks.training.selection import selection_rows
    from tasks.training.splits import time_splits
    from tasks.training.window import locate_window

    try:
        time_splits(*selection_rows(locate_window(res, res.ref(key).complete), res), res.config)
    except NotEnoughData as error:
        return str(error)
    return ""
