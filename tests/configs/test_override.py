"""Who may start a run can give an override. It can replace what a variant or a replay needs, but name no file, SQL or code."""

import pytest
import yaml

from configs.errors import ConfigError
from configs.load import load_model
from configs.override import ALLOWED
from configs.schema import ModelConfig

pytestmark = pytest.mark.usefixtures("tiny")
SHELL = {"row_condition": "@pd.io.common.os.system('touch OPENED') == 0", "condition_parser": "pandas"}


def expectation(**kwargs) -> dict:
    return {"expectations": [{"type": "expect_column_values_to_be_between", "kwargs": {"column": "weight", **kwargs}}]}


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ({"source": {"sql": "/etc/passwd"}}, "source.sql"),
        ({"source": {"labels": "../../../etc/passwd"}}, "source.labels"),
        ({"source": {"tables": {"parcels": {"path": "/etc/passwd"}}}}, "source.tables.parcels.path"),
        ({"source": {"tables": {"parcels": {"known_at": "(FROM read_text('/etc/passwd'))"}}}}, "parcels.known_at"),
        ({"source": {"file": {"path": "/etc/passwd"}}}, "source.file.path"),
        ({"source": {}}, "source"),
        ({"source": None}, "source"),
        ({"key": '"; FROM read_text'}, "key"),
        ({"time": "late"}, "time"),
        ({"groups": ["late"]}, "groups"),
        ({"name": "other"}, "name"),
        ({"description": "x"}, "description"),
        ({"target": {"delay": "1D", "column": "arrived"}}, "target.column"),
        ({"target": "late"}, "target"),
        ({"features": {"categorical": ["late"]}}, "features.categorical"),
        ({"gaet": {}}, "gaet"),
        (expectation(min_value=0, **SHELL), "expectations[0].kwargs.row_condition"),
        ({"expectations": [{"type": "x", "kwargs": {"json_schema": {"$ref": "file:///etc/passwd"}}}]}, "json_schema"),
    ],
)
def test_a_key_that_could_read_a_file_or_run_code_is_refused_with_the_allowed_keys(override, key):
    with pytest.raises(ConfigError) as caught:
        load_model("tiny", override=override)
    message = str(caught.value)
    assert message.startswith("override: ")
    assert f"{key}: a backfill or replay cannot replace this key" in message
    allowed = ("column", "mostly") if "kwargs" in message.split(": ")[1] else ALLOWED
    assert all(name in message for name in allowed)


def test_the_most_similar_allowed_key_is_named():
    with pytest.raises(ConfigError, match="did you mean 'gate'"):
        load_model("tiny", override={"gaet": {}})


@pytest.mark.parametrize(
    "override",
    [
        {"partition": {"every": "W"}},
        {"expectations": []},
        expectation(min_value=-9, max_value=9, strict_min=True, mostly=0.5),
        {"target": {"delay": "2D", "max_bad_share": 0.5}},
        {"features": {"retired": ["weight"]}},
        {"training": {"window": {"min_partitions": 2}}, "gate": {"floor": {"log_loss": 1}}, "replay": {"series": []}},
        {"monitoring": {"alpha": 0.01}, "retraining": {"cool_down": "9D"}, "promotion": {"approval": True}},
    ],
)
def test_what_a_variant_or_a_replay_needs_is_replaced(override):
    key, value = next(iter(override.items()))
    config = load_model("tiny", override=override).config
    assert config != load_model("tiny").config
    for name, new in value.items() if isinstance(value, dict) else ():
        assert name in type(getattr(config, key)).model_fields, (key, name, new)


def test_an_expectation_of_model_yaml_is_allowed_whatever_its_arguments(tiny):
    """A variant repeats the expectations that it does not change. Who writes model.yaml also writes SQL."""
    path = tiny / "configs" / "tiny" / "model.yaml"
    own = expectation(min_value=0, row_condition="distance > 1", condition_parser="pandas")["expectations"]
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"expectations": own}))
    rows = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}}
    config = load_model("tiny", override={"expectations": [*own, rows]}).config
    assert [e.type for e in config.expectations] == [own[0]["type"], rows["type"]]


def test_every_key_of_model_yaml_is_either_allowed_or_refused_on_purpose():
    """A new key of model.yaml is refused until somebody has decided that it is harmless in an override."""
    allowed = {name.partition(".")[0] for name in ALLOWED}
    refused = {
        "extends",
        "for_each",
        "name",
        "description",
        "source",
        "key",
        "time",
        "dictionary",
        "groups",
        "personal",
        "retention",
        "contract",
        "publish",
        "champion",
    }
    assert set(ModelConfig.model_fields) == allowed | refused
    assert not allowed & refused
