"""Large frames of flights: rows of real months, drawn anew by a seed, under new keys."""

import functools
from typing import TYPE_CHECKING

import numpy as np

from configs.load import Model, load_model
from tasks.storage.partitions import partition

if TYPE_CHECKING:
    import pandas as pd

MONTHS = ("2013-01", "2013-02")


@functools.cache
def months(keys: tuple[str, ...] = MONTHS) -> "pd.DataFrame":
    """The rows of some months as source.sql gives them."""
    import pandas as pd

    from tasks.source.rows import read_source  # not where only the names below are asked for

    model = load_model("flights")
    return pd.concat([read_source(model, partition(model.config, key)).to_pandas() for key in keys], ignore_index=True)


def flights(rows: int, seed: int = 0, keys: tuple[str, ...] = MONTHS) -> "pd.DataFrame":
    """So many rows drawn with replacement from some months, each with a key of its own; the same seed gives the same rows."""
    real = months(keys)
    drawn = real.iloc[np.random.default_rng(seed).integers(0, len(real), rows)].reset_index(drop=True)
    return drawn.assign(**{model().config.key: [f"{seed}-{i}" for i in range(rows)]})


@functools.cache
def model() -> Model:
    return load_model("flights")


def features(count: int = 20) -> list[str]:
    """So many features of flights: its three categories, and numbers."""
    known = model().config.features
    return [*known.numeric[: count - len(known.categorical)], *known.categorical]
