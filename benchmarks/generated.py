"""Large frames of flights: rows of real months, drawn with replacement, with new keys."""

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
    """Return the rows of some months, as source.sql returns them."""
    import pandas as pd

    from tasks.source.rows import read_source  # imported late: the names below do not need it

    model = load_model("flights")
    return pd.concat([read_source(model, partition(model.config, key)).to_pandas() for key in keys], ignore_index=True)


def flights(rows: int, seed: int = 0, keys: tuple[str, ...] = MONTHS) -> "pd.DataFrame":
    """Return rows drawn with replacement from some months, each with its own key. The same seed gives the same rows."""
    real = months(keys)
    drawn = real.iloc[np.random.default_rng(seed).integers(0, len(real), rows)].reset_index(drop=True)
    return drawn.assign(**{model().config.key: [f"{seed}-{i}" for i in range(rows)]})


@functools.cache
def model() -> Model:
    return load_model("flights")


def features(count: int = 20) -> list[str]:
    """Return `count` features of flights: its three categories, and numbers."""
    features = model().config.features
    return [*features.numeric[: count - len(features.categorical)], *features.categorical]
