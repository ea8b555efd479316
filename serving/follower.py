"""Keep the versions in memory that the ledger wants served: each model's champion, and its challenger in shadow mode or as a canary.

A thread polls the ledger twice a second. A new champion is loaded and tested while the current one serves, and then replaces it in
one step. If it fails, the current one stays. The version in use is saved on the local disk, so that a server that starts without
ledger and registry can serve it.
"""

import importlib
import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from serving import metrics
from serving.canary import CanaryRun, record_start, refuse
from serving.fetching import DownloadPending, Fetcher
from serving.folders import RETRY_SECONDS, ModelFolders
from serving.notes import read_last_served, write_last_served
from serving.versions import FailedSmokeTest, ServedVersion, VersionRef, serve_model
from tasks.contracts import Promotion
from tasks.contracts.words import without_credentials
from tasks.errors import EvergreenError, ForgedVersion, RegistryUnavailable
from tasks.ledger.promotions import newest_sequences
from tasks.resources import LiveResources

log = logging.getLogger("serving")

POLL_INTERVAL = 0.5
"""Seconds between two polls of the ledger."""
MAX_CACHED = 3
"""Versions of a model that stay in memory: champion, challenger and previous champion."""


@dataclass(frozen=True)
class ChampionState:
    """The versions that serve one model now. It is replaced as a whole, so that a request uses one consistent state."""

    champion: ServedVersion | None = None
    challenger: ServedVersion | None = None
    canary: CanaryRun | None = None
    problem: str = ""
    """Why the ledger's champion is not the one in use, else empty."""
    checked: bool = False
    """Whether the ledger, or the version saved on the local disk, has been read."""


