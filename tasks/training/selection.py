"""Select the recipe to fit: compare candidates and baselines on the validation splits (`tasks/training/splits.py`)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from configs.kinds import LINEAR
from configs.schema import ModelConfig
from configs.training import Candidate, Range
from tasks.contracts import BASELINE, PRIOR, Recipe, Selection, Trial, Window
from tasks.errors import SearchTooSlow
from tasks.models.bootstrap import paired_gain
from tasks.models.calibration import calibrate
from tasks.models.metrics import row_loss
from tasks.models.targets import outcomes, predict_prior, prior_of
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.storage.blocks import labelled_blocks
from tasks.training.shortage import require_enough_rows
from tasks.training.splits import OutOfFold, Split, predict_out_of_fold, time_splits
from tasks.training.window import rows_to_fit, training_inputs

if TYPE_CHECKING:
    import pandas as pd

LINEAR_BASELINE = f"{BASELINE}linear"
SURE = 0.95
"""One-sided confidence with which a calibration must lower the loss: it is adopted for good, and seldom matters."""


def _prior_trial(splits: Sequence[Split], config: ModelConfig) -> Trial:
    """Evaluate the best constant prediction of each split's training part."""
    target, losses = config.target, []
    for split in splits:
        constant = prior_of(outcomes(split.train, target), target)
        prediction = predict_prior(constant, len(split.validation), target)
        losses.append(row_loss(outcomes(split.validation, target), prediction, target))
    means = tuple(float(part.mean()) for part in losses)
    return Trial(PRIOR, Recipe(PRIOR, "prior", {}), float(np.concatenate(losses).mean()), means)


def try_recipe(name: str, recipe: Recipe, splits: Sequence[Split], res: Resources) -> tuple[Trial, OutOfFold]:
    """Evaluate a recipe with fixed parameters on the splits; also return its predictions there."""
    validation = predict_out_of_fold(recipe, splits, res)
    return Trial(name, recipe, validation.loss, validation.losses), validation


def search(name: str, candidate: Candidate, splits: Sequence[Split], res: Resources) -> tuple[Trial, OutOfFold]:
    """Search the best parameters of a candidate with a fixed number of seeded trials, starting with the declared parameters.

    Raises:
        SearchTooSlow: The search took longer than its time limit. No parameters are selected.
    """
    declared = Recipe(name, candidate.estimator, dict(candidate.params))
    rules = candidate.search
    if rules is None:
        return try_recipe(name, declared, splits, res)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    started, tried = time.monotonic(), []

    def recipe_of(trial: Any) -> Recipe:
        suggested = {key: _suggest(trial, key, space) for key, space in rules.space.items()}
        return replace(declared, params=dict(candidate.params) | suggested)

    def objective(trial: Any) -> float:
        loss = predict_out_of_fold(recipe_of(trial), splits, res).loss
        tried.append({"number": trial.number, "params": dict(trial.params), "loss": loss})
        seconds = time.monotonic() - started
        run_log().info("%s: trial %d of %d, loss %.5f", name, trial.number + 1, rules.trials, loss)
        if rules.time_limit is not None and seconds > rules.time_limit.total_seconds() and len(tried) < rules.trials:
            raise SearchTooSlow(
                f"{res.config.name}: the search of {name!r} took {seconds:.0f} s for {len(tried)} of {rules.trials} trials, more than "
                f"search.time_limit allows. No candidate was selected, since a result that depends on the machine's speed is not "
                f"repeatable. Raise search.time_limit or lower search.trials"
            )
        return loss

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=res.config.training.seed))
    first = {k: candidate.params[k] for k in rules.space if k in candidate.params}
    if first:
        study.enqueue_trial(first, skip_if_exists=True)
    study.optimize(objective, n_trials=rules.trials)
    # Optuna has no best trial if every loss is NaN; then the declared parameters are used.
    best = study.best_trial.params if any(np.isfinite(trial["loss"]) for trial in tried) else {}
    recipe = replace(declared, params=dict(candidate.params) | best)
    trial, validation = try_recipe(name, recipe, splits, res)
    return replace(trial, tried=tuple(tried)), validation


def _suggest(trial: Any, name: str, space: Range | tuple[Any, ...]) -> Any:
    if isinstance(space, tuple):
        return trial.suggest_categorical(name, list(space))
    if isinstance(space.low, int) and isinstance(space.high, int):
        return trial.suggest_int(name, space.low, space.high, log=space.log)
    return trial.suggest_float(name, float(space.low), float(space.high), log=space.log)


def compare_with_prior(trial: Trial, prior: Trial) -> Trial:
    """Mark a candidate that does not have a lower loss than the prior."""
    if trial.loss < prior.loss:
        return trial
    note = f"its loss {trial.loss:.5g} does not beat {prior.name} ({prior.loss:.5g})"
    return replace(trial, beats_baseline=False, note=note)


