"""A wrong config is refused when it is loaded. The message names the file, the key, the value and what to do."""

import pytest
import yaml

from configs.errors import ConfigError, UnknownModel
from configs.load import load_model, model_names
from configs.settings import Settings

pytestmark = pytest.mark.usefixtures("tiny")


def edit_config(folder, edit) -> None:
    """Apply `edit` to the tiny model's YAML."""
    path = folder / "configs" / "tiny" / "model.yaml"
    content = yaml.safe_load(path.read_text())
    edit(content)
    path.write_text(yaml.safe_dump(content))


def test_a_valid_folder_loads_with_its_sql(tiny):
    model = load_model("tiny")
    assert model.config.features.all == ("weight", "distance", "city")
    assert "$start" in model.source_sql
    assert model_names() == ["tiny"]


def test_a_config_cannot_be_changed(tiny):
    with pytest.raises(ValueError, match="frozen"):
        load_model("tiny").config.name = "other"


def trees(config) -> dict:
    return config["training"]["candidates"]["trees"]


def search(config) -> dict:
    return trees(config).setdefault("search", {"trials": 2, "space": {"subsample": [0.5, 1.0]}})


def expect(kind: str, **kwargs):
    """Return an edit that replaces the expectations by one."""
    return lambda c: c.update(expectations=[{"type": kind, "kwargs": kwargs}])


@pytest.mark.parametrize(
    "check",
    [
        {
            "type": "expect_column_values_to_be_in_set",
            "columns": ["weight", "distance"],
            "kwargs": {"value_set": [0, 1.5, True, None]},
        },
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "city", "value_set": ["1", "NO", None]}},
        {
            "type": "expect_column_value_lengths_to_be_between",
            "kwargs": {"column": "city", "min_value": 1, "max_value": 9},
        },
        {"type": "expect_column_unique_value_count_to_be_between", "kwargs": {"column": "city", "min_value": 1}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "sent", "min_value": "2024-01-01"}},
        {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 150}},
    ],
)
def test_values_that_can_be_in_their_column_are_accepted(tiny, check):
    edit_config(tiny, lambda c: c.update(expectations=[check]))
    assert load_model("tiny").config.expectations[0].type == check["type"]


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        (lambda c: c["gate"].update(flor=1), ["gate.flor", "unknown key", "'floor'"]),
        (lambda c: c["source"]["tables"]["parcels"].update(pth="x"), ["source.tables.parcels.pth", "'path'"]),
        (lambda c: c.pop("key"), ["key: is missing"]),
        (lambda c: c["target"].update(delay="soon"), ["target.delay", "'soon'", "14D"]),
        (lambda c: c["partition"].update(timezone="Mars/Base"), ["partition.timezone", "Mars/Base", "IANA"]),
        (lambda c: c["partition"].update(every="Q"), ["partition.every", "'M'"]),
        (lambda c: c["features"].update(numeric=["weight", "weight"]), ["features", "named twice: weight"]),
        (lambda c: c["features"].update(numeric=["late"]), ["late", "different columns"]),
        (lambda c: c.update(key="request_id"), ["request_id", "reserved for predictions", "source.sql"]),
        (
            lambda c: c["features"].update(numeric=["weight", "reasons"]),
            ["reasons", "reserved for", "quarantined rows"],
        ),
        (lambda c: c["target"].update(column="known_at"), ["known_at", "reserved for", "labels"]),
        (lambda c: c["features"].update(numeric=["weight", "Prediction"]), ["Prediction", "reserved for predictions"]),
        (lambda c: c["features"].update(numeric=["weight", "Weight"]), ["Weight, weight", "also in lower case"]),
        (lambda c: c.update(key="sent"), ["sent", "different columns", "return the time a second time in source.sql"]),
        (lambda c: c["features"].update(retired=["wight"]), ["features", "retired: wight is not a feature"]),
        (
            lambda c: c["features"].update(retired=["weight", "distance", "city"]),
            ["features", "needs at least one feature"],
        ),
        (lambda c: c.update(dictionary={"wight": "kg"}), ["dictionary: wight is not a column"]),
        (
            lambda c: c["training"]["candidates"]["trees"].update(estimator="pickle"),
            ["candidates.trees.estimator", "xgboost"],
        ),
        (
            lambda c: search(c)["space"].update(max_dept=[1, 2]),
            ["candidates.trees", "search.space", "did you mean 'max_depth'"],
        ),
        (lambda c: search(c)["space"].update(gamma={"low": 3, "high": 1}), ["gamma", "low (3) must be below high (1)"]),
        (
            lambda c: search(c)["space"].update(gamma={"low": 0, "high": 1, "log": True}),
            ["gamma", "low must be above 0"],
        ),
        (
            lambda c: trees(c)["params"].update(callbacks="x"),
            ["candidates.trees", "'callbacks'", "it takes n_estimators"],
        ),
        (
            lambda c: trees(c).update(estimator="ridge", params={}),
            ["candidates.trees", "ridge is not for binary targets"],
        ),
        (lambda c: c["gate"].update(floor={"loss": 1}), ["gate.floor", "loss"]),
        (lambda c: c["gate"].update(floor={"r2": 1}), ["gate.floor", "binary targets have no r2"]),
        (lambda c: c["gate"]["gain"].update(test="non_inferiority"), ["gate.gain", "needs a margin above 0"]),
        (
            lambda c: c["gate"].update(segments={"columns": ["weight"], "max_loss": 0}),
            ["segments", "'weight'", "groups"],
        ),
        (lambda c: c["gate"].update(fairness=[{"column": "sex", "at_most": 0.1}]), ["fairness", "'sex'", "groups"]),
        (lambda c: c["target"].update(kind="multiclass"), ["target", "needs `classes`"]),
        (lambda c: c["target"].update(loss="squared_error"), ["target", "must be log_loss"]),
        (
            lambda c: (c["gate"].update(gain={"block": "D"}), c.update(promotion={"shadow": {"partitions": 9}})),
            ["promotion.shadow", "at most 9 blocks", "min_blocks is 10"],
        ),
        (lambda c: c.update(groups=["city"]), ["city", "different columns"]),
        (lambda c: c["training"]["window"].update(min_rows="many"), ["training.window.min_rows", "'many'"]),
        (lambda c: c["expectations"][0]["kwargs"].update(column="wieght"), ["expectations", "wieght", "not a column"]),
        (
            lambda c: c["expectations"][0].update(type="expect_column_values_to_be_betwen"),
            ["expectations.0.type", "did you mean 'expect_column_values_to_be_between'?"],
        ),
        (
            expect("expect_column_values_to_be_in_set", column="city", value_set=["Bonn", False]),
            ["False can never be in city", "quotes"],
        ),
        (
            expect("expect_column_values_to_be_in_set", column="city", value_set=[1, 2]),
            ["1 can never be in city", "text"],
        ),
        (expect("expect_column_values_to_not_be_in_set", column="parcel", value_set=[7]), ["7 can never be in parcel"]),
        (
            expect("expect_column_values_to_be_in_set", column="weight", value_set=[0, "1"]),
            ["'1' can never be in weight", "numbers"],
        ),
        (
            expect("expect_column_distinct_values_to_contain_set", column="weight", value_set=["1"]),
            ["'1' can never be in weight"],
        ),
        (
            expect("expect_column_values_to_be_in_set", column="sent", value_set=[20240301]),
            ["20240301 can never be in sent"],
        ),
        (
            expect(
                "expect_column_pair_values_to_be_in_set", column_A="weight", column_B="city", value_pairs_set=[[1, 2]]
            ),
            ["value_pairs_set of column_B: 2 can never be in city"],
        ),
        (
            expect("expect_column_values_to_be_between", column="city", min_value=1),
            ["min_value: 1 can never be in city"],
        ),
        (
            expect("expect_column_values_to_be_between", column="weight", max_value="9"),
            ["'9' can never be in weight", "without quotes"],
        ),
        (
            expect("expect_multicolumn_sum_to_equal", column_list=["weight", "wieght"], sum_total=1),
            ["wieght", "not a column"],
        ),
        (lambda c: c["source"].update(sql="no.sql"), ["source.sql", "'no.sql'", "does not exist"]),
        (lambda c: c.update(name="other"), ["name", "'other'", "'tiny'"]),
        (lambda c: c["source"]["tables"]["parcels"].pop("outcomes_known_at"), ["outcomes_known_at", "go together"]),
        (lambda c: c["partition"].update(every="H", timezone="Europe/Berlin"), ["hourly", "UTC"]),
    ],
)
def test_the_message_of_each_mistake_names_key_and_remedy(tiny, edit, parts):
    edit_config(tiny, edit)
    with pytest.raises(ConfigError) as caught:
        load_model("tiny")
    for part in ["model.yaml", *parts]:
        assert part in str(caught.value)


