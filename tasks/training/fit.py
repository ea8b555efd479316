"""Fit the chosen recipe as the challenger, and refit what passed on the whole window."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from configs.load import Model
from configs.settings import ROOT
from tasks.contracts import Learned, Promotion, Recipe, Selection, Stage, Version, Window
from tasks.models.calibration import calibrated
from tasks.models.fingerprint import frame_digest, model_digest
from tasks.models.targets import outcomes, prior_of
from tasks.orchestration.ledger_rows import write
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources, uncommitted
from tasks.training.splits import fit, predict_out_of_fold, time_splits
from tasks.training.window import count_rows, learning_inputs, require_enough_rows, rows_to_fit

if TYPE_CHECKING:
    import pandas as pd


def fit_recipe(recipe: Recipe, rows: "pd.DataFrame", end: datetime, res: Resources) -> Any:
    """Fit a recipe on all rows, which end before `end`; calibrated on the validation splits if the recipe says so.

    The calibrator learns from predictions of rows that were not fitted on; the estimator
    under it then learns from all of them.
    """
    pipeline = fit(recipe, rows, res)
    if recipe.calibration == "none":
        return pipeline
    seen = predict_out_of_fold(recipe, time_splits(rows, end, res.config), res)
    return calibrated(pipeline, seen.responses, outcomes(seen.rows, res.config.target), recipe.calibration)


def learned_from(rows: "pd.DataFrame", window: Window, res: Resources) -> tuple[Learned, ...]:
    """The rows of each partition by digest, as they were read for this training."""
    config = res.config
    columns = [config.key, config.time, *config.features.learned.all, config.target.column]
    found = []
    for key in window.partitions:
        ref = res.ref(key)
        part = rows.loc[(rows[config.time] >= ref.start) & (rows[config.time] < ref.end), columns]
        if len(part):
            path = str(res.lake.file(Stage.VALID, key).resolve())
            found.append(Learned(key, len(part), frame_digest(part), path))
    return tuple(found)


def fitted_until(role: str, window: Window, res: Resources) -> tuple[datetime, datetime]:
    """For a challenger or a refit: the end of its rows, and the end of what it has seen.

    A challenger keeps the gap of the label delay before the holdout, so that its last outcomes
    were known when the holdout began.
    """
    if role == "refit":
        return window.end, window.end
    return window.holdout_start - res.config.target.delay, window.holdout_start


@as_task("fit a challenger on {window.span}")
def fit_challenger(selection: Selection, window: Window, res: Resources) -> Version:
    """Fit the chosen recipe on the window without its holdout, and register it as a candidate."""
    assert selection.recipe
    return _make("challenger", selection.recipe, selection.run_id, window, res)


@as_task("refit v{challenger.version} on the whole window")
def refit_on_window(challenger: Version, window: Window, res: Resources) -> Version:
    """Fit the judged recipe on window and holdout, so that freshness is not paid for with ignorance of the last weeks."""
    return _make("refit", challenger.recipe, challenger.training_run, window, res, judged_as=challenger.version)


def _make(role: str, recipe: Recipe, run_id: str, window: Window, res: Resources, judged_as: str = "") -> Version:
    """Fit, register in MLflow, and write the version into the ledger as a candidate."""
    version = fitted(role, recipe, run_id, window, res, judged_as)
    note_candidate(version, res)
    return version


def fitted(role: str, recipe: Recipe, run_id: str, window: Window, res: Resources, judged_as: str = "") -> Version:
    """The version that a fit makes; a replay makes each once."""
    made_of = partial(_fit_inputs, role, recipe, judged_as, window, res)
    version: Version = res.once(Version, made_of, lambda: make_version(role, recipe, run_id, window, res, judged_as))
    return version


def _fit_inputs(role: str, recipe: Recipe, judged_as: str, window: Window, res: Resources) -> list[Any]:
    return [role, asdict(recipe), judged_as, *learning_inputs(window, res)]


def make_version(
    role: str, recipe: Recipe, run_id: str, window: Window, res: Resources, judged_as: str = ""
) -> Version:
    """Fit a recipe on a window as challenger or refit, and register it.

    Raises:
        NotEnoughData, MissingPartition: the window cannot be learned from.
    """
    config, started = res.config, time.monotonic()
    until, seen = fitted_until(role, window, res)
    rows = rows_to_fit(res, window, until)
    require_enough_rows(config, rows, f"[{window.start.isoformat()}, {until.isoformat()})")
    model = fit_recipe(recipe, rows, until, res)
    seconds = time.monotonic() - started
    draft = Version(
        model=config.name,
        version="",
        run_id="",
        digest=model_digest(model),
        window_start=window.start,
        window_end=seen,
        as_of=window.as_of,
        recipe=recipe,
        prior=prior_of(outcomes(rows, config.target), config.target),
        rows=len(rows),
        judged_as=judged_as,
        training_run=run_id,
    )
    learned = learned_from(rows, window, res)
    most = config.training.window.max_rows
    labelled = sum(count_rows(res, window, window.start, until)) if most else len(rows)
    version = res.registry.register(
        model,
        config,
        run_id=run_id,
        role=role,
        params={
            "candidate": recipe.candidate,
            "estimator": recipe.estimator,
            "calibration": recipe.calibration,
            **{f"param.{name}": value for name, value in recipe.params.items()},
            "threads": res.settings.threads,
        },
        metrics={"fit_rows": len(rows), "fit_seconds": seconds},
        version=draft,
        documents={
            "config.json": config.model_dump(mode="json"),
            "lineage.json": lineage(role, window, learned, labelled, res),
        },
        learned=learned,
    )
    run_log().info(
        "%s is version %s: %s on %d rows in %.1f s", role, version.version, recipe.candidate, len(rows), seconds
    )
    return version


def lineage(role: str, window: Window, learned: Sequence[Learned], labelled: int, res: Resources) -> dict[str, Any]:
    """What `reproduce` needs to fit the same model again, and what a reader needs to know where it came from.

    `labelled` counts the rows that it might have learned from: with `max_rows` there may be more than it did.
    """
    return {
        "role": role,
        "window": {
            "partitions": window.partitions,
            "passed_over": window.passed_over,
            "start": window.start.isoformat(),
            "holdout_start": window.holdout_start.isoformat(),
            "end": window.end.isoformat(),
            "as_of": window.as_of.isoformat(),
        },
        "learned": [vars(part) for part in learned],
        "labelled": labelled,
        "threads": res.settings.threads,
        "git_commit": res.commit,
        "uncommitted": uncommitted(ROOT),
        "sql": sql_of(res.model),
        "packages": res.registry.packages(),
        "flow_run": res.flow_run,
    }


def sql_of(model: Model) -> dict[str, str]:
    """The queries that make rows and labels; none for a flat file."""
    return {name: text for name, text in (("source", model.source_sql), ("labels", model.labels_sql)) if text}


def note_candidate(version: Version, res: Resources) -> Promotion:
    """The ledger's first row about a version."""
    champion = res.ledger.champion()
    what = f"refit of version {version.judged_as}" if version.judged_as else f"candidate {version.recipe.candidate!r}"
    return write("register", version, champion, version.as_of, what, {}, res)
