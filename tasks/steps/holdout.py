"""The holdout rows on which the gate judged a champion. The judged version was not fitted on them."""

from datetime import datetime
from typing import TYPE_CHECKING

from configs.schema import ModelConfig
from tasks.contracts import Promotion, Stage, Version
from tasks.models.features import input_features, predict
from tasks.models.targets import prediction_columns
from tasks.resources import Resources
from tasks.steps.collect import join_outcomes, read_outcomes
from tasks.storage.frames import concatenate

if TYPE_CHECKING:
    import pandas as pd


def judged_version(champion: Promotion, res: Resources) -> Version:
    """The version that the gate judged: the champion, or the version of which it is the refit.

    Raises:
        UnknownVersion: MLflow no longer has it.
        RegistryUnavailable: MLflow does not answer, and there is no local copy.
    """
    version = res.registry.cached_version(champion.version)
    return res.registry.cached_version(version.judged_as) if version.judged_as else version


def holdout_rows(champion: Promotion, res: Resources) -> "pd.DataFrame":
    """The valid rows of a champion's holdout with the predictions of the judged version. May be empty.

    Raises:
        UnknownVersion, RegistryUnavailable: see `judged_version`.
    """
    config, judged = res.config, judged_version(champion, res)
    start, end = judged.window_end, holdout_end(champion, judged, config)
    frames = [res.lake.read(Stage.VALID, key) for key in validated_keys(res) if _overlaps(res, key, start, end)]
    frames = [f[(f[config.time] >= start) & (f[config.time] < end)] for f in frames]
    if not any(map(len, frames)):
        return empty_holdout(config)
    model = res.load(judged.version)
    rows = concatenate(frames, input_features(model, config).all)
    return rows.assign(**prediction_columns(predict(model, rows, config), config.target))


def holdout_end(champion: Promotion, judged: Version, config: ModelConfig) -> datetime:
    """The exclusive end of the holdout: the end of the refit's window, else by model.yaml, but at most the champion's as-of."""
    if judged.version != champion.version:
        return champion.window_end
    return min(judged.window_end + config.training.window.holdout, champion.as_of)


def empty_holdout(config: ModelConfig) -> "pd.DataFrame":
    """A holdout without rows: time and prediction."""
    import pandas as pd

    return pd.DataFrame({config.time: pd.DatetimeIndex([], tz="UTC"), "prediction": []})


def labelled_holdout(champion: Promotion, res: Resources) -> "pd.DataFrame":
    """The holdout rows with their outcomes, as known at the champion's as-of.

    Raises:
        UnknownVersion, RegistryUnavailable: see `judged_version`.
    """
    config, rows = res.config, holdout_rows(champion, res)
    if rows.empty:
        return rows
    frames = []
    for key in res.lake.keys(Stage.LABELS):  # joined by partition: a key may occur in several
        record, ref = res.lake.record(Stage.LABELS, key), res.ref(key)
        own = rows[(rows[config.time] >= ref.start) & (rows[config.time] < ref.end)]
        if record and record.status == "done" and len(own):
            frames.append(join_outcomes(own, read_outcomes(res, key, champion.as_of), config))
    return concatenate(frames, ()) if frames else rows.iloc[:0]


def validated_keys(res: Resources) -> list[str]:
    """The keys of all validated partitions that have valid rows, oldest first."""
    records = (res.lake.record(Stage.VALID, key) for key in res.lake.keys(Stage.VALID))
    return [r.partition for r in records if r and r.status == "done" and r.rows]


def _overlaps(res: Resources, key: str, start: datetime, end: datetime) -> bool:
    ref = res.ref(key)
    return ref.start < end and ref.end > start