def test_several_mistakes_are_reported_together(tiny):
    edit_config(tiny, lambda c: (c["gate"].update(flor=1), c.pop("key")))
    with pytest.raises(ConfigError) as caught:
        load_model("tiny")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("text", ["a: [1", "- 1", "", "\x00"])
def test_a_file_without_a_mapping_is_refused(tiny, text):
    (tiny / "configs" / "tiny" / "model.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"model\.yaml"):
        load_model("tiny")


def test_an_unknown_model_is_refused_with_the_most_similar_name(tiny):
    with pytest.raises(UnknownModel, match="did you mean 'tiny'"):
        load_model("tinny")


def test_links_use_the_servers_of_this_machine_unless_a_link_setting_is_given():
    assert Settings(evidently_port=8123).evidently_ui == "http://127.0.0.1:8123"
    settings = Settings(prefect_link="https://prefect.example/", pages_link="https://pages.example")
    assert (settings.prefect_ui, settings.pages_ui) == ("https://prefect.example", "https://pages.example")
    assert settings.prefect_url == "http://127.0.0.1:4200", "API requests do not use the link"


def test_an_unused_key_does_not_change_the_digest_of_features(tiny):
    """Records contain a digest of the config. A new optional key must not make them stale."""
    features = load_model("tiny").config.features
    assert "retired" not in features.model_dump()
    retired = features.model_copy(update={"retired": ("weight",)})
    assert retired.model_dump()["retired"] == ("weight",)
    assert retired.model_dump(exclude={"retired"}) == features.model_dump()
