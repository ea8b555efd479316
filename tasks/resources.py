"""The resources of one model that flows and steps use: config, lake, ledger, claims and registry."""

import functools
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.load import Model, load_model
from configs.schema import ModelConfig
from configs.settings import ROOT, Settings, load_settings
from tasks.contracts import PartitionRef, Promotion, Record, RunInfo, Stage
from tasks.errors import NoChampion
from tasks.ledger.claims import Claims
from tasks.ledger.store import Ledger
from tasks.registry import Registry
from tasks.storage.files import digest_json, open_root
from tasks.storage.lake import Lake
from tasks.storage.partitions import partition


@dataclass(frozen=True)
class Variant:
    """A recomputation of past partitions with another config or with one fixed champion.

    The outputs of a variant have their own folder in the lake and cannot be mistaken for those of production.

    Attributes:
        override: Keys that replace those of model.yaml, see `load_model`.
        champion: The version that scores every partition. Empty: the version that was champion at each partition's as-of.
    """

    override: Mapping[str, Any] = field(default_factory=dict)
    champion: str = ""

    @property
    def name(self) -> str:
        """Such as `v8`, `config-1f0c2a9b` or `v8-config-1f0c2a9b`. Empty for production."""
        parts = [f"v{self.champion}"] if self.champion else []
        return "-".join(parts + ([f"config-{digest_json(self.override)[:8]}"] if self.override else []))

    @property
    def alone(self) -> bool:
        """Whether its rows may differ from production's, so that it cannot read production's files."""
        return not self.override.keys() <= EVALUATION_KEYS


EVALUATION_KEYS = {"description", "dictionary", "training", "gate", "promotion", "monitoring", "retraining", "replay"}
"""Keys of model.yaml that do not change which rows a partition has."""
PRODUCTION = Variant()


class Resources:
    """The resources of one model. Creating it opens no connection. Each part connects on first use."""

    pages = True
    """Whether steps write HTML pages beside their records."""
    shares_models = False
    """Whether several threads of this process may use the same loaded model, as the policies of a replay do."""

    def __init__(self, model: Model, settings: Settings, flow_run: str = "", variant: Variant = PRODUCTION) -> None:
        self.model, self.settings, self.flow_run, self.variant = model, settings, flow_run, variant
        self.threads = settings.threads
        """Cores that may be used. Fewer than the setting while other partitions are processed in parallel."""
        self.lake = Lake(open_root(settings.lake, ROOT), model.name, variant.name, alone=variant.alone)
        self.ledger = Ledger(settings.database, model.name)
        self.claims = Claims(settings.database, self.title, flow_run)
        self.registry = Registry(settings.mlflow_uri, model.name, settings.path(settings.home) / "models")

    @property
    def config(self) -> ModelConfig:
        """The model's config, with the variant's overrides if there is one."""
        return self.model.config

    @property
    def title(self) -> str:
        """The model's name, with the variant's name in brackets if there is one."""
        return f"{self.config.name} ({self.variant.name})" if self.variant.name else self.config.name

    @property
    def slug(self) -> str:
        """The same as a key of a Prefect artifact."""
        return f"{self.config.name}-{self.variant.name}" if self.variant.name else self.config.name

    def ref(self, key: str, as_of: datetime | None = None) -> PartitionRef:
        """Return a partition of the model; `as_of` defaults to the partition's end plus the label delay."""
        return partition(self.config, key, as_of)

    def cached(self, kind: Any, inputs: Callable[[], Any], compute: Callable[[], Any]) -> Any:
        """Return the result of `compute`. A replay stores it by `inputs` and computes it only once.

        Args:
            kind: Type of the result. A replay serializes it with pydantic.
            inputs: Returns what the result depends on. Production does not call it.
            compute: Returns the result.
        """
        return compute()

    @contextmanager
    def cached_step(self, stage: Stage, ref: PartitionRef, inputs: Any) -> Iterator[Record | None]:
        """Yield the record of an output that a replay has already computed from the same inputs, else None. The body computes it."""
        yield None

    def champion(self) -> Promotion:
        """Return the row of the current champion.

        Raises:
            NoChampion: the model has no champion yet.
        """
        champion = self.ledger.champion()
        if champion is None:
            raise NoChampion(f"{self.config.name} has no champion yet; run `train` first")
        return champion

    def load(self, version: str) -> Any:
        """Return the fitted model of a version, after a check against its digest in the ledger.

        Raises:
            RegistryUnavailable, UnknownVersion, ForgedVersion: see `Registry.load`.
        """
        return self.registry.load(version, self.ledger.digest(version))

    @property
    def commit(self) -> str:
        """The git commit of the running code."""
        return self.settings.git_commit or git_commit(ROOT)

    def run_info(self, started: datetime) -> RunInfo:
        """Return the run's information for a record, with the seconds since `started`."""
        seconds = round((datetime.now(UTC) - started).total_seconds(), 3)
        return RunInfo(started, seconds, self.flow_run, self.commit)


def open_resources(name: str, flow_run: str = "", variant: Variant = PRODUCTION) -> Resources:
    """Open the resources of one model from its folder in `configs/` and the environment.

    Raises:
        ConfigError: the folder is missing, or its config or the variant's is invalid.
    """
    return Resources(load_model(name, override=variant.override), load_settings(), flow_run, variant)


def uncommitted_files(root: Path) -> list[str]:
    """Return the files of code and config that differ from the commit of a git checkout. Empty outside a checkout."""
    if not (root / ".git").exists():
        return []
    status = _git(root, "--no-optional-locks", "status", "--porcelain", "--", "tasks", "configs", "flows")
    return ["unknown: git did not respond"] if status is None else [line[3:] for line in status.splitlines()]


@functools.cache
def git_commit(root: Path) -> str:
    """Return the commit of a git checkout or worktree. Empty outside of both, without git and without a commit."""
    return (_git(root, "rev-parse", "HEAD") or "").strip() if (root / ".git").exists() else ""


def _git(root: Path, *arguments: str) -> str | None:
    """Return the output of a git command in `root`, None if it fails."""
    try:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
