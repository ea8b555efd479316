"""Fit the selected recipe as the challenger, and refit it on the whole window after it has passed the gate."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from configs.settings import ROOT
from tasks.contracts import Learned, Promotion, Recipe, Registration, Selection, Stage, Version, Window
from tasks.models.calibration import calibrate
from tasks.models.fingerprint import frame_digest, model_digest
from tasks.models.targets import outcomes, prior_of
from tasks.orchestration.ledger_rows import append_row
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources, uncommitted_files
from tasks.storage.earlier import Contents, contents_name
from tasks.training.definition import DOCUMENT, Definition, current_definition, recorded_definition, sql_of
from tasks.training.pinned import contents_of
from tasks.training.shortage import require_enough_rows
from tasks.training.splits import fit, predict_out_of_fold, time_splits
from tasks.training.window import count_rows, rows_to_fit, training_inputs

if TYPE_CHECKING:
    import pandas as pd


def fit_recipe(recipe: Recipe, rows: "pd.DataFrame", end: datetime, res: Resources) -> Any:
    """Fit a recipe on all rows, with its calibration.

    The calibrator is fitted on out-of-fold predictions of the validation splits, the estimator on all rows.

    Args:
        rows: Labelled rows, all before `end`.
        end: End of the last validation split (exclusive).
    """
    pipeline = fit(recipe, rows, res)
    if recipe.calibration == "none":
        return pipeline
    validation = predict_out_of_fold(recipe, time_splits(rows, end, res.config), res)
    return calibrate(pipeline, validation.responses, outcomes(validation.rows, res.config.target), recipe.calibration)


def training_partitions(rows: "pd.DataFrame", window: Window, res: Resources) -> tuple[Learned, ...]:
    """Return the number and the digest of the rows that a training has read, by partition. Partitions without rows are left out."""
    config = res.config
    columns = [config.key, config.time, *config.features.active.all, config.target.column]
    partitions = []
    for key in window.partitions:
        ref = res.ref(key)
        part = rows.loc[(rows[config.time] >= ref.start) & (rows[config.time] < ref.end), columns]
        if len(part):
            path = str(res.lake.file(Stage.VALID, key).resolve())
            partitions.append(Learned(key, len(part), frame_digest(part), path))
    return tuple(partitions)


def training_ends(role: str, window: Window, res: Resources) -> tuple[datetime, datetime]:
    """Return the end of the rows to fit on, and the end of the period that the version counts as trained on (both exclusive).

    For a challenger, a gap of the label delay lies before the holdout, so all its outcomes were known when the holdout began.

    Args:
        role: "challenger", "reference" or "refit".
    """
    if role == "refit":
        return window.end, window.end
    return window.holdout_start - res.config.target.delay, window.holdout_start


@as_task("fit a challenger on {window.span}")
def fit_challenger(selection: Selection, window: Window, res: Resources) -> Version:
    """Fit the selected recipe on the window without its holdout, and register it as a candidate."""
    assert selection.recipe
    version = fit_version("challenger", selection.recipe, selection.run_id, window, res)
    record_candidate(version, res)
    return version


@as_task("refit v{challenger.version} on the whole window")
def refit_on_window(challenger: Version, window: Window, res: Resources) -> Version:
    """Fit the evaluated recipe on the window with its holdout, so that the version also learns from the most recent rows."""
    recipe, run, definition = challenger.recipe, challenger.training_run, recorded_definition(challenger, res)
    version = fit_version("refit", recipe, run, window, res, challenger.version, definition)
    record_candidate(version, res)
    return version


def fit_reference(champion: Version, challenger: Version, window: Window, res: Resources) -> Version:
    """Fit the champion's recipe on the rows that a challenger was fitted on, so that only the recipes differ."""
    recipe, definition = champion.recipe, recorded_definition(champion, res)
    version = fit_version("reference", recipe, challenger.training_run, window, res, definition=definition)
    record_candidate(version, res)
    return version


