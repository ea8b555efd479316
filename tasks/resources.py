"""What every step of a model's life is given: its config, its lake, its ledger, its registry."""

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
    """Another way to see a model's past than production's: by another config, or scored by today's champion.

    What a variant makes lies in a place of its own, so that it never passes for production's.
    """

    override: Mapping[str, Any] = field(default_factory=dict)
    """Said over model.yaml, see `load_model`."""
    champion: str = ""
    """The version that scores every partition; empty for the one that was champion at the partition's moment."""

    @property
    def name(self) -> str:
        """Such as `v8`, `config-1f0c2a9b` or both; empty for production itself."""
        parts = [f"v{self.champion}"] if self.champion else []
        return "-".join(parts + ([f"config-{digest_json(self.override)[:8]}"] if self.override else []))

    @property
    def alone(self) -> bool:
        """Whether its rows are others than production's, so that none of production's files can be read in their place."""
        return not self.override.keys() <= JUDGING


JUDGING = {"description", "dictionary", "training", "gate", "promotion", "monitoring", "retraining", "replay"}
"""Keys of model.yaml that say how rows are judged, and not which there are."""
PRODUCTION = Variant()


class Resources:
    """One model on this machine. Opening it connects to nothing; each part connects when it is first used."""

    pages = True
    """Whether steps leave pages for people beside their records."""
    shares_models = False
    """Whether a loaded model may be in use elsewhere in this process, as by the policies of a replay."""

    def __init__(self, model: Model, settings: Settings, flow_run: str = "", variant: Variant = PRODUCTION) -> None:
        self.model, self.settings, self.flow_run, self.variant = model, settings, flow_run, variant
        self.threads = settings.threads
        """Cores that may be used now; fewer than the setting where other partitions are worked on beside it."""
        self.lake = Lake(open_root(settings.lake, ROOT), model.name, variant.name, alone=variant.alone)
        self.ledger = Ledger(settings.database, model.name)
        self.claims = Claims(settings.database, self.title, flow_run)
        self.registry = Registry(settings.mlflow_uri, model.name, settings.path(settings.home) / "models")

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def title(self) -> str:
        """The model's name, and the variant's where it is one."""
        return f"{self.config.name} ({self.variant.name})" if self.variant.name else self.config.name

    @property
    def slug(self) -> str:
        """The same for the names of artifacts, which have lower case letters, digits and dashes."""
        return f"{self.config.name}-{self.variant.name}" if self.variant.name else self.config.name

    def ref(self, key: str, as_of: datetime | None = None) -> PartitionRef:
        return partition(self.config, key, as_of)

    def once(self, kind: Any, made_of: Callable[[], Any], make: Callable[[], Any]) -> Any:
        """What `make` returns, of a type that `kind` names. A replay keeps it by what it is made of, and makes it once."""
        return make()

    @contextmanager
    def making(self, stage: Stage, ref: PartitionRef, made_of: Any) -> Iterator[Record | None]:
        """A stage of a partition is made within the body, unless a record is given: a replay has made it of the same before."""
        yield None

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


def open_resources(name: str, flow_run: str = "", variant: Variant = PRODUCTION) -> Resources:
    """Everything about one model, from its folder and the environment.

    Raises:
        ConfigError: the folder is missing or wrong, or the variant's config is.
    """
    return Resources(load_model(name, override=variant.override), load_settings(), flow_run, variant)


def uncommitted(root: Path) -> list[str]:
    """Files of code and config that differ from a checkout's commit, or are not in it; none where there is no git."""
    if not (root / ".git").exists():
        return []
    command = [
        "git",
        "-C",
        str(root),
        "--no-optional-locks",
        "status",
        "--porcelain",
        "--",
        "tasks",
        "configs",
        "flows",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ["not known: git did not answer"]
    return [line[3:] for line in done.stdout.splitlines()]


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
