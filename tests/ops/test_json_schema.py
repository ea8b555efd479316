"""The JSON Schema of model.yaml accepts the files that pydantic accepts, and refuses wrong names and types as pydantic does."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from configs.load import parse_config
from configs.schema import ModelConfig
from configs.settings import ROOT
from ops.json_schema import COMMENT, FILE, model_schema
from ops.rendering import render
from tests.conftest import MODEL_YAML

FILES = {path.parent.name: path.read_text() for path in sorted((ROOT / "configs").glob("*/model.yaml"))}
TEXTS = FILES | {"a template": render("model.yaml", "fresh"), "the tests' model": MODEL_YAML}


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    schema = json.loads(FILE.read_text())
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def problems(validator: Draft7Validator, content: Any) -> list[str]:
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(content)]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_every_model_is_valid_under_the_schema(validator: Draft7Validator, text: str, tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(text)
    parse_config(tmp_path / "model.yaml")
    assert problems(validator, yaml.safe_load(text)) == []


@pytest.mark.parametrize("text", [text for name, text in TEXTS.items() if name != "the tests' model"])
def test_every_file_names_the_schema_for_editors(text: str) -> None:
    line = text.partition("\n")[0]
    assert line == COMMENT
    assert (ROOT / "configs" / "flights" / line.partition("$schema=")[2]).resolve() == FILE


def test_all_spellings_of_a_duration_are_valid(validator: Draft7Validator) -> None:
    content = yaml.safe_load(FILES["electricity"])
    for text in ("90min", "6h", "14D", "2W", "2 W", "P14D"):
        content["target"]["delay"] = text
        ModelConfig.model_validate(content)
        assert problems(validator, content) == []


def test_classes_may_be_whole_numbers(validator: Draft7Validator) -> None:
    content = yaml.safe_load(FILES["electricity"])
    content["target"] |= {"kind": "multiclass", "classes": [0, 1, "two"]}
    ModelConfig.model_validate(content)
    assert problems(validator, content) == []


def expectation(**entry: Any) -> Callable[[dict[str, Any]], None]:
    return lambda c: c.update(expectations=[entry])


def candidate(**entry: Any) -> Callable[[dict[str, Any]], None]:
    return lambda c: c["training"].update(candidates={"one": entry})


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "unknown key": lambda c: c.update(expectation=[]),
    "unknown key in a section": lambda c: c["gate"].update(flor={}),
    "unknown key in a table": lambda c: c["source"]["file"].update(pth="x"),
    "missing key": lambda c: c.pop("target"),
    "missing key in a section": lambda c: c["training"]["window"].pop("holdout"),
    "unknown estimator": candidate(estimator="lightgbm"),
    "parameter of another estimator": candidate(estimator="ridge", params={"max_depth": 3}),
    "unknown parameter in a search": candidate(estimator="xgboost", search={"space": {"max_dept": [1, 2]}}),
    "unknown metric": lambda c: c["gate"].update(floor={"logloss": 0.5}),
    "metric without a direction": lambda c: c["gate"].update(floor={"base_rate": 0.5}),
    "unknown expectation": expectation(type="expect_column_values_to_be_betwen"),
    "expectation for databases": expectation(type="expect_column_values_to_match_like_pattern"),
    "unknown severity": expectation(type="expect_table_row_count_to_equal", kwargs={"value": 1}, severity="fatal"),
    "no duration": lambda c: c["target"].update(delay="soon"),
    "text for a number": lambda c: c["gate"].update(min_rows="many"),
    "number below its least": lambda c: c["training"].update(splits=0),
    "text for a list": lambda c: c["features"].update(numeric="period"),
    "number for text": lambda c: c.update(description=7),
    "unknown period": lambda c: c["partition"].update(every="Q"),
    "unknown statistic": lambda c: c["monitoring"].update(numeric={"method": "kolmogorov", "threshold": 0.1}),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused_by_the_schema_and_by_pydantic(validator: Draft7Validator, case: str) -> None:
    content = yaml.safe_load(FILES["electricity"])
    WRONG[case](content)
    assert problems(validator, content)
    with pytest.raises(ValueError, match=r"validation error"):
        ModelConfig.model_validate(content)


@pytest.mark.parametrize(
    "kwargs", [{"column": "period", "min_val": 0, "max_value": 1}, {"column": "period", "min_value": 0, "colum": 1}]
)
def test_an_unknown_argument_of_an_expectation_is_refused(
    validator: Draft7Validator, kwargs: dict[str, Any], tmp_path: Path
) -> None:
    content = yaml.safe_load(FILES["electricity"])
    content["expectations"] = [{"type": "expect_column_values_to_be_between", "kwargs": kwargs}]
    assert any("kwargs" in problem for problem in problems(validator, content))


def test_an_argument_that_an_expectation_needs_is_required(validator: Draft7Validator) -> None:
    content = yaml.safe_load(FILES["electricity"])
    content["expectations"] = [{"type": "expect_column_values_to_be_in_set", "columns": ["period"]}]
    assert any("kwargs" in problem for problem in problems(validator, content))


def test_every_key_has_a_description_that_editors_show() -> None:
    schema = model_schema()
    sections = {"the file": schema, **schema["$defs"]}
    described = [
        (name, key)
        for name, section in sections.items()
        for key, value in section["properties"].items()
        if not value.get("description") and "$ref" not in json.dumps(value)
    ]
    assert described == []
    assert [name for name, section in sections.items() if not section["description"]] == []


def test_a_file_that_takes_keys_from_another_one_need_not_have_them() -> None:
    class Inheriting(ModelConfig):
        extends: str | None = None

    validator, content = Draft7Validator(model_schema(Inheriting)), yaml.safe_load(FILES["electricity"])
    assert problems(validator, content) == []
    for path in (("gate",), ("training", "window", "holdout"), ("partition", "every")):
        part = copy.deepcopy(content)
        inner = part
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        assert problems(validator, part), path
        assert problems(validator, {**part, "extends": "other"}) == [], path
    wrong = {"extends": "other", "name": "x", "gate": {"flor": 1}}
    assert problems(validator, wrong), "unknown keys stay errors"
