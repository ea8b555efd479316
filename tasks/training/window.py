"""The training window as of a point in time, and reading its rows."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from configs.schema import ModelConfig
from configs.training import TrainingWindow
from tasks.contracts import PartitionRef, Stage, Window
from tasks.errors import MissingFeature, MissingPartition, NotEnoughData
from tasks.resources import Resources
from tasks.source.kinds import is_covered
from tasks.steps.collect import labelled_rows
from tasks.steps.order import newest_moment
from tasks.storage.answer_log import served_partitions
from tasks.storage.frames import concatenate
from tasks.storage.partitions import between, partition
from tasks.training.memory import allocate_sample, require_memory, sample_rows
from tasks.training.shortage import needed_time, too_few_partitions

if TYPE_CHECKING:
    import pandas as pd


TRAINING_INPUTS_VERSION = 2
"""Increase it when a code change gives another model or other metrics for the same inputs."""


def choose_window(config: ModelConfig, states: Mapping[str, str], as_of: datetime, rules: TrainingWindow) -> Window:
    """Return the window of the partitions that were complete at `as_of`. It ends a label delay before `as_of`.

    So a row counts from the moment on at which its label has matured. A label that comes earlier waits for it: labels that come
    early are not like the others. Production would not have processed a later partition by then, but after a backfill it may be in
    the lake.

    Args:
        states: By partition, whether its validation is "done" or "blocked", or "empty" if it has no valid rows. Blocked and empty
            partitions are skipped.

    Raises:
        MissingPartition: A partition within the window was never validated.
        NotEnoughData: There are fewer validated partitions than `min_partitions`.
    """
    end = as_of - config.target.delay
    known = (ref for ref in (partition(config, key) for key in states) if ref.complete <= as_of and ref.start < end)
    done = sorted(ref.key for ref in known if states[ref.key] == "done")
    if len(done) < rules.min_partitions:
        raise NotEnoughData(too_few_partitions(config, len(done), as_of.isoformat()))
    keys = done[-rules.partitions :] if rules.partitions else done
    refs = list(between(config, keys[0], keys[-1]))
    missing = [r.key for r in refs if r.key not in states]
    if missing:
        raise MissingPartition(
            f"{config.name}: {', '.join(missing)} in the training window was never validated; run `backfill` first"
        )
    skipped = tuple(r.key for r in refs if states[r.key] == "blocked")
    end = min(refs[-1].end, end)
    return Window(config.name, tuple(keys), skipped, refs[0].start, end - rules.holdout, end, as_of)


def locate_window(res: Resources, as_of: datetime | None = None) -> Window:
    """Return the training window as of a point in time, by default as of now, see `newest_moment`.

    Raises:
        MissingPartition, NotEnoughData: See `choose_window`.
        TooMuchData: The window is too large for this machine's memory.
    """
    as_of = as_of or newest_moment(res)
    window = choose_window(res.config, validation_states(res), as_of, res.config.training.window)
    require_memory(window, res)
    return window


def validation_states(res: Resources) -> dict[str, str]:
    """Return "done", "empty" (no valid rows) or "blocked" for each partition whose validation or ingestion has ended.

    Partitions in between for which the source has no file, or no request was served, also count as blocked.
    """
    states: dict[str, str] = {}
    for stage in (Stage.RAW, Stage.VALID):
        for key in res.lake.keys(stage):
            record = res.lake.record(stage, key)
            if record and (stage is Stage.VALID or record.status == "blocked"):
                states[key] = "empty" if record.status == "done" and not record.rows else record.status
    first = res.config.source.served_from
    if states and first and first <= max(states):
        served = set(served_partitions(res.config.name))
        without_requests = {ref.key for ref in between(res.config, first, max(states))} - served - states.keys()
        states |= dict.fromkeys(without_requests, "blocked")
    gaps = [ref for ref in between(res.config, min(states), max(states)) if ref.key not in states] if states else []
    return states | {ref.key: "blocked" for ref in gaps if not is_covered(res.model, ref)}


def window_from_lineage(model: str, record: Mapping[str, Any]) -> Window:
    """Return the window that is recorded in a version's lineage."""
    times = {name: datetime.fromisoformat(record[name]) for name in ("start", "holdout_start", "end", "as_of")}
    return Window(model, tuple(record["partitions"]), tuple(record["passed_over"]), **times)


