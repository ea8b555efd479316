"""Large partitions of flights in a lake: rows of a real month drawn with replacement, with their outcomes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tasks.contracts import Stage
from tasks.resources import Resources
from tasks.source.rows import read_labels, read_source
from tasks.storage.lake import BATCH_ROWS

if TYPE_CHECKING:
    import pandas as pd


def fill(res: Resources, key: str, rows: int, seed: int = 0) -> None:
    """Write this many valid rows of a partition, and the labels of those that have one."""
    config, ref = res.config, res.ref(key)
    real = read_source(res.model, ref).to_pandas()
    outcomes = read_labels(res.model, ref).to_pandas().drop_duplicates(config.key).set_index(config.key)
    rng = np.random.default_rng([seed, int(ref.start.timestamp())])
    drawn = rng.integers(0, len(real), rows)
    days = (
        real[config.time].dt.floor("D").to_numpy()
    )  # ordered by day, at random within a day: equal rows are not adjacent
    drawn = drawn[np.argsort(days[drawn], kind="stable")]

    def valid() -> Iterator["pd.DataFrame"]:
        for begin in range(0, rows, BATCH_ROWS):
            part = real.iloc[drawn[begin : begin + BATCH_ROWS]].reset_index(drop=True)
            yield part.assign(**{config.key: [f"{key}-{begin + i:08d}" for i in range(len(part))]})

    tables = (pa.Table.from_pandas(part, preserve_index=False) for part in valid())
    count, digest = res.lake.write_batches(Stage.VALID, key, tables)
    res.lake.write_record(ref, Stage.VALID, version=1, inputs={}, rows=count, digest=digest)
    labels = outcomes.reindex(real[config.key].iloc[drawn]).reset_index(drop=True)
    labels.insert(0, config.key, [f"{key}-{i:08d}" for i in range(rows)])
    labels = labels[labels["known_at"].notna() & (labels["known_at"] <= ref.as_of)]
    digest = res.lake.write_frame(Stage.LABELS, key, labels)
    res.lake.write_record(ref, Stage.LABELS, version=2, inputs={}, rows=len(labels), digest=digest)
