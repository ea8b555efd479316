"""Evidently's drift preset as people run it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from configs.settings import silence_vendors

if TYPE_CHECKING:
    import pandas as pd


def preset(reference: "pd.DataFrame", current: "pd.DataFrame", words: Sequence[str]) -> set[str]:
    """The columns that Evidently's preset itself flags, which takes seconds."""
    silence_vendors()
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    numbers = [name for name in reference if name not in words]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=list(words))
    frames = [f.reset_index(drop=True).astype(dict.fromkeys(words, object)) for f in (current, reference)]
    sides = [Dataset.from_pandas(f, data_definition=definition) for f in frames]
    with np.errstate(all="ignore"):  # correlations of constant columns, in plots only
        metrics = Report([DataDriftPreset()]).run(*sides).dict()["metrics"]
    found = [(m["config"], m["value"]) for m in metrics if "column" in m["config"]]
    return {how["column"] for how, value in found if value >= how["threshold"]}