def with_calibration(trial: Trial, validation: OutOfFold, res: Resources) -> Trial:
    """Add calibration to the trial's recipe if it surely lowers the loss on blocks that neither model nor calibrator has seen.

    A calibrator is fitted on the older half of the validation rows. The mean decrease of the loss on the newer half must have a
    lower bound above zero, with at least `SURE` confidence and `gate.gain.min_blocks` blocks. At the gate, a calibration that the
    champion does not have is a change, so it must also be better there.
    """
    config = res.config
    method = config.training.calibration
    if config.target.kind == "regression" or method == "none":
        return trial
    blocks = labelled_blocks(validation.rows, config)
    newer = blocks >= np.median(blocks)  # cut between blocks, so that none is on both sides
    outcome = outcomes(validation.rows, config.target)
    if len(np.unique(outcome[~newer])) < max(2, len(config.target.classes)):
        return replace(trial, note="not calibrated: the older validation rows lack a class")
    adjusted = calibrated(validation.responses[newer], validation.responses[~newer], outcome[~newer], method)
    before, after = (row_loss(outcome[newer], p, config.target) for p in (validation.prediction[newer], adjusted))
    rules = config.gate.gain
    confidence = max(SURE, rules.confidence)
    gain = paired_gain(before, after, blocks[newer], confidence, rules.resamples, config.training.seed)
    change = f"{method} calibration changes the loss of the newer validation rows by {-gain.value:+.5f}"
    if gain.lower > 0 and len(np.unique(blocks[newer])) >= rules.min_blocks:
        return replace(trial, recipe=replace(trial.recipe, calibration=method), note=f"calibrated: {change}")
    return replace(trial, note=f"not calibrated: {change}, which is not a significant improvement")


class _FittedClasses:
    """A stub of a fitted classifier: fitting a calibrator needs only its classes."""

    def __init__(self, outcome: np.ndarray) -> None:
        self.classes_ = np.unique(outcome)


def calibrated(
    responses: np.ndarray, fitted_on: np.ndarray, outcome: np.ndarray, method: Literal["sigmoid", "isotonic"]
) -> np.ndarray:
    """Return calibrated probabilities, with the shape that `tasks/models/targets.py` defines for predictions.

    Args:
        responses: To calibrate, as returned by `calibration.response`.
        fitted_on: The responses that the calibrator is fitted on, with their outcomes in `outcome`.
    """
    model = calibrate(_FittedClasses(outcome), fitted_on, outcome, method)
    calibrators = model.calibrated_classifiers_[0].calibrators
    scores = np.column_stack([c.predict(responses[:, at]) for at, c in enumerate(calibrators)])
    if scores.shape[1] == 1:
        return scores[:, 0]
    total = scores.sum(axis=1, keepdims=True)
    return np.where(total > 0, scores / np.where(total > 0, total, 1), 1 / scores.shape[1])


def select(
    rows: "pd.DataFrame", end: datetime, res: Resources, on_trial: Callable[[Trial], None]
) -> tuple[tuple[Trial, ...], Recipe | None]:
    """Evaluate the prior and all candidates, and select the one with the lowest loss, if it beats the prior.

    The linear baseline is a candidate like those of model.yaml: where it is best, it is fitted.

    Args:
        end: End of the last validation split (exclusive).
        on_trial: Called after each evaluation.

    Returns:
        All trials, the prior first, and the selected recipe, or None if nothing beats the prior.

    Raises:
        NotEnoughData: There is no validation split.
        SearchTooSlow: A search took longer than its time limit.
    """
    config = res.config
    splits = time_splits(rows, end, config)
    prior, tried = _prior_trial(splits, config), dict(config.training.candidates)
    on_trial(prior)
    if config.training.baseline == "linear":
        tried[LINEAR_BASELINE] = Candidate(estimator=LINEAR[config.target.kind])
    trials: dict[str, Trial] = {}
    validations: dict[str, OutOfFold] = {}
    for name, candidate in tried.items():
        trial, validations[name] = search(name, candidate, splits, res)
        trials[name] = compare_with_prior(trial, prior)
        on_trial(trials[name])
    eligible = [trial for trial in trials.values() if trial.beats_baseline and np.isfinite(trial.loss)]
    if not eligible:
        return (prior, *trials.values()), None
    best = min(eligible, key=lambda trial: trial.loss)
    trials[best.name] = selected = with_calibration(best, validations[best.name], res)
    return (prior, *trials.values()), selected.recipe


@as_task("select a candidate on {window.span}")
def select_candidate(window: Window, res: Resources) -> Selection:
    """Open the MLflow run of a training, and select the recipe to fit. Every candidate and baseline is a child run.

    Raises:
        NotEnoughData: The window has too few labelled rows, or not every class.
        MissingPartition: A partition of the window was not validated, or its labels were not collected.
        SearchTooSlow: A search took longer than its time limit.
    """
    selection: Selection = res.cache.result(
        Selection, lambda: ["select", *training_inputs(window, res)], lambda: _select(window, res)
    )
    return selection


def selection_rows(window: Window, res: Resources) -> "tuple[pd.DataFrame, datetime]":
    """Read the labelled rows that a candidate is selected on, and return them with their end: the label delay before the holdout.

    Raises:
        NotEnoughData, MissingPartition: See `select_candidate`.
    """
    end = window.holdout_start - res.config.target.delay
    rows = rows_to_fit(res, window, end)
    require_enough_rows(res.config, rows, f"from {window.start:%Y-%m-%dT%H:%M%z} to {end:%Y-%m-%dT%H:%M%z}")
    return rows, end


def _select(window: Window, res: Resources) -> Selection:
    log = run_log()
    rows, end = selection_rows(window, res)
    run_id = res.registry.open_training(f"training {window.partitions[-1]}", res.flow_run, res.commit)

    def log_trial(trial: Trial) -> None:
        log.info(
            "%s: loss %.5f on the validation splits%s", trial.name, trial.loss, f"; {trial.note}" if trial.note else ""
        )
        res.registry.log_trial(run_id, trial, window.partitions[-1])

    try:
        trials, recipe = select(rows, end, res, log_trial)
    except Exception:
        res.registry.close_training(run_id, failed=True)
        raise
    if recipe is None:
        log.warning("nothing beats the prior; no version is fitted")
        return Selection(run_id, trials, None)
    log.info("selected: %s, calibration %s, %s", recipe.candidate, recipe.calibration, dict(recipe.params))
    return Selection(run_id, trials, recipe)
