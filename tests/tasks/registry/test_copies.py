"""Local copies of versions are verified, and a damaged one is replaced by MLflow's."""

import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

import mlflow
import pytest
import skops.io

from tasks.contracts import Recipe
from tasks.errors import ForgedVersion
from tasks.models.estimators import read_model
from tasks.models.fingerprint import model_digest
from tasks.registry import Registry
from tasks.training.splits import fit
from tests.tasks.models.test_estimators import config, resources, rows

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def models() -> list:
    """Two fitted models."""
    res: Any = resources(config())
    return [fit(Recipe("x", "xgboost", {"n_estimators": n}), rows(), res) for n in (3, 4)]


@pytest.fixture
def registry(mlflow_store: str, tmp_path: Path, models: list) -> Registry:
    """A registered model with one version in a real store, whose files are in `tmp_path/artifacts`."""
    (tmp_path / "artifacts").mkdir()
    skops.io.dump(models[0], tmp_path / "artifacts" / "model.skops")
    client, name = mlflow.MlflowClient(mlflow_store), f"copies-{tmp_path.name}"
    client.create_registered_model(name)
    client.create_model_version(name, str(tmp_path / "artifacts"))
    return Registry(mlflow_store, name, tmp_path / "models")


def flipped(content: bytes) -> bytes:
    """Flip a bit of the compressed content of the first file of a zip archive."""
    at = zipfile.ZipFile(io.BytesIO(content)).infolist()[0].header_offset + 60
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGES = {
    "empty": lambda file, _: file.write_bytes(b""),
    "cut off": lambda file, _: file.write_bytes(file.read_bytes()[:-200]),
    "a flipped bit": lambda file, _: file.write_bytes(flipped(file.read_bytes())),
    "no archive": lambda file, _: file.write_text("hello"),
    "missing": lambda file, _: file.unlink(),
    "another model": lambda file, other: skops.io.dump(other, file),
    "another type": lambda file, _: skops.io.dump(ForgedVersion("x"), file),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_copy_is_replaced_by_that_of_mlflow(registry: Registry, models: list, damage: str) -> None:
    digest = model_digest(models[0])
    file = registry.local_copy("1") / "model.skops"
    DAMAGES[damage](file, models[1])
    changed = file.read_bytes() if file.exists() else None
    assert model_digest(registry.load("1", digest)) == digest
    kept = registry.cache / "1.damaged" / "model.skops"
    assert (kept.read_bytes() if kept.exists() else None) == changed, "whoever looks for the cause has the damaged file"
    assert model_digest(read_model(file, digest)) == digest, "the local copy is good again"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_version_without_any_good_copy_is_refused_with_path_and_remedy(
    registry: Registry, models: list, damage: str, tmp_path: Path
) -> None:
    folder = registry.local_copy("1")
    DAMAGES[damage](folder / "model.skops", models[1])
    shutil.rmtree(tmp_path / "artifacts")
    with pytest.raises(
        ForgedVersion, match=f"{folder}/model.skops .*MLflow has no good copy.*delete {folder} .*`rollback`"
    ):
        registry.load("1", model_digest(models[0]))
    assert folder.is_dir(), "the copy stays until MLflow has a good one"


def test_a_forged_copy_in_mlflow_is_refused_too(registry: Registry, models: list, tmp_path: Path) -> None:
    skops.io.dump(models[1], tmp_path / "artifacts" / "model.skops")
    with pytest.raises(ForgedVersion, match=r"another model than the registered one.*MLflow has no good copy"):
        registry.load("1", model_digest(models[0]))


def test_a_second_process_that_has_found_the_damaged_copy_keeps_it_and_the_good_one(
    registry: Registry, models: list
) -> None:
    digest = model_digest(models[0])
    file = registry.local_copy("1") / "model.skops"
    file.write_text("damaged")
    with pytest.raises(ForgedVersion) as found:
        read_model(file, digest)
    registry.load("1", digest)
    assert model_digest(registry._load_again("1", digest, found.value)) == digest
    assert (registry.cache / "1.damaged" / "model.skops").read_text() == "damaged"
    assert model_digest(read_model(file, digest)) == digest


def test_the_first_damaged_copy_is_kept(registry: Registry, models: list) -> None:
    digest = model_digest(models[0])
    file = registry.local_copy("1") / "model.skops"
    for content in ("first", "second"):
        file.write_text(content)
        assert model_digest(registry.load("1", digest)) == digest
    assert (registry.cache / "1.damaged" / "model.skops").read_text() == "first"
