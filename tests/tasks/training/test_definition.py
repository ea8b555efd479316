"""Two versions with the same definition differ by their rows only. Then the newer one is a refresh, else a change."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from configs.load import load_model
from configs.schema import ModelConfig
from tasks.contracts import Recipe, Stage, Version, Window
from tasks.training import definition
from tasks.training.definition import UNKNOWN, change_key, define, differences

MOMENT = datetime(2013, 4, 1, tzinfo=UTC)
WINDOW = Window("flights", ("2013-01", "2013-02"), (), MOMENT, MOMENT, MOMENT, MOMENT)
SQL = {"source": "SELECT 1"}


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return load_model("flights").config


def changed(config: ModelConfig, **sections: Any) -> ModelConfig:
    """Return the config with other values in its sections."""
    content = config.model_dump(mode="json")
    for name, value in sections.items():
        content[name] = value if isinstance(value, list) else content[name] | value
    return ModelConfig.model_validate(content)


def recipe(config: ModelConfig, name: str = "xgboost", calibration: str = "none", **tuned: Any) -> Recipe:
    declared = config.training.candidates[name]
    return Recipe(name, declared.estimator, dict(declared.params) | tuned, calibration)  # type: ignore[arg-type]


def champion(valid: dict[str, str]) -> tuple[Version, Any]:
    """Return a version, and resources whose lake has these contents and whose lineage has those of the champion's training."""
    version = Version("flights", "1", "run", "", MOMENT, MOMENT, MOMENT, Recipe("x", "xgboost", {}), (0.2,), 10)
    lineage = {"contents": {Stage.VALID: {"2013-01": "a", "2013-02": "b"}}}
    registry = SimpleNamespace(document=lambda run, name: lineage)
    lake = SimpleNamespace(done=lambda stage, key: SimpleNamespace(digest=valid[key]))
    return version, SimpleNamespace(registry=registry, lake=lake)


def different(
    mine: ModelConfig, theirs: ModelConfig, mine_recipe: Recipe, their_recipe: Recipe, **options: Any
) -> tuple:
    version, res = champion(options.get("valid", {"2013-01": "a", "2013-02": "b"}))
    a = define(mine_recipe, mine, options.get("sql", SQL))
    return differences(a, define(their_recipe, theirs, SQL), version, WINDOW, res)


def test_newer_rows_and_tuned_parameters_are_no_difference(config):
    space = {"trials": 5, "space": {"max_depth": {"low": 2, "high": 8}}}
    candidates = {"xgboost": config.training.candidates["xgboost"].model_dump(mode="json") | {"search": space}}
    searched = changed(config, training={"candidates": candidates})
    assert different(searched, searched, recipe(searched, max_depth=7), recipe(searched, max_depth=3)) == ()


def test_what_does_not_change_the_model_is_no_difference(config):
    other = changed(config, retraining={"cool_down": "90D"}, gate={"floor": {"log_loss": 0.6}})
    more = {"xgboost": config.training.candidates["xgboost"].model_dump(), "line": {"estimator": "logistic_regression"}}
    other = changed(other, training={"candidates": more, "splits": 2})
    assert different(other, config, recipe(other), recipe(config)) == ()


def test_every_part_is_named(config):
    plain = recipe(config)
    features = changed(config, features={"retired": ["temp"]})
    assert different(features, config, plain, plain) == ("features",)
    order = changed(config, features={"numeric": list(config.features.numeric)[::-1]})
    assert different(order, config, plain, plain) == (), "the order of the features is no difference"
    window = changed(config, training={"window": config.training.window.model_dump() | {"partitions": 3}})
    assert different(window, config, plain, plain) == ("window",)
    target = changed(config, target={"delay": "2D"})
    assert different(target, config, plain, plain) == ("target",)
    assert different(config, config, plain, plain, sql={"source": "SELECT 2"}) == ("SQL",)
    deeper = config.training.candidates["xgboost"].model_dump(mode="json")
    deeper["params"]["max_depth"] = 9
    parameters = changed(config, training={"candidates": {"xgboost": deeper}})
    assert different(parameters, config, recipe(parameters), plain) == ("parameters",)
    linear = changed(config, training={"candidates": {"line": {"estimator": "logistic_regression"}}})
    assert different(linear, config, recipe(linear, "line"), plain) == ("estimator", "parameters")


def test_a_calibration_is_a_change_and_none_is_not(config):
    plain, calibrated = recipe(config), recipe(config, calibration="sigmoid")
    assert different(config, config, calibrated, plain) == ("calibration",)
    assert different(config, config, plain, calibrated) == ()
    assert different(config, config, recipe(config, calibration="isotonic"), calibrated) == ("calibration",)


def test_expectations_are_a_change_only_if_other_rows_pass_them(config):
    fewer, plain = changed(config, expectations=[]), recipe(config)
    assert different(fewer, config, plain, plain) == ()
    assert different(fewer, config, plain, plain, valid={"2013-01": "a", "2013-02": "c"}) == ("expectations",)


def test_a_champion_without_a_record_makes_every_training_a_change(config):
    version, res = champion({})
    assert differences(define(recipe(config), config, SQL), None, version, WINDOW, res) == (UNKNOWN,)


def test_the_parts_with_which_the_champion_can_be_fitted_again_are_parts_of_a_definition(config):
    assert set(definition.FITTED) < set(define(recipe(config), config, SQL))


def test_comments_spaces_and_limits_of_time_are_no_difference(config):
    plain = recipe(config)
    assert different(config, config, plain, plain, sql={"source": "SELECT -- all\n   1"}) == ()
    space = {"trials": 5, "space": {"max_depth": {"low": 2, "high": 8}}}
    own = config.training.candidates["xgboost"].model_dump(mode="json")
    slow, fast = (
        changed(config, training={"candidates": {"xgboost": own | {"search": space | {"time_limit": limit}}}})
        for limit in ("1h", "2h")
    )
    assert different(slow, fast, recipe(slow), recipe(fast)) == ()


def test_another_file_is_a_change_only_if_its_rows_are_others(config):
    tables = config.source.model_dump(mode="json", exclude_defaults=True)["tables"]
    other = tables | {"flights": tables["flights"] | {"path": "data/other/flights-%Y-%m.parquet"}}
    content = config.model_dump(mode="json") | {"source": {"lookback": "30D", "tables": other}}
    moved, plain = ModelConfig.model_validate(content), recipe(config)
    assert different(moved, config, plain, plain) == (), "the files were moved, and have the same rows"
    assert different(moved, config, plain, plain, valid={"2013-01": "a", "2013-02": "c"}) == ("source",)


def test_a_declared_candidate_equal_to_the_linear_baseline_is_no_difference(config):
    linear = changed(config, training={"candidates": {"line": {"estimator": "logistic_regression"}}})
    baseline = Recipe("baseline: linear", "logistic_regression", {})
    assert different(linear, config, recipe(linear, "line"), baseline) == ()


def test_a_change_has_one_key_and_other_changes_have_others(config):
    plain, calibrated = define(recipe(config), config, SQL), define(recipe(config, calibration="sigmoid"), config, SQL)
    other, both = (define(recipe(config, calibration=c), config, {"source": "SELECT 2"}) for c in ("none", "sigmoid"))
    key = change_key(("SQL",), other, plain)
    assert key == change_key(("SQL", "calibration"), both, plain), "a calibration may come and go with the data"
    assert key != change_key(("calibration",), calibrated, plain)
    assert change_key((UNKNOWN,), plain, None) != change_key((UNKNOWN,), other, None), "recipes are not pooled"
    assert key != change_key(("SQL",), other, plain, "as it was judged")
