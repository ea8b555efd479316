"""Files that extend others, and files that make many models: what they give, and which file and key an error names."""

from pathlib import Path

import pytest
import yaml

from configs.choices import select_models
from configs.errors import ConfigError, UnknownModel
from configs.load import load_model, model_names
from configs.schema import ModelConfig
from configs.settings import ROOT
from tasks.storage.files import digest_json
from tests.fleet import write_stores

SOURCE = "SELECT sale, sold_at, size, discount FROM sales WHERE sold_at >= $start AND sold_at < $end AND shop = $store"
LABELS = (
    "SELECT sale, amount, sold_at AS known_at FROM sales WHERE sold_at >= $start AND sold_at < $end AND shop = $store"
)


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    write_stores(tmp_path, ["a", "NYC 1", 7])
    return tmp_path


def edit(path: Path, **keys: object) -> None:
    """Replace keys at the top of a YAML file; None removes one."""
    content = yaml.safe_load(path.read_text()) | keys
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))


def use_sql(configs: Path, source: str = SOURCE, labels: str = LABELS, **table: object) -> None:
    edit(configs / "store" / "model.yaml", source={"tables": {"sales": {"path": "sales.parquet", **table}}})
    (configs / "store" / "source.sql").write_text(source)
    (configs / "store" / "labels.sql").write_text(labels)


def add_own(configs: Path, **keys: object) -> Path:
    path = configs / "store-a" / "model.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump({"extends": "../store/model.yaml"} | keys))
    return path


def test_each_value_is_a_model(configs: Path) -> None:
    assert model_names(configs) == ["store-7", "store-a", "store-nyc_1"]
    model = load_model("store-nyc_1", configs)
    assert model.config.name == model.name == "store-nyc_1"
    assert model.folder == configs / "store"
    assert model.config.target.column == "amount", "from base.yaml"
    assert """"store" = 'NYC 1'""" in model.source_sql
    assert """"store" = 'NYC 1'""" in model.labels_sql
    assert ModelConfig.model_validate(model.config.model_dump(mode="json")) == model.config, (
        "a recorded config is readable"
    )


def test_sql_has_the_value_as_a_literal(configs: Path) -> None:
    use_sql(configs, f"{SOURCE} AND '$store' <> '' -- $store")
    assert (
        load_model("store-nyc_1", configs).source_sql
        == SOURCE.replace("$store", "'NYC 1'") + " AND '$store' <> '' -- $store"
    )
    assert "shop = 7" in load_model("store-7", configs).labels_sql


def test_a_quote_in_a_value_stays_in_its_literal(tmp_path: Path) -> None:
    write_stores(tmp_path, ['"O\'Hare"'])
    use_sql(tmp_path)
    assert "shop = 'O''Hare'" in load_model("store-o_hare", tmp_path).source_sql


def test_sql_without_the_parameter_is_an_error(configs: Path) -> None:
    use_sql(configs, labels=LABELS.replace(" AND shop = $store", ""))
    with pytest.raises(
        ConfigError, match=r"store/labels\.sql: does not use \$store, so all models .* WHERE store = \$store"
    ):
        load_model("store-a", configs)


def test_a_path_has_the_value_and_then_sql_need_not(configs: Path) -> None:
    use_sql(
        configs,
        SOURCE.replace(" AND shop = $store", ""),
        LABELS.replace(" AND shop = $store", ""),
        path="sales/{store}.csv",
    )
    model = load_model("store-nyc_1", configs)
    assert model.config.source.tables["sales"].path == "sales/NYC 1.csv"
    edit(configs / "store" / "model.yaml", for_each={"column": "store", "values": ["*x"]})
    with pytest.raises(ConfigError, match=r"for_each: values: '\*x' cannot be in a path"):
        load_model("store-x", configs)


def test_a_flat_file_of_each_value_needs_no_column(configs: Path) -> None:
    edit(configs / "store" / "model.yaml", source={"file": {"path": "sales-{store}.parquet"}})
    model = load_model("store-a", configs)
    assert model.config.source.file
    assert model.config.source.file.path == "sales-a.parquet"
    assert '"store"' not in model.source_sql


def test_a_query_of_a_database_has_the_value(configs: Path) -> None:
    table = {"connection": "shop", "query": "SELECT * FROM sales WHERE store = $store", "path": None}
    use_sql(configs, SOURCE.replace(" AND shop = $store", ""), LABELS.replace(" AND shop = $store", ""), **table)
    path = configs / "store" / "model.yaml"
    edit(path, source={"tables": {"sales": {k: v for k, v in table.items() if v}}})
    assert load_model("store-7", configs).config.source.tables["sales"].query == "SELECT * FROM sales WHERE store = 7"


