"""What a training may learn from as of one moment, and reading it."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from configs.schema import ModelConfig
from configs.training import TrainingWindow
from tasks.contracts import PartitionRef, Stage, Window
from tasks.errors import MissingFeature, MissingPartition, NotEnoughData
from tasks.resources import Resources
from tasks.steps.collect import join_outcomes, read_outcomes
from tasks.steps.order import newest_ref
from tasks.storage.answer_log import served_partitions
from tasks.storage.frames import concatenate, filter_rows
from tasks.storage.partitions import between
from tasks.training.memory import allotted, require_memory, sampled

if TYPE_CHECKING:
    import pandas as pd


LEARNING = 1
"""Raised when the same window would make another model, or the gate see other numbers of it."""


def choose_window(config: ModelConfig, states: Mapping[str, str], as_of: datetime, rules: TrainingWindow) -> Window:
    """The window that ends with the newest partition over at `as_of`.

    `states` says of each partition whether its valid stage is `done` or `blocked`. A blocked
    partition is passed over; one that was never made is an error, since a model must not
    learn from a history with a hole that nobody knows of.

    Raises:
        MissingPartition: a partition within the window was never validated.
        NotEnoughData: fewer partitions than `min_partitions`.
    """
    over = sorted(key for key in states if _end(config, key) <= as_of)
    done = [key for key in over if states[key] == "done"]
    if len(done) < rules.min_partitions:
        raise NotEnoughData(
            f"{config.name}: {len(done)} validated partitions as of {as_of.isoformat()}, but training.window.min_partitions "
            f"is {rules.min_partitions}; run `backfill` for earlier ones, or lower it"
        )
    chosen = done[-rules.partitions :] if rules.partitions else done
    refs = list(between(config, chosen[0], chosen[-1]))
    holes = [r.key for r in refs if r.key not in states]
    if holes:
        raise MissingPartition(
            f"{config.name}: {', '.join(holes)} in the training window was never validated; run `backfill` first"
        )
    passed_over = tuple(r.key for r in refs if states[r.key] == "blocked")
    end = refs[-1].end
    return Window(config.name, tuple(chosen), passed_over, refs[0].start, end - rules.holdout, end, as_of)


def _end(config: ModelConfig, key: str) -> datetime:
    return next(between(config, key, key)).end


def locate_window(res: Resources, as_of: datetime | None = None) -> Window:
    """The window of a training as of a moment, by default the newest partition's.

    Raises:
        MissingPartition, NotEnoughData: see `choose_window`.
        TooMuchData: this machine cannot hold it.
    """
    moment = as_of or newest_ref(res).as_of
    window = choose_window(res.config, validity(res), moment, res.config.training.window)
    require_memory(window, res)
    return window


def validity(res: Resources) -> dict[str, str]:
    """`done` or `blocked` of each partition that was validated, or could not even be ingested, or that serving was asked nothing about."""
    found: dict[str, str] = {}
    for stage in (Stage.RAW, Stage.VALID):
        for key in res.lake.keys(stage):
            record = res.lake.record(stage, key)
            if record and (stage is Stage.VALID or record.status == "blocked"):
                found[key] = record.status
    first = res.config.source.served_from
    if found and first and first <= max(found):
        asked = set(served_partitions(res.config.name))
        quiet = {ref.key for ref in between(res.config, first, max(found))} - asked - found.keys()
        found |= dict.fromkeys(quiet, "blocked")
    return found


def window_from(model: str, record: Mapping[str, Any]) -> Window:
    """The window that a version's lineage tells of."""
    times = {name: datetime.fromisoformat(record[name]) for name in ("start", "holdout_start", "end", "as_of")}
    return Window(model, tuple(record["partitions"]), tuple(record["passed_over"]), **times)


def rows_to_fit(res: Resources, window: Window, end: datetime) -> "pd.DataFrame":
    """What a model may be fitted on: the window's labelled rows before `end`, or a sample of them as `max_rows` says.

    Raises:
        MissingPartition: a partition or its labels were never made.
    """
    return read_rows(res, window, window.start, end, res.config.training.window.max_rows)


