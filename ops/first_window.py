"""The rows of a model's first training window: from the lake, else from the source. `make lint` compares rules with them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING

from configs.errors import ConfigError
from ops.play_range import training_partitions
from tasks.contracts import Stage, Validation
from tasks.errors import EvergreenError
from tasks.resources import Resources
from tasks.source.extent import available_partitions, why_no_partition

if TYPE_CHECKING:
    import pandas as pd

MOST_READ = 31
"""Maximum partitions that are read from the source: those of the first holdout."""


@dataclass(frozen=True)
class Sample:
    """The rows of the first training window.

    Attributes:
        origin: `the lake` or `the source`.
        rows: Median number of rows of a partition.
        per_day: Rows of a day of time.
        holdout: The rows of the last partitions of the window, which contain its holdout.
        blocked: Why the first partition would be blocked, empty if it would not.
        quarantined: Share of the first partition's rows that would be quarantined, and the most frequent reason.
    """

    origin: str
    rows: float
    per_day: float
    holdout: "pd.DataFrame"
    blocked: str
    quarantined: tuple[float, str] = (0.0, "")


def read_sample(res: Resources) -> tuple[Sample | None, str]:
    """Return the sample of the first training window from the lake, else from the source; or None and why there is none."""
    try:
        if done := _validated(res):
            return lake_sample(done, res), ""
        keys = available_partitions(res.model)
        return (source_sample(keys, res), "") if keys else (None, why_no_partition(res.model))
    except (EvergreenError, ConfigError, OSError) as error:
        return None, str(error)


def _validated(res: Resources) -> dict[str, int]:
    """Return the number of valid rows of each validated partition with rows."""
    records = (res.lake.record(Stage.VALID, key) for key in res.lake.keys(Stage.VALID))
    return {r.partition: r.rows for r in records if r and r.status == "done" and r.rows}


def lake_sample(rows: Mapping[str, int], res: Resources) -> Sample:
    """Return the sample of validated partitions. `rows` has their numbers of rows, oldest first."""
    import pandas as pd

    keys = list(rows)
    held = _holdout_keys(keys, res)
    frames = [res.lake.read(Stage.VALID, key, [*res.config.features.categorical, *res.config.groups]) for key in held]
    record = res.lake.record(Stage.VALID, res.lake.keys(Stage.VALID)[0])
    blocked = record.reason if record and record.status == "blocked" else ""
    return _sample("the lake", rows, pd.concat(frames, ignore_index=True), blocked, res)


def source_sample(keys: list[str], res: Resources) -> Sample:
    """Return the sample of partitions of the source, of which only those of the first holdout and the first one are read."""
    import pandas as pd

    from tasks.source.rows import read_source
    from tasks.validation.expectations import structural_expectations, validate_frame

    frames = {key: read_source(res.model, res.ref(key)).to_pandas() for key in _holdout_keys(keys, res)}
    first = frames[keys[0]] if keys[0] in frames else read_source(res.model, res.ref(keys[0])).to_pandas()
    result = validate_frame(first, structural_expectations(res.config) + res.config.expectations, res.config.key)
    blocked = "; ".join(f.message for f in result.blocking) if len(first) else ""
    rows = {key: len(frame) for key, frame in frames.items() if len(frame)} or {keys[0]: len(first)}
    names = [*res.config.features.categorical, *res.config.groups]
    sample = _sample("the source", rows, pd.concat(frames.values(), ignore_index=True)[names], blocked, res)
    return replace(sample, quarantined=_quarantined(result, len(first)))


def _quarantined(result: Validation, rows: int) -> tuple[float, str]:
    """Return the share of rows that a validation quarantines, and the most frequent reason."""
    failed = [f for f in result.findings if f.severity != "info" and not f.passed]
    reasons = [f.message for f in sorted(failed, key=lambda finding: -finding.rows)]
    return len(result.bad) / max(1, rows), (reasons or [""])[0]


def _holdout_keys(keys: list[str], res: Resources) -> list[str]:
    """Return the last partitions of the first training window, which contain its holdout."""
    window = keys[: training_partitions(keys, res.config)]
    start = res.ref(window[-1]).end - res.config.training.window.holdout
    return [key for key in window if res.ref(key).end > start][-MOST_READ:]


def _sample(origin: str, rows: Mapping[str, int], holdout: "pd.DataFrame", blocked: str, res: Resources) -> Sample:
    days = sum((ref.end - ref.start) / timedelta(days=1) for ref in map(res.ref, rows))
    return Sample(origin, float(median(rows.values())), sum(rows.values()) / days, holdout, blocked)
