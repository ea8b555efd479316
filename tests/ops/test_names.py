"""The page of names has what the code builds, and a wrong name leads to it."""

from typing import Any

import pytest

from configs.errors import ConfigError
from configs.expectations import EXPECTATIONS, SQL_ONLY, SUPPORTED, Expectation
from configs.kinds import HIGHER_IS_BETTER, KINDS, LOWER_IS_BETTER, METRICS, PARAMETERS
from configs.load import load_model
from configs.settings import ROOT
from ops.names import CLASSES, PAGE
from tasks.contracts import Recipe
from tasks.models.estimators import build_pipeline
from tasks.validation.expectations import check_arguments
from tests.configs.test_load import edit_config


def lines() -> dict[str, str]:
    """Return the row of each name on the page, without links."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return {row.split("`")[1]: row for row in rows}


def test_every_name_is_on_the_page() -> None:
    assert set(lines()) >= {*(name for own in METRICS.values() for name in own), *PARAMETERS, *SUPPORTED}
    assert not set(lines()) & {*SQL_ONLY}
    assert {*SUPPORTED, *SQL_ONLY} == {*EXPECTATIONS}


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_classes_of_an_estimator_are_those_that_are_built(name: Any) -> None:
    config = load_model("electricity", ROOT / "configs").config
    for kind in KINDS[name]:
        target = config.target.model_copy(update={"kind": kind, "loss": None})
        own = config.model_copy(update={"target": target})
        built = build_pipeline(Recipe("x", name, {}), own, 1)[-1]
        assert type(built).__name__ in CLASSES[name][0].split(", ")


WRONG = {
    "metric": (
        lambda c: c["gate"].update(floor={"logloss": 0.5}),
        f"gate.floor: there is no metric 'logloss' that can have a limit; did you mean 'log_loss'? "
        f"There are {', '.join((*LOWER_IS_BETTER, *HIGHER_IS_BETTER))}",
    ),
    "metric of another kind": (
        lambda c: c["gate"].update(floor={"rmse": 0.5}),
        "gate.floor: binary targets have no rmse; they have roc_auc, log_loss, accuracy, average_precision, brier, calibration_error",
    ),
    "estimator": (
        lambda c: c["training"]["candidates"]["trees"].update(estimator="xgbost"),
        "'logistic_regression' or 'ridge' (the value is 'xgbost'); did you mean 'xgboost'?",
    ),
    "expectation": (
        lambda c: c.update(expectations=[{"type": "expect_column_value_to_be_between"}]),
        "did you mean 'expect_column_values_to_be_between'? docs/names.md lists all",
    ),
    "expectation for databases": (
        lambda c: c.update(expectations=[{"type": "expect_column_values_to_match_like_pattern"}]),
        "for tables of a database only, and checks a partition as a data frame; use expect_column_values_to_match_regex",
    ),
    "parameter": (
        lambda c: c["training"]["candidates"]["trees"].update(params={"max_dept": 3}),
        "xgboost has no parameter 'max_dept' here; did you mean 'max_depth'? It takes n_estimators, learning_rate, max_depth",
    ),
    "key without a similar one": (
        lambda c: c["promotion"].update(zzz=1) if "promotion" in c else c.update(promotion={"zzz": 1}),
        "promotion.zzz: unknown key; remove it, or use one of shadow, canary, approval",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_unknown_name_is_an_error_with_the_nearest_one_and_the_list(tiny: Any, case: str) -> None:
    edit, message = WRONG[case]
    edit_config(tiny, edit)
    with pytest.raises(ConfigError) as error:
        load_model("tiny")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("kind", "kwargs", "message"),
    [
        ("values_to_be_between", {"min_value": 5, "max_value": 1}, "kwargs.min_value: 5 is above max_value (1), so no"),
        ("values_to_be_in_set", {"value_set": []}, "kwargs.value_set: is empty, so no value passes"),
        ("values_to_match_regex", {"regex": "("}, "kwargs.regex: '(' is not a regular expression"),
        ("values_to_match_regex_list", {"regex_list": ["a", "["]}, "kwargs.regex: '[' is not a regular expression"),
        ("values_to_match_regex", {"regx": "a"}, "did you mean 'regex'? It takes column, mostly"),
    ],
)
def test_arguments_that_no_row_can_satisfy_are_found_without_data(
    kind: str, kwargs: dict[str, Any], message: str
) -> None:
    config = load_model("electricity", ROOT / "configs").config
    wrong = Expectation(type=f"expect_column_{kind}", columns=("period",), kwargs=kwargs)
    with pytest.raises(ConfigError) as error:
        check_arguments(config.model_copy(update={"expectations": (wrong,)}))
    assert message in str(error.value)
