"""Page of the names that model.yaml may use: metrics, estimators with their parameters, and expectations with their arguments.

`python -m ops.keys --write` writes it.
"""

from collections.abc import Iterator
from typing import Any

from configs.expectations import SUPPORTED
from configs.kinds import HIGHER_IS_BETTER, KINDS, LOSSES, LOWER_IS_BETTER, METRICS, PARAMETERS, Estimator
from configs.settings import ROOT
from tasks.validation.expectations import arguments_of, expectation_class

PAGE = ROOT / "docs" / "names.md"
INTRODUCTION = """# Names

Which metrics, estimators and expectations may model.yaml name? This page is written by `python -m ops.keys --write` from the code. An
unknown name is an error of `make lint` and of every run, with the most similar name.
"""
METRICS_TEXT = """## Metrics

A limit of `gate.floor` needs a metric with a better direction. Models are compared by the target's loss.
"""
ESTIMATORS_TEXT = """## Estimators

`training.candidates.<name>.estimator` is one of them. A parameter that is not in `params` has the library's default. `n_jobs` and
`random_state` are set by `EVERGREEN_THREADS` and `training.seed`.
"""
EXPECTATIONS_TEXT = """## Expectations

`expectations[].type` is one of them, and `kwargs` has its arguments. Those in bold are required. `columns` may be given
instead of `column`. `row_condition` limits a check to some rows.

The severity decides what a failure does. What it can do depends on what the expectation checks:

| checks | `critical` | `warning` | `info` |
|---|---|---|---|
| rows | quarantines rows that fail; blocks the partition if more fail than `mostly` allows | quarantines rows that fail | reports |
| whole | blocks the partition | reports | reports |
"""
CLASSES: dict[Estimator, tuple[str, str]] = {
    "xgboost": ("XGBClassifier, XGBRegressor", "`tree_method: hist`, categories by partitions of their values"),
    "hist_gradient_boosting": ("HistGradientBoostingClassifier, HistGradientBoostingRegressor", "no early stopping"),
    "random_forest": ("RandomForestClassifier, RandomForestRegressor", ""),
    "extra_trees": ("ExtraTreesClassifier, ExtraTreesRegressor", ""),
    "logistic_regression": ("LogisticRegression", "`max_iter: 500`, `solver: newton-cholesky`"),
    "ridge": ("Ridge", ""),
}
"""Classes of each estimator, and defaults that differ from the library's. A test compares them with what is built."""


def render() -> str:
    """Return the text of the page."""
    parts = [
        (INTRODUCTION, ()),
        (METRICS_TEXT, _metrics()),
        (ESTIMATORS_TEXT, _estimators()),
        (EXPECTATIONS_TEXT, _expectations()),
    ]
    return "\n".join("\n".join((text, *rows, "")) if rows else text for text, rows in parts)


def _metrics() -> list[str]:
    names = list(dict.fromkeys(name for metrics in METRICS.values() for name in metrics))
    head = ["| metric | better | binary | multiclass | regression | loss |", "|---|---|---|---|---|---|"]
    losses = {loss for own in LOSSES.values() for loss in own}
    return head + [
        f"| `{name}` | {_direction(name)} | {' | '.join('yes' if name in own else '' for own in METRICS.values())} "
        f"| {'yes' if name in losses else ''} |"
        for name in names
    ]


def _direction(name: str) -> str:
    return "higher" if name in HIGHER_IS_BETTER else "lower" if name in LOWER_IS_BETTER else "only describes"


def _estimators() -> list[str]:
    head = ["| estimator | target | class | other defaults | parameters |", "|---|---|---|---|---|"]
    return head + [
        f"| `{name}` | {', '.join(KINDS[name])} | {CLASSES[name][0]} | {CLASSES[name][1]} | {_code(PARAMETERS[name])} |"
        for name in PARAMETERS
    ]


def _code(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _expectations() -> Iterator[str]:
    yield "| expectation | checks | arguments |"
    yield "|---|---|---|"
    for name in SUPPORTED:
        arguments = arguments_of(expectation_class(name))
        texts = [f"**`{argument}`**" if needed else f"`{argument}`" for argument, needed in arguments.items()]
        yield f"| `{name}` | {'rows' if 'mostly' in arguments else 'whole'} | {', '.join(texts)} |"
