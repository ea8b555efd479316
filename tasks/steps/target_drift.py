"""Target drift: compare the outcomes of a partition with those of the champion's training window."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from configs.schema import ModelConfig
from tasks.contracts import ColumnDrift, Promotion, Stage
from tasks.drift.alarms import check
from tasks.drift.sketches import Sketch, sketch
from tasks.errors import UnknownVersion
from tasks.resources import Resources
from tasks.steps.collect import labelled_rows
from tasks.steps.drift_reference import cache_path, cached_sketch, exclude_blocks, keys_between, rows_digest
from tasks.storage.blocks import block_categories

if TYPE_CHECKING:
    import pandas as pd

TARGET = "target"


def target_drift(labelled: "pd.DataFrame", champion: Promotion, res: Resources) -> dict[str, Any]:
    """Test the matured outcomes of a partition against those of its champion's window, by blocks of time.

    This test has the error rate `monitoring.alpha` for itself, in addition to that of the features.

    Args:
        labelled: Time and outcome of the partition's rows.
        champion: The promotion of the version that scored the partition.
        res: The model's resources.

    Returns:
        The fields of a `ColumnDrift`; empty if the registry does not have the champion.
    """
    config, rules = res.config, res.config.monitoring
    try:
        keys = labelled_keys(champion, res)
        window = cached_sketch(
            cache_path(champion, res, f"{TARGET}-{rows_digest(keys, Stage.LABELS, res)}"),
            partial(_sketch_window, keys, champion, res),
        )
    except UnknownVersion:
        return {}
    current = sketch_outcomes(labelled, config)
    method = rules.numeric if config.target.kind == "regression" else rules.categorical
    effects = dict.fromkeys(
        ("missing", "new categories", "outside range"), 1.1
    )  # above 1, so never reached: the score is the only signal
    result = check(
        exclude_blocks(window, current),
        current,
        {TARGET: method},
        effects,
        alpha=rules.alpha,
        resamples=rules.resamples,
        seed=config.training.seed,
    )
    alarm = next(a for a in result.alarms if a.kind == method.method)
    score, threshold, p_value = (None if x != x else x for x in (alarm.score, alarm.threshold, alarm.p_value))
    reference = f"outcomes in the training window of version {champion.version}"
    return asdict(
        ColumnDrift(
            config.target.column,
            alarm.kind,
            score,
            threshold,
            alarm.drifted,
            alarm.effect,
            p_value,
            None,
            reference,
            result.note,
        )
    )


def sketch_outcomes(labelled: "pd.DataFrame", config: ModelConfig) -> Sketch:
    """Sketch outcomes by block of time. Classes are text, so that the sketch counts them."""
    import pandas as pd

    values = labelled[config.target.column]
    text = config.target.kind != "regression"
    if config.target.kind == "binary":
        values = values.astype("float64").map("{:g}".format)
    blocks = block_categories(labelled[config.time], config.monitoring.block, config.partition.timezone)
    return sketch(pd.DataFrame({TARGET: values}), blocks, (TARGET,), (TARGET,) if text else ())


def labelled_keys(champion: Promotion, res: Resources) -> list[str]:
    """The partitions of the champion's window that have labels."""
    version = res.registry.cached_version(champion.version)
    keys = keys_between(version.window_start, version.window_end, res)
    return [key for key in keys if (r := res.lake.record(Stage.LABELS, key)) and r.status == "done"]


def _sketch_window(keys: Sequence[str], champion: Promotion, res: Resources) -> Sketch:
    """Sketch the outcomes of the champion's training window, as known at its as-of."""
    import pandas as pd

    config, version = res.config, res.registry.cached_version(champion.version)
    frames = []
    for key in keys:
        joined = labelled_rows(key, champion.as_of, res, columns=[config.key, config.time])
        frames.append(joined[joined[config.time] < version.window_end])
    no_outcomes = pd.DataFrame({config.time: pd.DatetimeIndex([], tz="UTC"), config.target.column: []})
    return sketch_outcomes(pd.concat(frames, ignore_index=True) if frames else no_outcomes, config)