def test_a_folder_replaces_keys_of_one_model(configs: Path) -> None:
    add_own(configs, gate={"floor": {"squared_error": 5}})
    assert model_names(configs) == ["store-7", "store-a", "store-nyc_1"]
    own, other = load_model("store-a", configs), load_model("store-7", configs)
    assert (own.config.gate.floor, other.config.gate.floor) == ({"squared_error": 5}, {"squared_error": 100})
    assert own.config.gate.gain == other.config.gate.gain, "the rest of a section is that of base.yaml"
    assert own.folder == configs / "store-a"
    assert """"store" = 'a'""" in own.source_sql


def test_a_folder_of_one_model_uses_the_sql_beside_the_file_that_it_extends(configs: Path) -> None:
    use_sql(configs)
    add_own(configs)
    model = load_model("store-a", configs)
    assert "shop = 'a'" in model.source_sql
    assert model.file("source.sql") == configs / "store" / "source.sql"


def test_a_folder_that_does_not_extend_is_an_error(configs: Path) -> None:
    path = add_own(configs)
    edit(path, extends=None)
    with pytest.raises(
        ConfigError, match=r"store-a/model\.yaml: extends: is missing.*write extends: \.\./store/model\.yaml"
    ):
        load_model("store-a", configs)


def test_a_hyphen_needs_for_each(configs: Path) -> None:
    path = configs / "store-zoo" / "model.yaml"
    path.parent.mkdir()
    path.write_text("extends: ../store/model.yaml\n")
    with pytest.raises(ConfigError, match=r"store-zoo/model\.yaml: name: 'store-zoo' has a hyphen"):
        load_model("store-zoo", configs)


def test_a_name_that_differs_in_hyphen_and_underscore_only_is_an_error(configs: Path) -> None:
    (configs / "store_a").mkdir()
    (configs / "store_a" / "model.yaml").write_text("name: store_a\n")
    with pytest.raises(ConfigError, match=r"'store-a' and .*store_a/model\.yaml differ in - and _ only"):
        load_model("store-a", configs)


@pytest.mark.parametrize(
    ("for_each", "message"),
    [
        ({"column": "store", "values": []}, r"for_each\.values: Tuple should have at least 1 item"),
        ({"column": "store", "values": [True]}, r"for_each\.values\.0: a value is text or a whole number"),
        ({"column": "store", "values": [1.5]}, r"for_each\.values\.0: a value is text or a whole number"),
        ({"column": "store", "values": ["a", "A"]}, r"for_each: values: a and A give the same model name \(a\)"),
        ({"column": "store", "values": ["--"]}, r"for_each: values: '--' has no letter or digit"),
        ({"column": "store", "values": ["x" * 40]}, r"for_each: values: 'store-x+' is longer than 40 characters"),
        ({"column": "start", "values": ["a"]}, r"for_each: column: \$start is the range of a partition"),
        ({"column": "store", "value": ["a"]}, r"for_each\.value: unknown key; did you mean 'values'\?"),
        ({"column": "store", "values": ["a"], "spread": "13h"}, r"for_each: spread: 13h is longer than 12h"),
    ],
)
def test_an_error_of_for_each_names_file_and_key(configs: Path, for_each: dict, message: str) -> None:
    edit(configs / "store" / "model.yaml", for_each=for_each)
    assert model_names(configs) == ["store"], "loading it reports the error"
    with pytest.raises(ConfigError, match=rf"store/model\.yaml: {message}"):
        load_model("store", configs)


def test_the_file_itself_is_no_model(configs: Path) -> None:
    with pytest.raises(UnknownModel, match=r"for_each in .*store/model\.yaml makes store-a, store-nyc_1, store-7"):
        load_model("store", configs)
    with pytest.raises(UnknownModel, match=r"no model 'store-b': it is not of for_each\.values in .*store/model\.yaml"):
        load_model("store-b", configs)


def test_an_error_names_the_file_in_which_the_key_stands(configs: Path) -> None:
    edit(configs / "base.yaml", partition={"every": "Q"})
    with pytest.raises(ConfigError, match=r"/base\.yaml: partition\.every: "):
        load_model("store-a", configs)
    edit(configs / "store" / "model.yaml", partition={"every": "D", "grase": "1D"})
    with pytest.raises(ConfigError, match=r"store/model\.yaml: partition\.grase: unknown key; did you mean 'grace'\?"):
        load_model("store-a", configs)


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("../bass.yaml", r"store/model\.yaml: extends: names '\.\./bass\.yaml', but .*/bass\.yaml does not exist"),
        (["../base.yaml"], r"store/model\.yaml: extends: must be the path of one YAML file"),
        ("model.yaml", r"store/model\.yaml: extends: .*model\.yaml -> .*model\.yaml is a circle"),
    ],
)
def test_an_error_of_extends_names_file_and_path(configs: Path, extends: object, message: str) -> None:
    edit(configs / "store" / "model.yaml", extends=extends)
    with pytest.raises(ConfigError, match=message):
        load_model("store", configs)


