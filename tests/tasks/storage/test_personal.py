"""Values of personal columns: hashed with a secret key, in one place."""

import hmac
import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from configs.errors import ConfigError
from configs.load import load_model
from tasks.errors import SourceMismatch
from tasks.source.extent import available_partitions
from tasks.storage import personal
from tasks.storage.personal import error_text, hashed, hide_categories, shown
from tests.conftest import parcels


@pytest.fixture
def config(tiny: Path):
    path = tiny / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text() + "personal: [parcel, weight, city]\n")
    personal._key.cache_clear()
    yield load_model("tiny").config
    personal._key.cache_clear()


def test_the_key_is_a_file_that_only_its_owner_can_read(config, tiny, monkeypatch):
    before = os.umask(0o022)
    try:
        first = hashed("Ann")
    finally:
        os.umask(before)
    path = tiny / ".evergreen" / "personal.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    key = path.read_text().strip()
    assert first == f"hash:{hmac.new(key.encode(), b'Ann', 'sha256').hexdigest()[:16]}"
    personal._key.cache_clear()
    assert hashed("Ann") == first, "the file is read again, not written again"
    monkeypatch.setenv("EVERGREEN_PERSONAL_KEY", "another key")
    assert hashed("Ann") == f"hash:{hmac.new(b'another key', b'Ann', 'sha256').hexdigest()[:16]}"


@pytest.mark.parametrize("value", [7, 7.0, "7", np.int64(7), np.float32(7)])
def test_the_same_value_has_the_same_hash_whatever_its_type(config, value):
    assert hashed(value) == hashed("7")
    assert hashed(value) != hashed("8")


def test_only_personal_columns_are_hidden_and_nulls_stay(config):
    assert shown(config, "distance", 5.5) == 5.5
    assert shown(config, "city", "Bonn") == hashed("Bonn")
    assert shown(config, "weight", 3.25) == hashed(3.25)
    assert shown(config, "city", None) is None
    assert shown(config, "city", pd.NA) is pd.NA
    frame = pd.DataFrame({"parcel": ["a", "b", "c"], "weight": [1.0, 2.0, 3.0], "city": ["Bonn", "Kiel", None]})
    hidden = hide_categories(config, frame)
    assert hidden["city"].iloc[:2].tolist() == [hashed("Bonn"), hashed("Kiel")]
    assert pd.isna(hidden["city"].iloc[2])
    assert hidden.drop(columns="city").equals(frame.drop(columns="city"))


@pytest.mark.parametrize("value", ["Ann", "O'Neil Mary", 'Jean "x" D\'Arc', "it`s\\'", "731"])
def test_messages_of_libraries_are_not_shown(config, value):
    error = ValueError(f"Could not convert string '{value}' to DOUBLE")
    assert error_text(config, error) == "ValueError (its message is not shown: personal data)"
    assert error_text(config.model_copy(update={"personal": ()}), error) == f"ValueError: {error}"


@pytest.mark.parametrize(
    ("columns", "message"),
    [("[nobody]", "nobody is not a column of the model"), ("[sent]", "sent decides which partition a row is in")],
)
def test_wrong_columns_are_refused(tiny, columns, message):
    path = tiny / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text() + f"personal: {columns}\n")
    with pytest.raises(ConfigError, match=message):
        load_model("tiny")


@pytest.mark.parametrize("path", ["data/city=*/a.parquet", "data/City=Bonn/day=%d/%Y-%m.parquet"])
def test_a_personal_column_in_a_path_is_refused(config, tiny, path):
    model = tiny / "configs" / "tiny" / "model.yaml"
    content = yaml.safe_load(model.read_text())
    content["source"] = {"file": {"path": path} | ({"every": "D"} if "%" in path else {})}
    model.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="personal: folders have the values of city in their names"):
        load_model("tiny")


def test_a_personal_column_in_the_name_of_a_folder_is_refused_without_its_value(config, tiny):
    for name in ("Bonn", "O'Neil"):
        folder = tiny / "data" / f"CITY={name}"
        folder.mkdir()
        parcels(1).drop(columns="city").to_parquet(folder / "a.parquet", index=False)
    model = tiny / "configs" / "tiny" / "model.yaml"
    content = yaml.safe_load(model.read_text())
    content["source"] = {"file": {"path": f"{tiny}/data/*/a.parquet"}}
    model.write_text(yaml.safe_dump(content))
    with pytest.raises(SourceMismatch, match="folders have the values of city") as caught:
        available_partitions(load_model("tiny"))
    assert "Neil" not in str(caught.value)
    assert "Bonn" not in str(caught.value)
