"""Values of parameters that an estimator refuses, found by fitting it on a few generated rows: in a training they would be found last."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.schema import ModelConfig
from configs.training import Candidate, Range
from tasks.contracts import Recipe

ROWS = 60
FEW = 3
"""Trees or iterations of the trial fit, if more are declared."""
SIZES = ("n_estimators", "max_iter")


def unfit_parameters(config: ModelConfig, path: Path) -> Iterator[str]:
    """Yield a message for each candidate whose `params`, or a bound or choice of its `search.space`, the estimator refuses.

    Args:
        config: The model's config.
        path: Its model.yaml, for the message.
    """
    for name, candidate in config.training.candidates.items():
        where = f"{path}: training.candidates.{name}"
        if problem := _refusal(candidate, dict(candidate.params), config):
            alone = {
                key: reason
                for key, value in candidate.params.items()
                if (reason := _refusal(candidate, {key: value}, config))
            }
            key, reason = next(iter(alone.items()), ("", problem))
            place = f".{key}: {candidate.params[key]!r}" if key else ""
            yield f"{where}.params{place}: {reason}. Every training would fail"
            continue
        for key, values in _choices(candidate):
            for value in values:
                if problem := _refusal(candidate, {**candidate.params, key: value}, config):
                    yield f"{where}.search.space.{key}: {value!r}: {problem}. A training whose search tries it would fail"
                    break


def _choices(candidate: Candidate) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for key, space in candidate.search.space.items() if candidate.search else ():
        yield key, (space.low, space.high) if isinstance(space, Range) else space


def _refusal(candidate: Candidate, params: dict[str, Any], config: ModelConfig) -> str:
    """Return the library's reason if it refuses parameters, empty if it takes them."""
    from xgboost.core import XGBoostError

    from tasks.models.estimators import build_pipeline

    few = {key: FEW for key in SIZES if isinstance(params.get(key), int) and params[key] > FEW}
    recipe = Recipe("trial", candidate.estimator, params | few)
    frame, outcome = _rows(config)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of iterations that do not converge
            build_pipeline(recipe, config, 1).fit(frame, outcome)
    except (ValueError, TypeError, XGBoostError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip() and "Stack trace" not in line]
        return next(
            (line.rpartition("] ")[2] for line in lines if "Invalid" in line or "value" in line),
            lines[0] if lines else "",
        )
    return ""


def _rows(config: ModelConfig) -> tuple[Any, Any]:
    """Return generated rows with the features of new versions, and outcomes of all classes."""
    import numpy as np
    import pandas as pd

    active, kind = config.features.active, config.target.kind
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name: rng.normal(size=ROWS) for name in active.numeric})
    for name in active.categorical:
        frame[name] = rng.choice(["a", "b"], ROWS)
    classes = {"binary": 2, "multiclass": len(config.target.classes), "regression": ROWS}[kind]
    outcome = np.arange(ROWS) % classes
    return frame, outcome.astype("float64") if kind == "regression" else outcome
