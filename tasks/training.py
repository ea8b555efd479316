"""Fit a challenger on a window, and refit what passed on the whole of it."""

import time
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from configs.schema import Candidate
from tasks.contracts import Stage, Version, Window
from tasks.features import build_pipeline, inputs_of, model_digest, predict
from tasks.performance import measure
from tasks.resources import Resources
from tasks.window import hold_to_rules, read_rows

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline


def fit(candidate: Candidate, rows: "pd.DataFrame", res: Resources) -> "Pipeline":
    """Fit one candidate on labelled rows. The same rows, config and thread count give the same model."""
    config = res.config
    pipeline = build_pipeline(candidate, config.features, res.settings.threads, config.training.seed)
    return pipeline.fit(inputs_of(rows, config.features), rows[config.target.column].to_numpy(dtype=np.int64))


def choose(rows: "pd.DataFrame", window: Window, res: Resources) -> str:
    """The candidate with the lowest log loss on the newest part of the rows, as long as the holdout.

    Every candidate is fitted on what lies before, with a gap of the label delay, so that the
    choice is made as it would have been made then. A single candidate needs no choice.
    """
    config = res.config
    names = list(config.training.candidates)
    if len(names) == 1:
        return names[0]
    border = window.holdout_start - config.training.window.holdout
    before = rows[rows[config.time] < border - config.target.delay]
    after = rows[rows[config.time] >= border]
    hold_to_rules(config, before, window)
    losses = {}
    for name in names:
        pipeline = fit(config.training.candidates[name], before, res)
        prediction = predict(pipeline, after, config.features)
        losses[name] = measure(after[config.target.column].to_numpy(), prediction)["log_loss"]
    get_run_logger().info("candidates on %d rows before the holdout, log loss: %s", len(after), losses)
    return min(names, key=lambda name: losses[name] if losses[name] == losses[name] else float("inf"))


@task(cache_policy=NO_CACHE, task_run_name="fit challenger on {window.span}")
def fit_challenger(window: Window, res: Resources) -> Version:
    """Fit the best candidate on the window without its holdout, and register it.

    Raises:
        NotEnoughData, MissingPartition: the window cannot be learned from.
    """
    rows = read_rows(res, window, window.start, window.holdout_start - res.config.target.delay)
    hold_to_rules(res.config, rows, window)
    return _make(choose(rows, window, res), rows, window, window.holdout_start, res, "challenger")


@task(cache_policy=NO_CACHE, task_run_name="refit v{challenger.version} on the whole window")
def refit_on_window(challenger: Version, window: Window, res: Resources) -> Version:
    """Fit the judged recipe on window and holdout, so that freshness is not paid for with ignorance of the last weeks."""
    rows = read_rows(res, window, window.start, window.end)
    return _make(challenger.candidate, rows, window, window.end, res, "refit", judged_as=challenger.version)


def _make(
    name: str, rows: "pd.DataFrame", window: Window, end: datetime, res: Resources, role: str, judged_as: str = ""
) -> Version:
    """Fit, register, and say what was made."""
    config, started = res.config, time.monotonic()
    pipeline = fit(config.training.candidates[name], rows, res)
    seconds = time.monotonic() - started
    draft = Version(
        model=config.name,
        version="",
        run_id="",
        digest=model_digest(pipeline),
        window_start=window.start,
        window_end=end,
        as_of=window.as_of,
        candidate=name,
        base_rate=float(rows[config.target.column].mean()),
        rows=len(rows),
        judged_as=judged_as,
    )
    digests = {key: res.lake.done(stage, key).digest for stage in _LEARNED for key in window.partitions}
    version = res.registry.register(
        pipeline,
        config.features,
        run_name=f"{role} as of {window.as_of:%Y-%m-%d}",
        params={"candidate": name, **config.training.candidates[name].params, "threads": res.settings.threads},
        metrics={"fit_rows": len(rows), "fit_seconds": seconds},
        version=draft,
        documents={
            "config.json": config.model_dump(mode="json"),
            "window.json": {"partitions": window.partitions, "digests": digests},
        },
    )
    get_run_logger().info("%s is version %s: %s on %d rows in %.1f s", role, version.version, name, len(rows), seconds)
    return version


_LEARNED = (Stage.VALID, Stage.LABELS)
