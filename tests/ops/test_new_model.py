"""`make model`: the new folder loads, its deployments match, and invalid names are refused."""

import shutil
from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.load import load_model, model_names
from configs.settings import ROOT
from ops.check import find_problems, read_deployments
from ops.new_model import new_model
from ops.rendering import BLOCK, render


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of configs/ and prefect.yaml."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    return tmp_path


def test_a_new_model_loads_and_has_its_deployments(root: Path) -> None:
    written = new_model("trains", root)
    assert [path.name for path in written] == ["model.yaml", "source.sql", "labels.sql", "prefect.yaml"]
    assert load_model("trains", root / "configs").name == "trains"
    assert find_problems(model_names(root / "configs"), read_deployments(root / "prefect.yaml")) == []


def test_its_block_is_short_and_the_rest_of_prefect_yaml_is_unchanged(root: Path) -> None:
    before = (root / "prefect.yaml").read_text()
    new_model("trains", root)
    assert (root / "prefect.yaml").read_text().startswith(before)
    assert len(render(BLOCK, "trains").splitlines()) <= 30


@pytest.mark.parametrize("name", ["", "Trains", "1st", "a-b", "a b", "../x", "x" * 41])
def test_an_invalid_name_is_refused(root: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="lower case"):
        new_model(name, root)


@pytest.mark.parametrize("name", ["flights", "env", "load", "manual"])
def test_a_taken_name_is_refused_and_nothing_is_written(root: Path, name: str) -> None:
    before = (root / "prefect.yaml").read_text()
    with pytest.raises(ConfigError, match=f"NAME={name}"):
        new_model(name, root)
    assert (root / "prefect.yaml").read_text() == before
    assert model_names(root / "configs") == model_names()
