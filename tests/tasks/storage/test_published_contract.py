"""The recorded versions of a published contract, in a folder and in a bucket."""

from datetime import UTC, datetime

import pytest
import yaml

from configs.schema import ModelConfig
from tasks.contracts import Record, Stage
from tasks.errors import UnreadableContract
from tasks.storage.lake import Lake
from tasks.storage.published_contract import (
    FILE,
    KEY,
    published_contract,
    read_history,
    updated_history,
    version_of,
    write_history,
)
from tests.conftest import MODEL_YAML

NOW, LATER = datetime(2024, 3, 5, tzinfo=UTC), datetime(2024, 4, 5, tzinfo=UTC)


def config(version: int = 1, **changes) -> ModelConfig:
    content = yaml.safe_load(MODEL_YAML) | {"contract": {"owner": "logistics", "version": version}} | changes
    return ModelConfig.model_validate(content)


def record(**data) -> Record:
    return Record("tiny", Stage.VALID, "2024-03-01", NOW, 1, "done", 1, "", {}, data)


def test_the_history_is_read_back_as_it_was_written(lake: Lake):
    assert read_history(lake) == ()
    history = updated_history((), config(), "2024-03-01", NOW)
    history = updated_history(history, config(2, personal=["city"]), "2024-03-09", LATER)
    write_history(lake, history)
    assert read_history(lake) == history
    assert [(v.version, v.first, v.recorded_at, v.owner) for v in history] == [
        (1, "2024-03-01", NOW, "logistics"),
        (2, "2024-03-09", LATER, "logistics"),
    ]


def test_a_change_under_the_same_version_is_added_to_it(lake: Lake):
    first = updated_history((), config(), "2024-03-01", NOW)
    features = {"numeric": ["weight", "distance", "volume"], "categorical": ["city"]}
    (only,) = updated_history(first, config(features=features), "2024-03-09", LATER)
    assert (only.version, only.first, only.recorded_at) == (1, "2024-03-01", NOW)
    assert only.contract.columns["volume"].type == "double"
    assert updated_history(first, config(), "2024-03-09", LATER) == first


def test_a_damaged_history_is_an_error_and_not_a_new_contract(lake: Lake):
    write_history(lake, updated_history((), config(), "2024-03-01", NOW))
    (lake.root / FILE).write_text('{"versions": [{"version": 1}]}')
    with pytest.raises(UnreadableContract, match=r"contract.json cannot be read.*Restore it from a backup"):
        read_history(lake)


def test_a_record_without_a_version_has_the_first_one():
    history = updated_history((), config(3), "2024-03-01", NOW)
    history = updated_history(history, config(4), "2024-03-09", LATER)
    assert version_of(record(), history, config(4)) == 3
    assert version_of(record(**{KEY: 4}), history, config(4)) == 4
    assert version_of(record(), (), config(2)) == 2, "a lake without a recorded contract has the present one"


def test_columns_have_role_type_and_whether_they_may_be_null():
    rules = [{"type": "expect_column_values_to_not_be_null", "columns": ["weight"]}]
    rules += [{"type": "expect_column_values_to_not_be_null", "columns": ["city"], "kwargs": {"mostly": 0.5}}]
    columns = published_contract(config(expectations=rules, groups=["owner"], personal=["owner"])).columns
    assert {name: (c.role, c.type, c.nullable, c.personal) for name, c in columns.items()} == {
        "parcel": ("key", "string", False, False),
        "sent": ("time", "timestamp[us, tz=UTC]", False, False),
        "weight": ("feature", "double", False, False),
        "distance": ("feature", "double", True, False),
        "city": ("feature", "string", True, False),
        "owner": ("group", "string", True, True),
        "late": ("target", "double", True, False),
    }
