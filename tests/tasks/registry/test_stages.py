"""The stage of each version in MLflow is its present stage in the ledger."""

from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from tasks.ledger.promotions import stage_of
from tasks.ledger.store import Ledger
from tasks.registry import Registry
from tasks.registry.descriptions import model_description
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


def descriptions(registry: Registry) -> dict[str, str]:
    """Return the first line of each version's description."""
    versions = registry.client.search_model_versions(f"name='{registry.model}'")
    return {str(v.version): v.description.splitlines()[0] for v in versions if v.description}


def test_the_description_of_a_version_is_true_after_each_change(registry: Registry, ledger: Ledger) -> None:
    promote(ledger, "1", 4)
    ledger.append(change("refuse", "3", at(4), ledger.champion()))
    registry.sync_stages(ledger)
    first = descriptions(registry)
    assert first["1"].startswith(f"Champion for partitions after {at(4):%Y-%m-%d}, by ")
    assert first["3"].startswith(f"Refused as of {at(4):%Y-%m-%d}, by ")
    promote(ledger, "2", 5)
    registry.sync_stages(ledger)
    second = descriptions(registry)
    until = f"{at(5):%Y-%m-%d}, replaced by version 2."
    assert second["1"] == f"Retired. It was champion for partitions after {at(4):%Y-%m-%d} until {until}"
    assert second["2"].startswith(f"Champion for partitions after {at(5):%Y-%m-%d}, by ")
    ledger.append(change("rollback", "1", at(6), ledger.champion()))
    registry.sync_stages(ledger)
    assert descriptions(registry)["1"].startswith(f"Champion for partitions after {at(6):%Y-%m-%d}, by ")
    assert descriptions(registry)["3"] == first["3"]


def test_a_description_by_a_person_is_kept(registry: Registry, ledger: Ledger) -> None:
    registry.client.update_model_version(registry.model, "1", "a note of ann")
    registry.client.update_registered_model(registry.model, "another note")
    promote(ledger, "1", 4)
    registry.sync_stages(ledger)
    registry.describe_model(model_description("Whether it rains.", ledger.champion(), ""))
    assert descriptions(registry) == {"1": "a note of ann"}
    assert registry.client.get_registered_model(registry.model).description == "another note"


def test_the_description_of_the_model_names_its_champion(registry: Registry, ledger: Ledger) -> None:
    registry.describe_model(model_description("Whether it *rains*.", ledger.champion(), ""))
    promote(ledger, "2", 4)
    registry.describe_model(model_description("Whether it *rains*.", ledger.champion(), "[page](http://p)"))
    text = registry.client.get_registered_model(registry.model).description
    assert text.startswith("Whether it \\*rains\\*.\n\n**Version 2** is champion for partitions after ")
    assert "[page](http://p)" in text


def test_a_long_or_hostile_reason_does_not_keep_a_version_from_its_stage(registry: Registry, ledger: Ledger) -> None:
    row = replace(change("refuse", "3", at(4), None), reason="[x](javascript:1) <b>" + "long " * 2000)
    ledger.append(row)
    registry.sync_stages(ledger)
    assert stages(registry) == {"3": "refused"}
    assert "\\[x\\](javascript:1) \\<b\\>long" in descriptions(registry)["3"]
