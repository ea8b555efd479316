"""Choose what to fit: candidates and baselines on the validation splits before the holdout (`tasks/training/splits.py`)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.kinds import LINEAR
from configs.schema import ModelConfig
from configs.training import Candidate, Range
from tasks.contracts import BASELINE, Recipe, Selection, Trial, Window
from tasks.errors import SearchTooSlow
from tasks.models.bootstrap import paired_gain
from tasks.models.calibration import calibrated
from tasks.models.metrics import row_loss
from tasks.models.targets import outcomes, predict_prior, prior_of
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.storage.blocks import labelled_blocks
from tasks.training.splits import Split, Unseen, predict_out_of_fold, time_splits
from tasks.training.window import learning_inputs, require_enough_rows, rows_to_fit

if TYPE_CHECKING:
    import pandas as pd

PRIOR, LINEAR_BASELINE = f"{BASELINE}prior", f"{BASELINE}linear"


def _prior_trial(splits: Sequence[Split], config: ModelConfig) -> Trial:
    """The best constant of what lies before each validation part."""
    target, losses = config.target, []
    for split in splits:
        constant = prior_of(outcomes(split.before, target), target)
        prediction = predict_prior(constant, len(split.after), target)
        losses.append(row_loss(outcomes(split.after, target), prediction, target))
    means = tuple(float(part.mean()) for part in losses)
    return Trial(PRIOR, Recipe(PRIOR, "prior", {}), float(np.concatenate(losses).mean()), means)


def try_recipe(name: str, recipe: Recipe, splits: Sequence[Split], res: Resources) -> tuple[Trial, Unseen]:
    """One recipe with fixed parameters on the splits, and what it said there."""
    seen = predict_out_of_fold(recipe, splits, res)
    return Trial(name, recipe, seen.loss, seen.losses), seen


def search(name: str, candidate: Candidate, splits: Sequence[Split], res: Resources) -> tuple[Trial, Unseen]:
    """The best parameters of a candidate: a fixed number of seeded trials, the declared parameters first.

    Raises:
        SearchTooSlow: it took longer than its time limit; nothing was chosen.
    """
    start = Recipe(name, candidate.estimator, dict(candidate.params))
    rules = candidate.search
    if rules is None:
        return try_recipe(name, start, splits, res)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    began, tried = time.monotonic(), []

    def recipe_of(trial: Any) -> Recipe:
        chosen = {key: _suggest(trial, key, space) for key, space in rules.space.items()}
        return replace(start, params=dict(candidate.params) | chosen)

    def objective(trial: Any) -> float:
        found = predict_out_of_fold(recipe_of(trial), splits, res).loss
        tried.append({"number": trial.number, "params": dict(trial.params), "loss": found})
        spent = time.monotonic() - began
        run_log().info("%s: trial %d of %d, loss %.5f", name, trial.number + 1, rules.trials, found)
        if rules.time_limit is not None and spent > rules.time_limit.total_seconds() and len(tried) < rules.trials:
            raise SearchTooSlow(
                f"{res.config.name}: the search of {name!r} took {spent:.0f} s for {len(tried)} of {rules.trials} trials, more than "
                f"search.time_limit allows; raise the limit or lower the trials (it is not cut short: the clock would choose the model)"
            )
        return found

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=res.config.training.seed))
    declared = {k: candidate.params[k] for k in rules.space if k in candidate.params}
    if declared:
        study.enqueue_trial(declared, skip_if_exists=True)
    study.optimize(objective, n_trials=rules.trials)
    # Optuna has no best trial where every loss is NaN; the declared recipe then tells of it.
    found = study.best_trial.params if any(np.isfinite(trial["loss"]) for trial in tried) else {}
    best = replace(start, params=dict(candidate.params) | found)
    trial, seen = try_recipe(name, best, splits, res)
    return replace(trial, tried=tuple(tried)), seen


def _suggest(trial: Any, name: str, space: Range | tuple[Any, ...]) -> Any:
    if isinstance(space, tuple):
        return trial.suggest_categorical(name, list(space))
    if isinstance(space.low, int) and isinstance(space.high, int):
        return trial.suggest_int(name, space.low, space.high, log=space.log)
    return trial.suggest_float(name, float(space.low), float(space.high), log=space.log)


def against_baselines(trial: Trial, baselines: Sequence[Trial]) -> Trial:
    """Whether a candidate has a lower loss than every baseline. A linear candidate is held against the prior alone."""
    others = [b for b in baselines if b.recipe.estimator != trial.recipe.estimator]
    unbeaten = [b for b in others if not trial.loss < b.loss]
    if not unbeaten:
        return trial
    told = ", ".join(f"{b.name} ({b.loss:.5g})" for b in unbeaten)
    return replace(trial, beats_baseline=False, note=f"its loss {trial.loss:.5g} does not beat {told}")


def with_calibration(trial: Trial, seen: Unseen, res: Resources) -> Trial:
    """The trial's recipe calibrated, if that helps.

    A calibrator that is fitted on the older half of the validation rows must lower the loss of the
    newer half, with the lower bound of the blocked bootstrap above zero.
    """
    config = res.config
    method = config.training.calibration
    if config.target.kind == "regression" or method == "none":
        return trial
    newer = (seen.rows[config.time] >= seen.rows[config.time].median()).to_numpy()
    outcome = outcomes(seen.rows, config.target)
    if len(np.unique(outcome[~newer])) < max(2, len(config.target.classes)):
        return replace(trial, note="not calibrated: the older validation rows lack a class")
    probe = calibrated(_Answering(outcome), seen.responses[~newer], outcome[~newer], method)
    adjusted = _apply(probe, seen.responses[newer])
    before, after = (row_loss(outcome[newer], p, config.target) for p in (seen.prediction[newer], adjusted))
    rules = config.gate.gain
    blocks = labelled_blocks(seen.rows[newer], config)
    gain = paired_gain(before, after, blocks, rules.confidence, rules.resamples, config.training.seed)
    told = f"{method} calibration changes the loss of the newer validation rows by {-gain.value:+.5f}"
    if gain.lower > 0:
        return replace(trial, recipe=replace(trial.recipe, calibration=method), note=f"calibrated: {told}")
    return replace(trial, note=f"not calibrated: {told}, which is not surely better")


class _Answering:
    """Stands for a fitted classifier where a calibrator only needs its classes."""

    def __init__(self, outcome: np.ndarray) -> None:
        self.classes_ = np.unique(outcome)


def _apply(model: Any, responses: np.ndarray) -> np.ndarray:
    """Calibrated probabilities of responses, as `tasks/models/targets.py` has predictions."""
    calibrators = model.calibrated_classifiers_[0].calibrators
    found = np.column_stack([c.predict(responses[:, at]) for at, c in enumerate(calibrators)])
    if found.shape[1] == 1:
        return found[:, 0]
    total = found.sum(axis=1, keepdims=True)
    return np.where(total > 0, found / np.where(total > 0, total, 1), 1 / found.shape[1])


def select(
    rows: "pd.DataFrame", end: datetime, res: Resources, told: Callable[[Trial], None]
) -> tuple[tuple[Trial, ...], Recipe | None]:
    """Try everything, tell of each, and return all trials with the recipe that goes to the gate, if any beats the baselines.

    Raises:
        NotEnoughData, SearchTooSlow.
    """
    config = res.config
    splits = time_splits(rows, end, config)
    baselines = [_prior_trial(splits, config)]
    if config.training.baseline == "linear":
        linear = LINEAR[config.target.kind]
        baselines.append(try_recipe(LINEAR_BASELINE, Recipe(LINEAR_BASELINE, linear, {}), splits, res)[0])
    for trial in baselines:
        told(trial)
    candidates: dict[str, Trial] = {}
    unseen: dict[str, Unseen] = {}
    for name, candidate in config.training.candidates.items():
        trial, unseen[name] = search(name, candidate, splits, res)
        candidates[name] = against_baselines(trial, baselines)
        told(candidates[name])
    able = [trial for trial in candidates.values() if trial.beats_baseline and np.isfinite(trial.loss)]
    if not able:
        return (*baselines, *candidates.values()), None
    best = min(able, key=lambda trial: trial.loss)
    chosen = with_calibration(best, unseen[best.name], res)
    candidates[best.name] = chosen
    return (*baselines, *candidates.values()), chosen.recipe


@as_task("select a candidate on {window.span}")
def select_candidate(window: Window, res: Resources) -> Selection:
    """Open the MLflow run of a training, and find what to fit; every candidate and baseline is a child run.

    Raises:
        NotEnoughData, MissingPartition: the window cannot be learned from.
        SearchTooSlow: a search took longer than its time limit.
    """
    found: Selection = res.once(
        Selection, lambda: ["select", *learning_inputs(window, res)], lambda: _select(window, res)
    )
    return found


def _select(window: Window, res: Resources) -> Selection:
    log = run_log()
    end = window.holdout_start - res.config.target.delay
    rows = rows_to_fit(res, window, end)
    require_enough_rows(res.config, rows, f"[{window.start.isoformat()}, {end.isoformat()})")
    run_id = res.registry.open_training(f"training as of {window.as_of:%Y-%m-%d}", res.flow_run, res.commit)

    def told(trial: Trial) -> None:
        log.info(
            "%s: loss %.5f on the validation splits%s", trial.name, trial.loss, f"; {trial.note}" if trial.note else ""
        )
        res.registry.log_trial(run_id, trial)

    try:
        trials, recipe = select(rows, end, res, told)
    except Exception:
        res.registry.close_training(run_id, failed=True)
        raise
    if recipe is None:
        log.warning("no candidate beats the baseline; nothing is fitted")
        return Selection(run_id, trials, None)
    log.info("chosen: %s, calibration %s, %s", recipe.candidate, recipe.calibration, dict(recipe.params))
    return Selection(run_id, trials, recipe)
