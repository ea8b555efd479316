"""Many models of one file: stores, each with rows of its own in one Parquet file."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

DAYS, ROWS = 14, 60
BASE_YAML = """\
partition: {every: D, timezone: UTC}
key: sale
time: sold_at
target: {column: amount, kind: regression, delay: 1D}
features: {numeric: [size, discount]}
training:
  window: {min_partitions: 4, min_rows: 100, holdout: 2D}
  splits: 1
  candidates: {linear: {estimator: ridge}}
gate:
  floor: {squared_error: 100}
  gain: {block: H, min_blocks: 2, resamples: 200}
monitoring: {block: H, sample_rows: 1000}
"""
STORE_YAML = """\
extends: ../base.yaml
for_each: {{column: store, values: [{values}]}}
name: store
description: The amount of a sale in one store.
source: {{file: {{path: {path}}}}}
"""


def write_stores(configs: Path, values: Iterable[object], path: str = "sales.parquet") -> None:
    """Write base.yaml, and a model.yaml that makes a model of each value."""
    (configs / "store").mkdir(parents=True, exist_ok=True)
    (configs / "base.yaml").write_text(BASE_YAML)
    text = STORE_YAML.format(values=", ".join(map(str, values)), path=path)
    (configs / "store" / "model.yaml").write_text(text)


def sales(stores: Iterable[str], days: int = DAYS) -> pd.DataFrame:
    """Return sales of each store. The amount depends on size and discount, in each store in another way."""
    frames = []
    for at, store in enumerate(stores):
        rng, count = np.random.default_rng(at), days * ROWS
        size, discount = rng.normal(10, 2, count), rng.random(count)
        minutes = np.repeat(np.arange(days) * 1440, ROWS) + np.tile(np.arange(ROWS) * 20, days)
        frames.append(
            pd.DataFrame(
                {
                    "store": store,
                    "sale": [f"{store}-{n}" for n in range(count)],
                    "sold_at": pd.Timestamp("2024-03-01", tz="UTC") + pd.to_timedelta(minutes, "min"),
                    "size": size,
                    "discount": discount,
                    "amount": (at + 1) * size - 3 * discount + rng.normal(0, 0.5, count),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