def read_rows(
    res: Resources, window: Window, start: datetime, end: datetime, most: int | None = None
) -> "pd.DataFrame":
    """Valid rows with time in `[start, end)` whose outcome was known as of the window's moment, oldest first.

    Of more than `most` a sample, drawn by the seed from each partition by its share.

    Raises:
        MissingPartition: a partition or its labels were never made.
    """
    config, refs = res.config, refs_within(res, window, start, end)
    if most is None:
        frames = [_labelled(res, window, ref.key, start, end) for ref in refs]
    else:  # counted first, so that never more than one partition and the sample are held
        counts = allotted(count_rows(res, window, start, end), most)
        frames = [
            sampled(_labelled(res, window, ref.key, start, end), ref, count, config.training.seed)
            for ref, count in zip(refs, counts, strict=True)
        ]
    if not frames:
        raise NotEnoughData(
            f"{config.name}: no partition of the window lies in [{start.isoformat()}, {end.isoformat()})"
        )
    return concatenate(frames, {name for frame in frames for name in frame.columns} - {config.target.column})


def refs_within(res: Resources, window: Window, start: datetime, end: datetime) -> list[PartitionRef]:
    """The partitions of a window that have moments of `[start, end)`, oldest first."""
    return [ref for key in window.partitions if (ref := res.ref(key)).end > start and ref.start < end]


def count_rows(res: Resources, window: Window, start: datetime, end: datetime) -> list[int]:
    """How many rows of each of these partitions `read_rows` would give without a sample."""
    columns = [res.config.key, res.config.time]
    refs = refs_within(res, window, start, end)
    return [len(_labelled(res, window, ref.key, start, end, columns)) for ref in refs]


def _labelled(
    res: Resources, window: Window, key: str, start: datetime, end: datetime, columns: list[str] | None = None
) -> "pd.DataFrame":
    """A partition's valid rows of `[start, end)` whose outcome was known as of the window's moment, with it.

    Raises:
        MissingFeature: they are older than one of the features; without this, a model would learn from nulls.
    """
    config, rows = res.config, res.lake.read(Stage.VALID, key, columns)
    if columns is None and (lacking := [name for name in config.features.learned.all if name not in rows]):
        raise MissingFeature(
            f"{config.name} {key}: its valid rows have no {', '.join(lacking)}, which model.yaml names as a feature; "
            f"`backfill` the window with mode=stale makes them again"
        )
    within = filter_rows(rows, (rows[config.time] >= start) & (rows[config.time] < end))
    return join_outcomes(within, read_outcomes(res, key, window.as_of), config)


def require_enough_rows(config: ModelConfig, rows: "pd.DataFrame", span: str) -> None:
    """Refuse to learn from too few rows, or from rows that lack a class.

    Raises:
        NotEnoughData: naming the count, the rule and the `span` of time.
    """
    least, found, target = config.training.window.min_rows, len(rows), config.target
    if found < least:
        raise NotEnoughData(
            f"{config.name}: {found} labelled rows in {span}, but training.window.min_rows is {least}; use a longer window"
        )
    seen = set(rows[target.column].unique())
    if target.kind == "binary" and len(seen) < 2:
        raise NotEnoughData(
            f"{config.name}: every outcome in {span} is {rows[target.column].iloc[0]:g}; a classifier needs both"
        )
    if missing := [name for name in target.classes if name not in seen]:
        raise NotEnoughData(
            f"{config.name}: no row in {span} has class {', '.join(missing)}; use a longer window, or take it from target.classes"
        )


def learning_inputs(window: Window, res: Resources) -> list[Any]:
    """What decides what can be learned from a window: its rows and labels by digest, the config, the libraries, the threads.

    Raises:
        MissingPartition: a partition was not validated, or its labels were not collected.
    """
    config, stages = res.config, (Stage.VALID, Stage.LABELS)
    data = [[key, *(res.lake.done(stage, key).digest for stage in stages)] for key in window.partitions]
    span = [moment.isoformat() for moment in (window.start, window.holdout_start, window.end, window.as_of)]
    parts = {"partition", "key", "time", "target", "features", "groups", "training", "gate"}
    return [
        LEARNING,
        data,
        span,
        config.model_dump(mode="json", include=parts),
        res.settings.threads,
        res.registry.packages(),
    ]
