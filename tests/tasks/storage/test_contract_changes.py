"""Which changes of model.yaml break the published contract, and which do not."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from configs.schema import ModelConfig
from tasks.contracts.published import Promise
from tasks.storage.contract_changes import breaking_changes, implies
from tasks.storage.published_contract import published_contract
from tests.conftest import MODEL_YAML

NOT_NULL = {"type": "expect_column_values_to_not_be_null", "columns": ["distance"]}
IN_SET = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "city", "value_set": ["Bonn", "Kiel"]}}
WARNING = {
    "type": "expect_column_values_to_be_between",
    "severity": "warning",
    "kwargs": {"column": "distance", "min_value": 0},
}
MULTICLASS = {"column": "late", "kind": "multiclass", "classes": ["no", "yes", "lost"], "delay": "1D"}


def base() -> dict[str, Any]:
    """The tiny model with a group, a whole number, a personal column, and one expectation of each severity."""
    content = yaml.safe_load(MODEL_YAML)
    content["features"] = {"numeric": ["weight", "distance", "stops"], "categorical": ["city"], "whole": ["stops"]}
    content["groups"], content["personal"] = ["owner"], ["city"]
    content["dictionary"] = {"parcel": "number of the parcel", "weight": "kg"}
    content["expectations"] += [NOT_NULL, IN_SET, WARNING]
    return copy.deepcopy(content)


def parse(content: dict[str, Any]) -> ModelConfig:
    return ModelConfig.model_validate(content)


def expectation(at: int, **kwargs: Any) -> Callable[[dict[str, Any]], None]:
    """Change arguments of an expectation: 0 weight between, 1 nulls of city (info), 2 not null, 3 in set, 4 distance between."""
    return lambda c: c["expectations"][at].setdefault("kwargs", {}).update(kwargs)


def change(section: str, **keys: Any) -> Callable[[dict[str, Any]], None]:
    return lambda c: c[section].update(keys)


def numeric(*names: str) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        content["features"].update(numeric=list(names), whole=[n for n in names if n == "stops"])
        used = {"weight", "distance"} - {*names}
        content["expectations"] = [
            e
            for e in content["expectations"]
            if not used & {*e.get("columns", []), e.get("kwargs", {}).get("column", "")}
        ]
        content["dictionary"] = {k: v for k, v in content["dictionary"].items() if k not in used}

    return apply


BREAKING: dict[str, tuple[Callable[[dict[str, Any]], Any], list[str]]] = {
    "a column is removed": (numeric("weight", "stops"), ["column distance: feature, double -> removed"]),
    "a column is renamed": (
        numeric("weight", "km", "stops"),
        ["column distance: feature, double -> removed"],
    ),
    "a feature becomes a group": (
        lambda c: (c["features"].update(categorical=[]), c.update(groups=["owner", "city"])),
        ["column city, role: feature -> group"],
    ),
    "another column is the key": (
        lambda c: c.update(key="owner", groups=["parcel"], dictionary={}),
        [
            "column parcel, role: key -> group",
            "column owner, role: group -> key",
            "dictionary, meaning of the key: number of the parcel -> removed",
        ],
    ),
    "a number becomes text": (
        lambda c: c["features"].update(numeric=["weight", "distance"], categorical=["city", "stops"], whole=[]),
        ["column stops, type: double -> string"],
    ),
    "text becomes a number": (
        lambda c: (
            c["features"].update(numeric=["weight", "distance", "stops", "city"], categorical=[]),
            c["expectations"].pop(3),
            c.update(expectations=[*c["expectations"], IN_SET | {"kwargs": {"column": "city", "value_set": [1]}}]),
        ),
        [
            "column city, type: string -> double",
            "expectations: city: values to be in set (value_set Bonn or Kiel), critical -> "
            "city: values to be in set (value_set 1), critical",
        ],
    ),
    "a column becomes personal": (
        lambda c: c.update(personal=["city", "owner"]),
        ["personal: owner: not personal -> personal"],
    ),
    "a column is no longer personal": (
        lambda c: c.update(personal=[]),
        ["personal: city: personal -> not personal"],
    ),
    "the length of a partition": (change("partition", every="W"), ["partition.every: D -> W"]),
    "the time zone": (
        change("partition", timezone="Europe/Berlin"),
        ["partition.timezone: UTC -> Europe/Berlin"],
    ),
    "a later moment of completeness": (change("partition", grace="2D"), ["partition.grace: 1D -> 2D"]),
    "a longer label delay": (change("target", delay="36h"), ["target.delay: 1D -> 36h"]),
    "the target is renamed": (change("target", column="delayed"), ["column late: target, double -> removed"]),
    "another kind of target": (
        lambda c: (c["target"].update(kind="regression"), c.update(gate={"floor": {"rmse": 1}})),
        ["target.kind: binary -> regression"],
    ),
    "another meaning of the key": (
        change("dictionary", parcel="number of the shipment"),
        ["dictionary, meaning of the key: number of the parcel -> number of the shipment"],
    ),
    "nulls are allowed": (
        lambda c: c["expectations"].pop(2),
        ["expectations: distance: values to not be null, critical -> removed"],
    ),
    "some nulls are allowed": (
        expectation(2, mostly=0.9),
        [
            "expectations: distance: values to not be null, critical -> distance: values to not be null (mostly 0.9), critical"
        ],
    ),
    "a critical expectation is removed": (
        lambda c: c["expectations"].pop(0),
        ["expectations: weight: values to be between (min_value -50, max_value 50, mostly 0.9), critical -> removed"],
    ),
    "a warning is removed": (
        lambda c: c["expectations"].pop(4),
        ["expectations: distance: values to be between (min_value 0), warning -> removed"],
    ),
    "a critical expectation only reports": (
        lambda c: c["expectations"][3].update(severity="info"),
        ["expectations: city: values to be in set (value_set Bonn or Kiel), critical -> removed"],
    ),
    "a critical expectation becomes a warning": (
        lambda c: c["expectations"][3].update(severity="warning"),
        [
            "expectations: city: values to be in set (value_set Bonn or Kiel), critical -> "
            "city: values to be in set (value_set Bonn or Kiel), warning"
        ],
    ),
    "a wider bound": (
        expectation(0, max_value=60),
        [
            "expectations: weight: values to be between (min_value -50, max_value 50, mostly 0.9), critical -> "
            "weight: values to be between (min_value -50, max_value 60, mostly 0.9), critical"
        ],
    ),
    "one more value": (
        expectation(3, value_set=["Bonn", "Kiel", "Ulm"]),
        [
            "expectations: city: values to be in set (value_set Bonn or Kiel), critical -> "
            "city: values to be in set (value_set Bonn or Kiel or Ulm), critical"
        ],
    ),
}

SAFE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nothing": lambda _: None,
    "a new feature": numeric("weight", "distance", "stops", "volume"),
    "columns in another order": numeric("stops", "distance", "weight"),
    "a feature is retired": change("features", retired=["distance"]),
    "a whole number may be a fraction": change("features", whole=[]),
    "another description": lambda c: c.update(description="late?"),
    "another meaning of a feature": change("dictionary", weight="kilograms"),
    "other blanks in the meaning of the key": change("dictionary", parcel="number  of the\nparcel "),
    "another owner": lambda c: c.update(contract={"owner": "logistics"}),
    "a version ahead": lambda c: c.update(contract={"version": 7}),
    "an earlier moment of completeness": change("partition", grace="12h"),
    "a shorter label delay": change("target", delay="12h"),
    "other late rows": change("partition", late_rows="append"),
    "a new expectation": lambda c: c["expectations"].append(NOT_NULL | {"columns": ["weight"]}),
    "a stricter bound": expectation(0, min_value=-40),
    "one more bound": expectation(4, max_value=1000),
    "fewer values": expectation(3, value_set=["Kiel"]),
    "a higher share": expectation(0, mostly=0.95),
    "a warning becomes critical": lambda c: c["expectations"][4].update(severity="critical"),
    "what only reports is removed": lambda c: c["expectations"].pop(1),
    "another gate, monitoring and policy": lambda c: c.update(
        gate={"floor": {"log_loss": 0.5}}, monitoring={"block": "D"}, retraining={}
    ),
}


def changes(apply: Callable[[dict[str, Any]], Any]) -> list[str]:
    old, new = base(), base()
    apply(new)
    return [str(c) for c in breaking_changes(published_contract(parse(old)), published_contract(parse(new)))]


@pytest.mark.parametrize("case", BREAKING)
def test_a_breaking_change_names_key_old_and_new_value(case: str) -> None:
    apply, expected = BREAKING[case]
    assert changes(apply) == expected


@pytest.mark.parametrize("case", SAFE)
def test_what_promises_as_much_or_more_does_not_break(case: str) -> None:
    assert changes(SAFE[case]) == []


def test_the_classes_of_a_target_and_their_order_are_published() -> None:
    contents = [base() | {"target": MULTICLASS | {"classes": names}} for names in (["a", "b", "c"], ["b", "a", "c"])]
    for content in contents:
        content["gate"] = {"floor": {"log_loss": 1}}
    old, new = (published_contract(parse(content)) for content in contents)
    assert [str(c) for c in breaking_changes(old, new)] == ["target.classes: a, b, c -> b, a, c"]
    binary = published_contract(parse(base()))
    assert [c.key for c in breaking_changes(binary, old)] == ["column late, type", "target.kind", "target.classes"]


def promise(kind: str, **arguments: Any) -> Promise:
    return Promise(f"expect_{kind}", ("a",), "critical", arguments)


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        (promise("x_between", min_value=1), promise("x_between", min_value=1, max_value=2), True),
        (promise("x_between", min_value=1, max_value=2), promise("x_between", min_value=1), False),
        (promise("x_between", min_value="2013-01-01"), promise("x_between", min_value="2014-01-01"), True),
        (promise("x_between", min_value=1), promise("x_between", min_value="2014-01-01"), False),
        (promise("x_between", min_value=1, strict_min=True), promise("x_between", min_value=1), False),
        (promise("x_between", min_value=1), promise("x_between", min_value=1, strict_min=True), True),
        (
            promise("column_values_to_not_be_in_set", value_set=[1]),
            promise("column_values_to_not_be_in_set", value_set=[1, 2]),
            True,
        ),
        (
            promise("column_values_to_not_be_in_set", value_set=[1, 2]),
            promise("column_values_to_not_be_in_set", value_set=[1]),
            False,
        ),
        (promise("x_to_equal_set", value_set=[1, 2]), promise("x_to_equal_set", value_set=[2, 1]), True),
        (promise("x_to_equal_set", value_set=[1, 2]), promise("x_to_equal_set", value_set=[1]), False),
        (promise("x_regex", regex="a+"), promise("x_regex", regex="a*"), False),
        (promise("x_regex", regex="a+"), promise("x_regex", regex="a+", notes="letters"), True),
        (promise("x_between"), promise("x_unique"), False),
    ],
)
def test_a_check_implies_another_one_if_it_is_at_least_as_strict(old: Promise, new: Promise, kept: bool) -> None:
    assert implies(new, old) == kept
