"""What other teams read: a model's rows over some partitions, held to their records."""

from typing import TYPE_CHECKING, Literal

from tasks.contracts import Stage
from tasks.errors import MissingFeature, MissingPartition, UnknownStage
from tasks.resources import open_resources
from tasks.storage.lake import FILED
from tasks.storage.partitions import between

if TYPE_CHECKING:
    import pandas as pd

READABLE = tuple(str(stage) for stage in FILED if stage is not Stage.SKETCHES)


def load(
    model: str,
    stage: str = "valid",
    first: str = "",
    last: str = "",
    columns: list[str] | None = None,
    gaps: Literal["error", "skip"] = "error",
) -> "pd.DataFrame":
    """Rows of a stage from partition `first` to `last`, both included, in the partitions' order.

        load("flights", "valid", "2013-01", "2013-06")

    Args:
        model: A folder in `configs/`.
        stage: `raw`, `valid`, `predictions`, `shadow`, `former` or `labels`; what each holds stands in data/README.md.
        first: Such as 2013-01; by default the oldest partition that there is.
        last: By default the newest.
        columns: By default all of them.
        gaps: What to do where a partition was never made or is blocked: refuse, or pass it over.

    Returns:
        Times are aware, in UTC. The index is new.

    Raises:
        ConfigError, UnknownStage, NoPartition: there is no such model, stage or partition.
        MissingPartition: a partition is not there; the message names it.
        MissingFeature: no partition has one of the columns.
        CorruptPartition: a file is not the one that its record tells of.
    """
    import pandas as pd

    if stage not in READABLE:
        raise UnknownStage(f"{stage!r} is no stage with rows; there are: {', '.join(READABLE)}")
    res, kind = open_resources(model), Stage(stage)
    known = res.lake.keys(kind)
    if not known:
        raise MissingPartition(f"{model} has no {stage} data yet; run `backfill` first")
    keys = [ref.key for ref in between(res.config, first or known[0], last or known[-1])]
    if gaps == "skip":
        keys = [key for key in keys if (record := res.lake.record(kind, key)) and record.status == "done"]
    frames = [res.lake.read(kind, key, columns) for key in keys]
    if not frames:
        raise MissingPartition(f"{model} has no {stage} data from {first or known[0]} to {last or known[-1]}")
    if absent := [name for name in columns or () if not any(name in frame for frame in frames)]:
        there = res.lake.read(kind, keys[-1]).columns
        raise MissingFeature(f"{model} {stage} has no column {', '.join(absent)}; it has {', '.join(there)}")
    return pd.concat(frames, ignore_index=True)
