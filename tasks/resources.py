"""What every step of a model's life is given: its config, its lake, its ledger, its registry."""

import functools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.load import Model, load_model
from configs.schema import ModelConfig
from configs.settings import ROOT, Settings, load_settings
from tasks.contracts import PartitionRef, Promotion, RunInfo
from tasks.errors import NoChampion
from tasks.lake import Lake
from tasks.ledger.store import Ledger
from tasks.partitions import partition
from tasks.registry import Registry


class Resources:
    """One model on this machine. Opening it connects to nothing; each part connects when it is first used."""

    def __init__(self, model: Model, settings: Settings, flow_run: str = "") -> None:
        self.model, self.settings, self.flow_run = model, settings, flow_run
        self.lake = Lake(settings.path(settings.lake), model.name)
        self.ledger = Ledger(settings.database, model.name)
        self.registry = Registry(settings.mlflow_uri, model.name, settings.path(settings.home) / "models")

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    def ref(self, key: str, as_of: datetime | None = None) -> PartitionRef:
        return partition(self.config, key, as_of)

    def champion(self) -> Promotion:
        """Today's champion.

        Raises:
            NoChampion: there is none yet.
        """
        found = self.ledger.champion()
        if found is None:
            raise NoChampion(f"{self.config.name} has no champion yet; run `train` first")
        return found

    def load(self, version: str) -> Any:
        """A version's fitted model, held to the digest that the ledger has of it.

        Raises:
            RegistryUnavailable, UnknownVersion, ForgedVersion: see `Registry.load`.
        """
        return self.registry.load(version, self.ledger.digest(version))

    @property
    def commit(self) -> str:
        """The git commit that runs."""
        return self.settings.git_commit or git_commit(ROOT)

    def run_info(self, started: datetime) -> RunInfo:
        seconds = round((datetime.now(UTC) - started).total_seconds(), 3)
        return RunInfo(started, seconds, self.flow_run, self.commit)


def open_resources(name: str, flow_run: str = "") -> Resources:
    """Everything about one model, from its folder and the environment.

    Raises:
        ConfigError: the folder is missing or wrong.
    """
    return Resources(load_model(name), load_settings(), flow_run)


@functools.cache
def git_commit(root: Path) -> str:
    """The commit that is checked out, read without starting git; empty outside a checkout."""
    git = root / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")
    except OSError:
        return ""
