"""Evidently's drift preset, as its documentation uses it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from configs.settings import disable_telemetry

if TYPE_CHECKING:
    import pandas as pd


def preset(reference: "pd.DataFrame", current: "pd.DataFrame", categorical: Sequence[str]) -> set[str]:
    """Return the columns that Evidently's preset flags. Takes seconds."""
    disable_telemetry()
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    numbers = [name for name in reference if name not in categorical]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=list(categorical))
    frames = [f.reset_index(drop=True).astype(dict.fromkeys(categorical, object)) for f in (current, reference)]
    sides = [Dataset.from_pandas(f, data_definition=definition) for f in frames]
    with np.errstate(all="ignore"):  # correlations of constant columns, in plots only
        metrics = Report([DataDriftPreset()]).run(*sides).dict()["metrics"]
    columns = [(m["config"], m["value"]) for m in metrics if "column" in m["config"]]
    return {config["column"] for config, value in columns if value >= config["threshold"]}