def test_a_chain_of_files_is_merged_nearest_first_and_lists_are_replaced(configs: Path) -> None:
    (configs / "all.yaml").write_text("contract: {owner: shops}\nfeatures: {numeric: [discount], whole: [discount]}\n")
    edit(configs / "base.yaml", extends="all.yaml")
    model = load_model("store-a", configs)
    assert model.config.contract.owner == "shops"
    assert (model.config.features.numeric, model.config.features.whole) == (("size", "discount"), ("discount",))
    assert model.files == (configs / "store" / "model.yaml", configs / "base.yaml", configs / "all.yaml")


def test_a_personal_column_cannot_be_in_the_names(configs: Path) -> None:
    edit(configs / "store" / "model.yaml", groups=["store"], personal=["store"])
    with pytest.raises(ConfigError, match="personal: store is in the names of the models"):
        load_model("store-a", configs)


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("flights", "c7a5bbc679aff18b3b75d3100bf9fdb26599117d76ec9dec3c4bc8de04a1bf5a"),
        ("electricity", "636fe3252bd8e597cfcd9a1306fc0a771ef073281bb0c1f2535a4fc1c342d836"),
    ],
)
def test_new_keys_that_are_not_used_leave_the_digest_of_a_config_as_it_was(name: str, digest: str) -> None:
    """The digests are those that commit e1c2056 printed, before `extends`, `for_each`, `publish` and `delta`. A change of the bundled
    model.yaml changes them too: then compute them again with that commit's schema."""
    assert digest_json(load_model(name, ROOT / "configs").config.model_dump(mode="json")) == digest


def test_a_value_that_selects_no_rows_does_not_count_as_a_selection(configs: Path) -> None:
    table = {
        "connection": "shop",
        "table": "sales",
        "time": "sold_at",
        "fingerprint": "SELECT count(*) FROM sales WHERE store = $store",
    }
    edit(configs / "store" / "model.yaml", source={"file": table})
    assert """"store" = 'a'""" in load_model("store-a", configs).source_sql


def test_a_lookup_of_each_model_does_not_select_the_rows_of_another_table(configs: Path) -> None:
    plain = "SELECT sale, sold_at, size, discount FROM sales WHERE sold_at >= $start AND sold_at < $end"
    use_sql(configs, plain, LABELS)
    content = yaml.safe_load((configs / "store" / "model.yaml").read_text())
    content["source"]["tables"]["lookup"] = {"path": "data/{store}.csv"}
    (configs / "store" / "model.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"does not use \$store, so all models of for_each would have the same rows"):
        load_model("store-a", configs)
    content["source"]["tables"]["sales"] = {"delta": "data/{store}"}
    (configs / "store" / "model.yaml").write_text(yaml.safe_dump(content))
    model = load_model("store-a", configs)
    assert model.config.source.tables["sales"].delta == "data/a"


def test_codes_are_text_as_they_are_written(configs: Path) -> None:
    path = configs / "store" / "model.yaml"
    content = yaml.safe_load(path.read_text())
    del content["for_each"]
    path.write_text("for_each: {column: store, values: [001, 010, 12:30, 7]}\n" + yaml.safe_dump(content))
    assert model_names(configs) == ["store-001", "store-010", "store-12_30", "store-7"]
    assert """"store" = '010'""" in load_model("store-010", configs).source_sql


def test_the_folder_of_one_model_has_no_for_each_of_its_own(configs: Path) -> None:
    path = add_own(configs, for_each={"column": "shop", "values": ["b"]})
    with pytest.raises(ConfigError, match=f"{path}: for_each: is that of"):
        load_model("store-a", configs)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("store-*", ["store-7", "store-a", "store-nyc_1"]),
        (" store-a, store-7,", ["store-7", "store-a"]),
        ("store-?", ["store-7", "store-a"]),
    ],
)
def test_patterns_select_models(
    configs: Path, monkeypatch: pytest.MonkeyPatch, patterns: str, expected: list[str]
) -> None:
    monkeypatch.setenv("EVERGREEN_CONFIGS", str(configs))
    assert select_models(patterns) == expected
    with pytest.raises(ValueError, match="no model matches 'shop-\\*'; there are: store-7, store-a, store-nyc_1"):
        select_models(f"{patterns},shop-*")