class Follower:
    """The thread that polls the ledger, and the versions in use by model (`states`)."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder, self.database = folder, database
        self.states: dict[str, ChampionState] = {}
        """By model. The thread adds and removes keys, so iterate over a copy."""
        self._folders = ModelFolders()
        self.resources, self.configs, self.config_errors = (
            self._folders.resources,
            self._folders.configs,
            self._folders.errors,
        )
        self.last_contact = 0.0
        """When the ledger last responded (`time.monotonic`), 0 for never."""
        self.ledger_error = ""
        """Why the ledger does not respond, else empty."""
        self._sequences: dict[str, int] = {}
        self._retry_at: dict[str, float] = {}
        self._fetcher = Fetcher()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._cache: dict[str, dict[tuple[str, str], ServedVersion]] = {}
        self._changed_configs: set[str] = set()
        self.read_folders()

    def start(self) -> None:
        """Start the thread that reads the ledgers."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and the downloads. Waits at most 10 s."""
        self._stopping.set()
        self._thread.join(10)
        self._fetcher.stop()

    @property
    def problems(self) -> dict[str, str]:
        """The current problem of each model that has one, as text."""
        errors = dict(self.config_errors)
        problems = {name: state.problem for name, state in dict(self.states).items() if state.problem}
        return {name: "; ".join(filter(None, (errors.get(name), problems.get(name)))) for name in errors | problems}

    @property
    def ready(self) -> bool:
        """Whether every model has been checked once."""
        return all(state.checked for state in dict(self.states).values())

    def _run(self) -> None:
        preload()
        while True:
            try:
                self.poll()
            except Exception as error:  # noqa: BLE001  (if the thread ended, an outdated champion would stay)
                log.error("polling the ledger failed: %s; retrying", type(error).__name__)
            if self._stopping.wait(POLL_INTERVAL):
                return

    def poll(self) -> None:
        """Read the ledger once, and update each model that has a new row or a retry that is due."""
        self.read_folders()
        try:
            newest = newest_sequences(self.database)
            if self.ledger_error:
                log.warning("the ledger responds again")
            self.ledger_error, self.last_contact = "", time.monotonic()
            for name, res in list(self.resources.items()):
                self._poll_model(name, res, newest.get(name, 0))
        except sa.exc.SQLAlchemyError as error:
            self._on_ledger_error(error)

    def _poll_model(self, name: str, res: LiveResources, newest: int) -> None:
        try:
            self._refuse_broken(name, res)
            if not self._is_due(name) and self._sequences.get(name) == newest:
                return
            self._retry_at.pop(name, None)
            self._follow(name, res, newest)
        except sa.exc.SQLAlchemyError:
            raise
        except Exception as error:  # noqa: BLE001  (one model's failure must not stop the others)
            log.error(
                "the versions of %s cannot be updated: %s; retrying", name, type(error).__name__, extra={"model": name}
            )
            self._retry_at[name] = time.monotonic() + RETRY_SECONDS
        self._sequences[name] = newest

    def _is_due(self, name: str) -> bool:
        return self._retry_at.get(name, float("inf")) <= time.monotonic()

    def _on_ledger_error(self, error: Exception) -> None:
        if not self.ledger_error:
            log.error("the ledger does not respond (%s); the last champions stay in use", type(error).__name__)
        self.ledger_error = type(error).__name__
        for name, res in self.resources.items():
            if not self.states[name].checked and (name not in self._retry_at or self._is_due(name)):
                self._retry_at[name] = time.monotonic() + RETRY_SECONDS
                self._serve_last(name, res)

    @property
    def age(self) -> float:
        """Seconds since the last response of the ledger, infinite if there was none."""
        return time.monotonic() - self.last_contact if self.last_contact else float("inf")

    def read_folders(self) -> None:
        """Read the model folders that are new or changed. If one cannot be read, its previous configuration stays in use."""
        names, changed = self._folders.read()
        for name in names:
            state = self.states.setdefault(name, ChampionState())
            if name in self.config_errors and not state.checked:
                self.states[name] = replace(state, checked=True)
        for name in changed:
            self.states[name] = replace(self.states[name], challenger=None, canary=None)
            self._changed_configs.add(name)
            self._forget(name, self._cache, self._sequences)
        for removed in self.states.keys() - set(names):
            self._forget(removed, self.states, self._sequences, self._retry_at, self._cache)
            self._changed_configs.discard(removed)

    @staticmethod
    def _forget(name: str, *mappings: dict[str, Any]) -> None:
        for mapping in mappings:
            mapping.pop(name, None)

    # One model

    def _follow(self, name: str, res: LiveResources, newest: int) -> None:
        """Serve the ledger's champion and challenger of one model. If the champion cannot be loaded, the current one stays."""
        champion, challenger = res.ledger.champion(), res.ledger.challenger()
        before = self.states[name]
        problem, served = "", before.champion
        if champion:
            wanted = _version_ref(champion, res)
            if name in self._changed_configs or not _is_served(before.champion, wanted):
                served, problem = self._load_or_keep(name, wanted, before.champion, res)
        elif not newest and (last_served := read_last_served(self.folder, name)):
            if served is None:
                served, problem = self._load_or_keep(name, last_served, None, res)
            problem = problem or (
                f"the ledger has no row of this model, but version {last_served.version} was served last and stays in use; "
                "check that EVERGREEN_DATABASE_URL is right"
            )
        else:
            served = None
        if not problem:
            self._changed_configs.discard(name)
        self.states[name] = replace(before, champion=served, problem=problem, checked=True)
        if served is not before.champion:
            self._record_change(name, served)
        self._follow_challenger(name, challenger, res)
        self._prefetch(res)

    def _record_change(self, name: str, served: ServedVersion | None) -> None:
        write_last_served(self.folder, name, served.ref if served else None)
        metrics.CHANGES.labels(name).inc()
        metrics.VERSION.labels(name).set(float(served.version) if served else 0)
        about = {"model": name, "version": served.version if served else ""}
        log.info("%s: the champion in use is now version %s", name, about["version"] or "none", extra=about)

    def _load(self, name: str, wanted: VersionRef, res: LiveResources) -> ServedVersion:
        """Return a version that is loaded and tested. Recent versions stay in memory, so that a rollback takes no time."""
        cached = self._cache.setdefault(name, {})
        served = cached.pop((wanted.version, wanted.digest), None)
        if served is None:
            served = serve_model(self._fetcher.load(res, wanted.version, wanted.digest), wanted, res)
        served = replace(served, ref=wanted)
        cached[wanted.version, wanted.digest] = served
        while len(cached) > MAX_CACHED:
            cached.pop(next(iter(cached)))
        return served

    def _load_or_keep(
        self, name: str, wanted: VersionRef, current: ServedVersion | None, res: LiveResources
    ) -> tuple[ServedVersion | None, str]:
        """Return the wanted version and no problem, or the current version and why the wanted one cannot be loaded."""
        try:
            return self._load(name, wanted, res), ""
        except Exception as error:  # noqa: BLE001  (whatever fails in loading a file, the current version stays)
            consequence = f"version {current.version} stays in use" if current else "no version is served"
            reason = self._record_failure(name, wanted, error)
            return current, f"version {wanted.version} could not be loaded, {consequence}: {reason}"

    def _record_failure(self, name: str, wanted: VersionRef, error: Exception) -> str:
        """Return why a version could not be loaded, without texts of other libraries. Plans a retry if that may help."""
        message = without_credentials(str(error)) if isinstance(error, EvergreenError) else type(error).__name__
        forged = isinstance(error, ForgedVersion) and not isinstance(error.__cause__, RegistryUnavailable)
        if not (forged or isinstance(error, FailedSmokeTest)):
            delay = POLL_INTERVAL if isinstance(error, DownloadPending) else RETRY_SECONDS
            self._retry_at[name] = time.monotonic() + delay
        if not isinstance(error, DownloadPending):
            metrics.LOAD_FAILURES.labels(name).inc()
            about = {"model": name, "version": wanted.version}
            log.error("%s: version %s could not be loaded: %s", name, wanted.version, message, extra=about)
        return message

    def _follow_challenger(self, name: str, row: Promotion | None, res: LiveResources) -> None:
        """Load the challenger for shadow mode, and start its canary if model.yaml has one."""
        rule, before = res.config.promotion.canary, self.states[name]
        if row is None:
            self.states[name] = replace(before, challenger=None, canary=None)
            return
        wanted, served = _version_ref(row, res), before.challenger
        if not _is_served(served, wanted):
            try:
                served = self._load(name, wanted, res)
            except Exception as error:  # noqa: BLE001
                self._record_failure(name, wanted, error)
                served = None
        canary = before.canary if before.canary and before.canary.served is served else None
        if rule and served and before.champion and canary is None:
            canary = CanaryRun(rule, served)
            record_start(canary, row, res)
        self.states[name] = replace(before, challenger=served, canary=canary)

    def _refuse_broken(self, name: str, res: LiveResources) -> None:
        """Refuse a challenger that exceeded a budget of its canary."""
        canary = self.states[name].canary
        if canary and canary.broken and refuse(canary, res):
            self.states[name] = replace(self.states[name], canary=None)

    def _prefetch(self, res: LiveResources) -> None:
        """Download the versions that may be champion next: the newest one and the previous champion."""
        rows = res.ledger.promotions()
        champions = [row.version for row in rows if row.to_stage == "champion"]
        for version in {row.version for row in rows[-1:]} | set(champions[-2:]):
            with suppress(EvergreenError, OSError):
                self._fetcher.ensure_local(res, version)

    def _serve_last(self, name: str, res: LiveResources) -> None:
        """Serve the version that is saved on the local disk."""
        if wanted := read_last_served(self.folder, name):
            served, problem = self._load_or_keep(name, wanted, None, res)
            self.states[name] = ChampionState(champion=served, problem=problem, checked=served is not None)


def preload() -> None:
    """Import the libraries of every version, which takes seconds, before the first one is loaded."""
    for name in ("pandas", "skops.io", "sklearn.pipeline", "xgboost"):
        importlib.import_module(name)


def _version_ref(row: Promotion, res: LiveResources) -> VersionRef:
    digest = str(row.evidence.get("digest", "")) or res.ledger.digest(row.version)
    return VersionRef(row.version, row.as_of.astimezone(UTC), digest, row.sequence)


def _is_served(served: ServedVersion | None, wanted: VersionRef) -> bool:
    """Whether a version is in use for the same row of the ledger. A later row with the same version has another as-of."""
    return served is not None and served.ref == wanted