def fit_version(
    role: str,
    recipe: Recipe,
    run_id: str,
    window: Window,
    res: Resources,
    judged_as: str = "",
    definition: Definition | None = None,
) -> Version:
    """Fit and register a version as `make_version` does. A replay fits each version once."""
    definition = definition or current_definition(recipe, res)

    def inputs() -> list[Any]:
        return [role, asdict(recipe), judged_as, definition, *training_inputs(window, res)]

    version: Version = res.cache.result(
        Version, inputs, lambda: make_version(role, recipe, run_id, window, res, judged_as, definition)
    )
    return version


def make_version(
    role: str,
    recipe: Recipe,
    run_id: str,
    window: Window,
    res: Resources,
    judged_as: str = "",
    definition: Definition | None = None,
) -> Version:
    """Fit a recipe on a window, and register the version in MLflow.

    Args:
        role: "challenger", "reference" or "refit".
        run_id: MLflow run of the training.
        judged_as: For a refit, the version that was evaluated in its place.
        definition: What the version is made from, apart from its rows. Default: that of model.yaml.

    Raises:
        NotEnoughData: The window has too few labelled rows, or not every class.
        MissingPartition: A partition of the window was not validated, or its labels were not collected.
    """
    config, started = res.config, time.monotonic()
    until, window_end = training_ends(role, window, res)
    rows = rows_to_fit(res, window, until)
    require_enough_rows(config, rows, f"from {window.start:%Y-%m-%dT%H:%M%z} to {until:%Y-%m-%dT%H:%M%z}")
    model = fit_recipe(recipe, rows, until, res)
    seconds = time.monotonic() - started
    draft = Version(
        model=config.name,
        version="",
        run_id="",
        digest=model_digest(model),
        window_start=window.start,
        window_end=window_end,
        as_of=window.as_of,
        recipe=recipe,
        prior=prior_of(outcomes(rows, config.target), config.target),
        rows=len(rows),
        judged_as=judged_as,
        training_run=run_id,
    )
    learned, contents = training_partitions(rows, window, res), contents_of(window, res)
    is_sample = config.training.window.max_rows
    labelled = sum(count_rows(res, window, window.start, until)) if is_sample else len(rows)
    registration = Registration(
        version=draft,
        run_id=run_id,
        role=role,
        params={
            "candidate": recipe.candidate,
            "estimator": recipe.estimator,
            "calibration": recipe.calibration,
            **{f"param.{name}": value for name, value in recipe.params.items()},
            "threads": res.settings.threads,
            "rows": len(rows),
            "fit_seconds": f"{seconds:.3f}",
        },
        documents={
            "config.json": config.model_dump(mode="json"),
            DOCUMENT: definition or current_definition(recipe, res),
            "lineage.json": lineage(role, window, learned, labelled, contents, res),
        },
        learned=learned,
        contents=contents_name(contents),
    )
    version = res.registry.register(model, config, registration)
    run_log().info(
        "%s is version %s: %s on %d rows in %.1f s", role, version.version, recipe.candidate, len(rows), seconds
    )
    return version


def lineage(
    role: str, window: Window, learned: Sequence[Learned], labelled: int, contents: Contents, res: Resources
) -> dict[str, Any]:
    """Return the provenance of a version: everything that `reproduce` needs to fit it again.

    Args:
        learned: The rows that it was fitted on, by partition.
        labelled: Labelled rows of the window; more than those of `learned` if `max_rows` is set.
        contents: Digests of the rows and labels that the training has read.
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
        "uncommitted": uncommitted_files(ROOT),
        "contents": contents,
        "sql": sql_of(res.model),
        "packages": res.registry.packages(),
        "flow_run": res.flow_run,
    }


def record_candidate(version: Version, res: Resources) -> Promotion:
    """Write a version's first ledger row."""
    champion = res.ledger.champion()
    reason = f"refit of version {version.judged_as}" if version.judged_as else f"candidate {version.recipe.candidate!r}"
    return append_row("register", version, champion, version.as_of, reason, {}, res)
