"""Which versions answer: the ledger's champion of each model, and its challenger in the shadow or with a share of requests.

A thread looks at the ledger twice a second. A new champion is loaded and asked beside the one that answers, and takes its place in
one step; one that fails is not taken. What was taken last is noted on this machine's disk, so that a start without ledger and
registry goes on with it.
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

from configs.errors import ConfigError
from configs.load import configs_folder, model_names
from configs.schema import ModelConfig
from serving import metrics
from serving.canary import Trial, begin, refuse
from serving.fetching import BeingFetched, Fetcher
from serving.notes import read_note, write_note
from serving.versions import NotSound, Pick, Served, take
from tasks.contracts import Promotion
from tasks.contracts.words import without_credentials
from tasks.errors import EvergreenError, ForgedVersion
from tasks.ledger.promotions import newest_sequences
from tasks.resources import Resources, open_resources

log = logging.getLogger("serving")

PAUSE = 0.5
"""Seconds between two looks at the ledger."""
KEPT = 3
"""Versions of a model that stay in memory: champion, challenger, and the one before."""
AGAIN = 10.0
"""Seconds after which a version that could not be fetched is tried again."""


@dataclass(frozen=True)
class ChampionState:
    """Who answers for one model now. Replaced as a whole, so that a request sees one state of it."""

    champion: Served | None = None
    challenger: Served | None = None
    trial: Trial | None = None
    problem: str = ""
    """Why what the ledger wants is not what is served; empty where it is."""
    settled: bool = False
    """Whether the ledger, or what was noted of it, has been looked at."""


class Follower:
    """The thread, and what it has found: `reigns` by model."""

    def __init__(self, note: Path, database: str) -> None:
        self.note, self.database = note, database
        self.reigns: dict[str, ChampionState] = {}
        """By model. Its keys change in this thread: who goes through them takes a copy."""
        self.resources: dict[str, Resources] = {}
        self.configs: dict[str, ModelConfig] = {}
        """Of every model whose folder could be read; what is not there any more keeps its last one, for rows that wait."""
        self.unread: dict[str, str] = {}
        """Why a model's folder cannot be read, by model."""
        self.answered = 0.0
        """When the ledger last answered, by `time.monotonic`; 0 for never."""
        self.silence = ""
        """Why the ledger does not answer; empty where it does."""
        self._seen: dict[str, int] = {}
        self._again: dict[str, float] = {}
        self._fetcher = Fetcher()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._kept: dict[str, dict[tuple[str, str], Served]] = {}
        self._stamps: dict[str, object] = {}
        self._unread_again: dict[str, float] = {}
        self._changed: set[str] = set()
        self.read_folders()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(10)
        self._fetcher.stop()

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong with each model, in words."""
        unread = dict(self.unread)
        found = {name: reign.problem for name, reign in dict(self.reigns).items() if reign.problem}
        return {name: "; ".join(filter(None, (unread.get(name), found.get(name)))) for name in unread | found}

    @property
    def ready(self) -> bool:
        """Whether every model has been looked at once."""
        return all(reign.settled for reign in dict(self.reigns).values())

    def _run(self) -> None:
        warm()
        while True:
            try:
                self.look()
            except Exception as error:  # noqa: BLE001  (a thread that ends would leave an old champion for ever)
                log.error("looking at the ledger failed: %s; it is tried again", type(error).__name__)
            if self._over.wait(PAUSE):
                return

    def look(self) -> None:
        """Look at the ledger once, and follow it where a model has a new row or something is to be tried again."""
        self.read_folders()
        try:
            newest = newest_sequences(self.database)
            if self.silence:
                log.warning("the ledger answers again")
            self.silence, self.answered = "", time.monotonic()
            for name, res in list(self.resources.items()):
                self._look_at(name, res, newest.get(name, 0))
        except sa.exc.SQLAlchemyError as error:
            self._silent(error)

    def _look_at(self, name: str, res: Resources, newest: int) -> None:
        try:
            self._stop_broken(name, res)
            if not self._is_due(name) and self._seen.get(name) == newest:
                return
            self._again.pop(name, None)
            self._follow(name, res, newest)
        except sa.exc.SQLAlchemyError:
            raise
        except Exception as error:  # noqa: BLE001  (whatever it is, the other models are followed)
            log.error("%s cannot be followed: %s; it is tried again", name, type(error).__name__)
            self._again[name] = time.monotonic() + AGAIN
        self._seen[name] = newest

    def _is_due(self, name: str) -> bool:
        return self._again.get(name, float("inf")) <= time.monotonic()

    def _silent(self, error: Exception) -> None:
        if not self.silence:
            log.error("the ledger does not answer (%s); what is served goes on", type(error).__name__)
        self.silence = type(error).__name__
        for name, res in self.resources.items():
            if not self.reigns[name].settled and (name not in self._again or self._is_due(name)):
                self._again[name] = time.monotonic() + AGAIN
                self._follow_note(name, res)

    @property
    def age(self) -> float:
        """Seconds since the ledger has last answered; infinite if it never has."""
        return time.monotonic() - self.answered if self.answered else float("inf")

    def read_folders(self) -> None:
        """Read each model's folder that is new or has changed; of one that cannot be read, what was read before goes on."""
        names = model_names()
        for name in names:
            stamp = _stamp(configs_folder() / name / "model.yaml")
            if stamp == self._stamps.get(name) and not self._unread_is_due(name):
                continue
            self._stamps[name] = stamp
            self.reigns.setdefault(name, ChampionState())
            try:
                res = open_resources(name)
            except Exception as error:  # noqa: BLE001  (whatever a file is, the other models are served)
                told = str(error) if isinstance(error, ConfigError) else type(error).__name__
                if name not in self.unread:
                    log.error("the folder of %s cannot be read: %s", name, told)
                self.unread[name] = f"its folder cannot be read: {told}"
                self._unread_again[name] = time.monotonic() + AGAIN
                self.reigns[name] = replace(self.reigns[name], settled=True)
                continue
            self.unread.pop(name, None)
            self.resources[name], self.configs[name] = res, res.config
            self.reigns[name] = replace(self.reigns[name], challenger=None, trial=None)
            self._changed.add(name)
            self._forget(name, self._kept, self._seen, self._unread_again)
        for gone in self.reigns.keys() - set(names):
            self._forget(
                gone, self.reigns, self.resources, self.unread, self._stamps, self._seen, self._again, self._kept
            )
            self._changed.discard(gone)

    @staticmethod
    def _forget(name: str, *known: dict[str, Any]) -> None:
        for one in known:
            one.pop(name, None)

    def _unread_is_due(self, name: str) -> bool:
        """Whether to try a folder again that could not be read: another file of it may be there by now."""
        return self._unread_again.get(name, float("inf")) <= time.monotonic()

    # One model

    def _follow(self, name: str, res: Resources, newest: int) -> None:
        """Serve what the ledger wants of one model; what is served already stays where that fails."""
        champion, challenger = res.ledger.champion(), res.ledger.challenger()
        before = self.reigns[name]
        problem, served = "", before.champion
        if champion:
            wanted = _pick(champion, res)
            if name in self._changed or not _is(before.champion, wanted):
                served, problem = self._take(name, wanted, before.champion, res)
        elif not newest and (noted := read_note(self.note, name)):
            if served is None:
                served, problem = self._take(name, noted, None, res)
            problem = (
                problem
                or f"the ledger has no row of it, but version {noted.version} was served last; is the database the right one?"
            )
        else:
            served = None
        if not problem:
            self._changed.discard(name)
        self.reigns[name] = replace(before, champion=served, problem=problem, settled=True)
        if served is not before.champion:
            self._tell(name, served)
        self._follow_challenger(name, challenger, res)
        self._fetch_ahead(res)

    def _tell(self, name: str, served: Served | None) -> None:
        write_note(self.note, name, served.pick if served else None)
        metrics.CHANGES.labels(name).inc()
        metrics.VERSION.labels(name).set(float(served.version) if served else 0)
        log.info("%s: version %s answers now", name, served.version if served else "none")

    def _loaded(self, name: str, wanted: Pick, res: Resources) -> Served:
        """A version, loaded and asked; one of those that answered lately is in memory still, so a rollback waits for nothing."""
        kept = self._kept.setdefault(name, {})
        found = kept.pop((wanted.version, wanted.digest), None)
        if found is None:
            self._fetcher.need(res, wanted.version)
            found = take(wanted, res)
        found = replace(found, pick=wanted)
        kept[wanted.version, wanted.digest] = found
        while len(kept) > KEPT:
            kept.pop(next(iter(kept)))
        return found

    def _take(self, name: str, wanted: Pick, before: Served | None, res: Resources) -> tuple[Served | None, str]:
        """The version that is wanted, or the one before with the reason; what may work later is tried again."""
        try:
            return self._loaded(name, wanted, res), ""
        except Exception as error:  # noqa: BLE001  (whatever a file does when it is loaded, the version before goes on)
            going = f"version {before.version} goes on" if before else "nothing is served"
            return before, f"version {wanted.version} was not taken, {going}: {self._failed(name, wanted, error)}"

    def _failed(self, name: str, wanted: Pick, error: Exception) -> str:
        """Why a version was not taken, without what others than we say of it; what may work later is tried again."""
        told = without_credentials(str(error)) if isinstance(error, EvergreenError) else type(error).__name__
        if not isinstance(error, NotSound | ForgedVersion):
            self._again[name] = time.monotonic() + (PAUSE if isinstance(error, BeingFetched) else AGAIN)
        if not isinstance(error, BeingFetched):
            metrics.TAKEN.labels(name).inc()
            log.error("%s: version %s was not taken: %s", name, wanted.version, told)
        return told

    def _follow_challenger(self, name: str, row: Promotion | None, res: Resources) -> None:
        """The challenger answers in the shadow, and its share where model.yaml gives it one."""
        rule, before = res.config.promotion.canary, self.reigns[name]
        if row is None:
            self.reigns[name] = replace(before, challenger=None, trial=None)
            return
        wanted, taken = _pick(row, res), before.challenger
        if not _is(taken, wanted):
            try:
                taken = self._loaded(name, wanted, res)
            except Exception as error:  # noqa: BLE001
                self._failed(name, wanted, error)
                taken = None
        trial = before.trial if before.trial and before.trial.served is taken else None
        if rule and taken and before.champion and trial is None:
            trial = Trial(rule, taken)
            begin(trial, row, res)
        self.reigns[name] = replace(before, challenger=taken, trial=trial)

    def _stop_broken(self, name: str, res: Resources) -> None:
        """Refuse a challenger whose budget has broken. It is given no rows since then."""
        trial = self.reigns[name].trial
        if trial and trial.broken and refuse(trial, res):
            self.reigns[name] = replace(self.reigns[name], trial=None)

    def _fetch_ahead(self, res: Resources) -> None:
        """Have the files of what may be champion next: the newest version, and the one before the champion."""
        rows = res.ledger.promotions()
        reigned = [row.version for row in rows if row.to_stage == "champion"]
        for version in {row.version for row in rows[-1:]} | set(reigned[-2:]):
            with suppress(EvergreenError, OSError):
                self._fetcher.need(res, version)

    def _follow_note(self, name: str, res: Resources) -> None:
        """Go on with what was served last."""
        if wanted := read_note(self.note, name):
            served, problem = self._take(name, wanted, None, res)
            self.reigns[name] = ChampionState(champion=served, problem=problem, settled=served is not None)


def warm() -> None:
    """Import what every version needs, so that the first one is not kept waiting by seconds of it."""
    for name in ("pandas", "skops.io", "sklearn.pipeline", "xgboost"):
        importlib.import_module(name)


def _pick(row: Promotion, res: Resources) -> Pick:
    digest = str(row.evidence.get("digest", "")) or res.ledger.digest(row.version)
    return Pick(row.version, row.as_of.astimezone(UTC), digest, row.sequence)


def _is(served: Served | None, wanted: Pick) -> bool:
    """Whether a version is served already. The same version may be champion again by another row, with another as-of."""
    return served is not None and served.pick == wanted


def _stamp(path: Path) -> object:
    """Changes when a file does; None where it has gone just now."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