def rows_to_fit(res: Resources, window: Window, end: datetime) -> "pd.DataFrame":
    """Read the labelled rows to fit on: those of the window before `end`, or a sample of them if there are more than `max_rows`.

    Raises:
        MissingPartition: A partition was not validated, or its labels were not collected.
    """
    return read_rows(res, window, window.start, end, res.config.training.window.max_rows)


def read_rows(
    res: Resources, window: Window, start: datetime, end: datetime, max_rows: int | None = None
) -> "pd.DataFrame":
    """Read the valid rows with time in `[start, end)` whose outcome was known as of the window, oldest first.

    Args:
        max_rows: If there are more rows, return a seeded sample of this size, stratified by partition.

    Raises:
        MissingPartition: A partition was not validated, or its labels were not collected.
        NotEnoughData: No partition of the window overlaps `[start, end)`.
    """
    config, refs = res.config, refs_within(res, window, start, end)
    if max_rows is None:
        frames = [_labelled_rows(res, window, ref.key, start, end) for ref in refs]
    else:  # count first: then at most one partition and the sample are in memory
        counts = allocate_sample(count_rows(res, window, start, end), max_rows)
        frames = [
            sample_rows(_labelled_rows(res, window, ref.key, start, end), ref, count, config.training.seed)
            for ref, count in zip(refs, counts, strict=True)
        ]
    if not frames:
        raise NotEnoughData(
            f"{config.name}: no labelled row from {start:%Y-%m-%dT%H:%M%z} to {end:%Y-%m-%dT%H:%M%z}; {needed_time(config)}"
        )
    return concatenate(frames, {name for frame in frames for name in frame.columns} - {config.target.column})


def refs_within(res: Resources, window: Window, start: datetime, end: datetime) -> list[PartitionRef]:
    """Return the partitions of a window that overlap `[start, end)`, oldest first."""
    return [ref for key in window.partitions if (ref := res.ref(key)).end > start and ref.start < end]


def count_rows(res: Resources, window: Window, start: datetime, end: datetime) -> list[int]:
    """Count the rows of each partition of `refs_within` that `read_rows` would return without a sample."""
    columns = [res.config.key, res.config.time]
    refs = refs_within(res, window, start, end)
    return [len(_labelled_rows(res, window, ref.key, start, end, columns)) for ref in refs]


def _labelled_rows(
    res: Resources, window: Window, key: str, start: datetime, end: datetime, columns: list[str] | None = None
) -> "pd.DataFrame":
    """Read a partition's valid rows of `[start, end)` whose outcome was known as of the window, with the outcome.

    Raises:
        MissingFeature: The rows were validated before a feature was added.
    """
    config, rows = res.config, labelled_rows(key, window.as_of, res, columns=columns, span=(start, end))
    if columns is None and (missing := [name for name in config.features.active.all if name not in rows]):
        raise MissingFeature(
            f"{config.name} {key}: its valid rows have no {', '.join(missing)}, which model.yaml names as a feature; "
            f"run `backfill` with mode=stale for the training window"
        )
    return rows


def training_inputs(window: Window, res: Resources) -> list[Any]:
    """Return everything that determines the result of a training: digests of rows and labels, config, libraries and threads.

    A replay computes its cache keys from it.

    Raises:
        MissingPartition: A partition was not validated, or its labels were not collected.
    """
    config, stages = res.config, (Stage.VALID, Stage.LABELS)
    data = [[key, *(res.lake.done(stage, key).digest for stage in stages)] for key in window.partitions]
    span = [moment.isoformat() for moment in (window.start, window.holdout_start, window.end, window.as_of)]
    parts = {"partition", "key", "time", "target", "features", "groups", "training", "gate"}
    return [
        TRAINING_INPUTS_VERSION,
        data,
        span,
        config.model_dump(mode="json", include=parts),
        res.settings.threads,
        res.registry.packages(),
    ]
