"""The rows that judged a champion: what is known of how it does on rows that it had not learned from."""

from datetime import datetime
from typing import TYPE_CHECKING

from configs.schema import ModelConfig
from tasks.contracts import Promotion, Stage, Version
from tasks.models.features import inputs_wanted, predict
from tasks.models.targets import prediction_columns
from tasks.resources import Resources
from tasks.steps.collect import join_outcomes, read_outcomes
from tasks.storage.frames import concatenate

if TYPE_CHECKING:
    import pandas as pd


def judged_version(champion: Promotion, res: Resources) -> Version:
    """The version that the gate judged: the champion itself, or the one that it is the refit of.

    Raises:
        UnknownVersion: MLflow no longer has it.
        RegistryUnavailable: MLflow does not answer and it was never fetched before.
    """
    version = res.registry.recall(champion.version)
    return res.registry.recall(version.judged_as) if version.judged_as else version


def holdout_rows(champion: Promotion, res: Resources) -> "pd.DataFrame":
    """Valid rows of the holdout that judged a champion, with what the judged version says of them; there may be none left.

    Raises: as `judged_version`.
    """
    config, judged = res.config, judged_version(champion, res)
    start, end = judged.window_end, holdout_end(champion, judged, config)
    frames = [res.lake.read(Stage.VALID, key) for key in validated(res) if _overlaps(res, key, start, end)]
    frames = [f[(f[config.time] >= start) & (f[config.time] < end)] for f in frames]
    if not any(map(len, frames)):
        return no_rows(config)
    model = res.load(judged.version)
    rows = concatenate(frames, inputs_wanted(model, config).all)
    return rows.assign(**prediction_columns(predict(model, rows, config), config.target))


def holdout_end(champion: Promotion, judged: Version, config: ModelConfig) -> datetime:
    """Where the holdout ended: where the refit's window does, else by model.yaml, and never after the champion was made."""
    if judged.version != champion.version:
        return champion.window_end
    return min(judged.window_end + config.training.window.holdout, champion.as_of)


def no_rows(config: ModelConfig) -> "pd.DataFrame":
    """A holdout without rows."""
    import pandas as pd

    return pd.DataFrame({config.time: pd.DatetimeIndex([], tz="UTC"), "prediction": []})


def labelled_holdout(champion: Promotion, res: Resources) -> "pd.DataFrame":
    """The holdout's rows with their outcomes, as they were known when the champion was made.

    Raises: as `judged_version`.
    """
    import pandas as pd

    config, rows = res.config, holdout_rows(champion, res)
    if rows.empty:
        return rows
    start, end = rows[config.time].min(), rows[config.time].max()
    frames = []
    for key in res.lake.keys(Stage.LABELS):
        record = res.lake.record(Stage.LABELS, key)
        if record and record.status == "done" and res.ref(key).end > start and res.ref(key).start <= end:
            frames.append(read_outcomes(res, key, champion.as_of))
    return join_outcomes(rows, pd.concat(frames), config) if frames else rows.iloc[:0]


def validated(res: Resources) -> list[str]:
    """Every partition whose valid rows are there, oldest first."""
    records = (res.lake.record(Stage.VALID, key) for key in res.lake.keys(Stage.VALID))
    return [r.partition for r in records if r and r.status == "done"]


def _overlaps(res: Resources, key: str, start: datetime, end: datetime) -> bool:
    ref = res.ref(key)
    return ref.start < end and ref.end > start
