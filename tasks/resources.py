"""The resources of one model that flows and steps use: config, lake, ledger, claims and registry."""

import functools
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from configs.load import Model, load_model
from configs.override import EVALUATION_KEYS
from configs.schema import ModelConfig
from configs.settings import ROOT, Settings, load_settings
from tasks.contracts import PartitionRef, Promotion, Query, Record, Registration, RunInfo, Stage, Trial, Version
from tasks.errors import NoChampion
from tasks.ledger.claims import Claim, Claims
from tasks.ledger.store import Ledger
from tasks.registry import Registry
from tasks.storage.files import digest_json, open_root
from tasks.storage.folders import restrict_home
from tasks.storage.lake import Lake
from tasks.storage.partitions import partition

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


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

    def title(self, model: str) -> str:
        """Return the model's name, with the variant's name in brackets if there is one."""
        return f"{model} ({self.name})" if self.name else model

    @property
    def alone(self) -> bool:
        """Whether its rows may differ from production's, so that it cannot read production's files."""
        return not self.override.keys() <= set(EVALUATION_KEYS)


PRODUCTION = Variant()


class ClaimStore(Protocol):
    """Claims on partitions. `Claims` has them in the database."""

    def held_by_this_thread(self, partition: str) -> bool:
        """Return whether this thread holds the partition's claim."""

    def hold(self, partition: str, on_wait: Callable[[Claim], None] = ...) -> AbstractContextManager[None]:
        """Hold a partition's claim in the body. Waits for another process that holds it."""


class VersionStore(Protocol):
    """Registered versions, as steps and trainings use them. `Registry` has them in MLflow; see there."""

    def open_training(self, name: str, flow_run: str, commit: str) -> str: ...
    def close_training(self, run_id: str, failed: bool = False) -> None: ...
    def log_trial(self, parent: str, trial: Trial, period: str) -> None: ...
    def register(self, model: Any, config: ModelConfig, registration: Registration) -> Version: ...
    def version(self, number: str) -> Version: ...
    def cached_version(self, number: str) -> Version: ...
    def load(self, number: str, digest: str = "", threads: int | None = None) -> Any: ...
    def query(self, number: str, config: ModelConfig, rows: "pd.DataFrame", expected: "np.ndarray") -> Query: ...
    def document(self, run_id: str, name: str) -> Any: ...
    def packages(self) -> dict[str, str]: ...
    def version_url(self, number: str) -> str: ...
    def run_url(self, run_id: str) -> str: ...


class ResultCache(Protocol):
    """Results by the digest of their inputs. Production computes each once, the policies of a replay share them."""

    def result(self, kind: Any, inputs: Callable[[], Any], compute: Callable[[], Any]) -> Any:
        """Return the result of `compute`, or the stored one.

        Args:
            kind: Type of the result.
            inputs: Returns what the result depends on.
            compute: Returns the result.
        """

    def step(self, stage: Stage, ref: PartitionRef, inputs: Any) -> AbstractContextManager[Record | None]:
        """Yield the record of an output that was already computed from the same inputs, else None. The body computes it."""


class NoCache:
    """A cache that stores nothing."""

    def result(self, kind: Any, inputs: Callable[[], Any], compute: Callable[[], Any]) -> Any:
        return compute()

    def step(self, stage: Stage, ref: PartitionRef, inputs: Any) -> AbstractContextManager[Record | None]:
        return nullcontext()


@dataclass(kw_only=True)
class Resources:
    """The resources of one model, in production or in a simulation.

    Attributes:
        pages: Whether steps write HTML pages beside their records.
        threads: Cores that may be used. Fewer than the setting while other partitions are processed in parallel.
        gated: Whether the gate decides. Without it, as in a replay's `always`, a version that it would refuse is promoted too.
    """

    model: Model
    settings: Settings
    lake: Lake
    ledger: Ledger
    claims: ClaimStore
    registry: VersionStore
    cache: ResultCache = field(default_factory=NoCache)
    pages: bool = True
    flow_run: str = ""
    variant: Variant = PRODUCTION
    gated: bool = True
    threads: int = field(init=False)

    def __post_init__(self) -> None:
        self.threads = self.settings.threads

    @property
    def config(self) -> ModelConfig:
        """The model's config, with the variant's overrides if there is one."""
        return self.model.config

    @property
    def title(self) -> str:
        """The model's name, with the variant's name in brackets if there is one."""
        return self.variant.title(self.config.name)

    @property
    def slug(self) -> str:
        """The same as a key of a Prefect artifact."""
        return f"{self.config.name}-{self.variant.name}" if self.variant.name else self.config.name

    def ref(self, key: str, as_of: datetime | None = None) -> PartitionRef:
        """Return a partition of the model, as of `as_of` or, by default, of its own moments."""
        return partition(self.config, key, as_of)

    def champion(self) -> Promotion:
        """Return the row of the current champion.

        Raises:
            NoChampion: the model has no champion yet.
        """
        champion = self.ledger.champion()
        if champion is None:
            raise NoChampion(f"{self.config.name} has no champion yet; run `train` first")
        return champion

    def load(self, version: str, threads: int | None = None) -> Any:
        """Return the fitted model of a version, after a check against its digest in the ledger.

        Args:
            version: The version's number.
            threads: Cores that its predictions may use.

        Raises:
            RegistryUnavailable, UnknownVersion, ForgedVersion: see `Registry.load`.
        """
        return self.registry.load(version, self.ledger.digest(version), threads)

    @property
    def commit(self) -> str:
        """The git commit of the running code."""
        return self.settings.git_commit or git_commit(ROOT)

    def run_info(self, started: datetime) -> RunInfo:
        """Return the run's information for a record, with the seconds since `started` and the process's peak memory."""
        seconds = round((datetime.now(UTC) - started).total_seconds(), 3)
        return RunInfo(started, seconds, self.flow_run, self.commit, peak_bytes=peak_memory())


class LiveResources(Resources):
    """The resources of a model in production: claims in the database, versions in MLflow."""

    claims: Claims
    registry: Registry


def live_resources(
    model: Model, settings: Settings, flow_run: str = "", variant: Variant = PRODUCTION
) -> LiveResources:
    """Return the resources of a model in production. Opens no connection. Each part connects on first use.

    A folder of state that other users can open becomes private.
    """
    restrict_home(settings.path(settings.home))
    return LiveResources(
        model=model,
        settings=settings,
        lake=Lake(open_root(settings.lake, ROOT), model.name, variant.name, alone=variant.alone),
        ledger=Ledger(settings.database, model.name),
        claims=Claims(settings.database, variant.title(model.name), flow_run),
        registry=Registry(settings.mlflow_uri, model.name, settings.path(settings.home) / "models"),
        flow_run=flow_run,
        variant=variant,
    )


def open_resources(name: str, flow_run: str = "", variant: Variant = PRODUCTION) -> LiveResources:
    """Return the resources of a model from its folder in `configs/` and the environment.

    Raises:
        ConfigError: the folder is missing, or its config or the variant's is invalid.
    """
    return live_resources(load_model(name, override=variant.override), load_settings(), flow_run, variant)


def peak_memory() -> int:
    """Return the most resident memory that this process has had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # Linux counts in KiB, macOS in bytes


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
