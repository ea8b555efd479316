"""Read access for other teams: the rows of a model over a range of partitions, checked against their records."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from configs.schema import ModelConfig
from tasks.contracts import Record, Stage
from tasks.errors import MissingFeature, MissingPartition, UnknownStage
from tasks.resources import open_resources
from tasks.storage import earlier
from tasks.storage.lake import Lake
from tasks.storage.partitions import between
from tasks.storage.published_contract import PUBLISHED_STAGES, read_history, version_of

if TYPE_CHECKING:
    import pandas as pd

READABLE = tuple(map(str, PUBLISHED_STAGES))


def load(
    model: str,
    stage: str = "valid",
    first: str = "",
    last: str = "",
    columns: list[str] | None = None,
    gaps: Literal["error", "skip"] = "error",
    superseded: bool = False,
) -> "pd.DataFrame":
    """Return the rows of one dataset from partition `first` to `last`, both inclusive, in the order of the partitions.

        load("flights", "valid", "2013-01", "2013-06")

    Args:
        model: A folder in `configs/`.
        stage: The dataset: `raw`, `valid`, `predictions`, `shadow`, `former` or `labels`. data/README.md describes them.
        first: A partition such as 2013-01. Default: the oldest.
        last: Default: the newest partition.
        columns: Default: all columns.
        gaps: Whether to raise an error or to skip a partition that does not exist or is blocked.
        superseded: Also return earlier rows that others have replaced, such as the predictions on which people acted, with a column
            `superseded_at`: when they were replaced, null for current rows. They are kept as `retention.earlier_contents` says.

    Returns:
        Times are time-zone-aware, in UTC. The index runs from 0. `frame.attrs["contract"]` describes the published contract that
        the rows were written under: `model`, `stage`, `owner`, `version`, and `versions`, a list with `version`, `first` and `last`
        partition. If there are several versions, `version` is None, and columns or meanings may differ between their partitions.

    Raises:
        ConfigError, UnknownStage, NoPartition: the model, the dataset or the partition is unknown.
        MissingPartition: a partition does not exist. The message names it.
        MissingFeature: a column exists in no partition.
        CorruptPartition: a file does not match the digest in its record.
        UnreadableContract: the recorded contract is damaged.
    """
    import pandas as pd

    if stage not in READABLE:
        raise UnknownStage(f"{stage!r} is not a dataset with rows; there are: {', '.join(READABLE)}")
    res, kind = open_resources(model), Stage(stage)
    if superseded and kind not in earlier.KEPT_STAGES:
        raise UnknownStage(f"superseded rows are kept of {', '.join(earlier.KEPT_STAGES)}, and not of {stage}")
    available = res.lake.keys(kind)
    if not available:
        raise MissingPartition(f"{model} has no {stage} data yet; run `backfill` first")
    keys = [ref.key for ref in between(res.config, first or available[0], last or available[-1])]
    if gaps == "skip":
        keys = [key for key in keys if (record := res.lake.record(kind, key)) and record.status == "done"]
    frames = [frame for key in keys for frame in _contents(res.lake, kind, key, columns, superseded)]
    if not frames:
        raise MissingPartition(f"{model} has no {stage} data from {first or available[0]} to {last or available[-1]}")
    if absent := [name for name in columns or () if not any(name in frame for frame in frames)]:
        existing = res.lake.read(kind, keys[-1]).columns
        raise MissingFeature(f"{model} {stage} has no column {', '.join(absent)}; it has {', '.join(existing)}")
    rows = pd.concat(frames, ignore_index=True)
    rows.attrs["contract"] = _contract(res.lake, kind, keys, superseded, res.config)
    return rows


def _contract(
    lake: Lake, stage: Stage, keys: Sequence[str], with_superseded: bool, config: ModelConfig
) -> dict[str, Any]:
    """Describe the contract versions of partitions, by ranges in which the version is the same."""
    records: list[Record] = []
    for key in keys:
        records += [record for record, _ in earlier.superseded(lake, stage, key)] if with_superseded else []
        records.append(lake.done(stage, key))
    history = read_history(lake)
    ranges = [
        {"version": version, "first": group[0].partition, "last": group[-1].partition}
        for version, same in groupby(records, lambda record: version_of(record, history, config))
        for group in [list(same)]
    ]
    numbers = {part["version"] for part in ranges}
    single = numbers.pop() if len(numbers) == 1 else None
    about = {"model": config.name, "stage": str(stage), "owner": config.contract.owner}
    return {**about, "version": single, "versions": ranges}


def _contents(
    lake: Lake, stage: Stage, key: str, columns: list[str] | None, with_superseded: bool
) -> "Iterator[pd.DataFrame]":
    """The rows of a partition and, before them, the superseded ones, oldest first."""
    import pandas as pd

    if not with_superseded:
        yield lake.read(stage, key, columns)
        return
    for record, replaced in earlier.superseded(lake, stage, key):
        rows = earlier.PinnedLake(lake, {stage: {key: record.digest}}, strict=True).read(stage, key, columns)
        yield rows.assign(**{earlier.SUPERSEDED: pd.Timestamp(replaced)})
    yield lake.read(stage, key, columns).assign(**{earlier.SUPERSEDED: pd.Series(pd.NaT, dtype="datetime64[us, UTC]")})
