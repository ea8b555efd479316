"""The stage of each version in MLflow is its present stage in the ledger."""

from pathlib import Path

import mlflow
import pytest

from tasks.ledger.promotions import stage_of
from tasks.ledger.store import Ledger
from tasks.registry import Registry
from tests.tasks.ledger.test_store import at, change


@pytest.fixture
def registry(mlflow_store: str, tmp_path: Path) -> Registry:
    """A registered model with three versions in a real store."""
    client, name = mlflow.MlflowClient(mlflow_store), f"m-{tmp_path.name}"
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, "file:///nowhere")
    return Registry(mlflow_store, name, tmp_path / "models")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path}/ledger.db", "m")


def stages(registry: Registry) -> dict[str, str]:
    """Return the tag of each version as a user of MLflow reads it."""
    versions = registry.client.search_model_versions(f"name='{registry.model}'")
    return {str(v.version): v.tags["evergreen.stage"] for v in versions if "evergreen.stage" in v.tags}


def promote(ledger: Ledger, version: str, month: int) -> None:
    ledger.append(change("stage", version, at(month), ledger.champion()))
    ledger.append(change("promote", version, at(month), ledger.champion()))


def test_after_a_promotion_and_a_rollback_one_version_is_champion(registry: Registry, ledger: Ledger) -> None:
    promote(ledger, "1", 4)
    registry.sync_stages(ledger)
    assert stages(registry) == {"1": "champion"}
    promote(ledger, "2", 5)
    registry.sync_stages(ledger)
    assert stages(registry) == {"1": "retired", "2": "champion"}
    ledger.append(change("rollback", "1", at(6), ledger.champion()))
    registry.sync_stages(ledger)
    assert stages(registry) == {"1": "champion", "2": "retired"}


def test_tags_that_an_earlier_release_left_are_corrected(registry: Registry, ledger: Ledger) -> None:
    """Every earlier champion had the stage `champion`."""
    promote(ledger, "1", 4)
    promote(ledger, "2", 5)
    for version in ("1", "2"):
        registry.client.set_model_version_tag(registry.model, version, "evergreen.stage", "champion")
    registry.sync_stages(ledger)
    assert stages(registry) == {"1": "retired", "2": "champion"}


def test_a_version_that_mlflow_no_longer_has_does_not_keep_the_others_from_their_stage(
    registry: Registry, ledger: Ledger
) -> None:
    promote(ledger, "1", 4)
    promote(ledger, "2", 5)
    ledger.append(change("refuse", "3", at(6), ledger.champion()))
    registry.client.delete_model_version(registry.model, "1")
    registry.sync_stages(ledger)
    assert stages(registry) == {"2": "champion", "3": "refused"}


def test_a_row_that_is_appended_during_the_update_is_not_missed(registry: Registry, ledger: Ledger) -> None:
    """Another process promotes between this process's reading and its writing."""
    promote(ledger, "1", 4)

    class LedgerWithASecondWriter(Ledger):
        reads = 0

        def promotions(self):
            rows, self.reads = super().promotions(), self.reads + 1
            if self.reads == 1:
                promote(ledger, "2", 5)
            return rows

    registry.sync_stages(LedgerWithASecondWriter(ledger.url, "m"))
    rows = ledger.promotions()
    assert stages(registry) == {"1": "retired", "2": "champion"}
    assert stages(registry) == {version: stage_of(version, rows) for version in ("1", "2")}
