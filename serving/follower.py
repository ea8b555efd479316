"""Which versions answer: the ledger's champion of each model, and its challenger in the shadow or with a share of requests.

A thread looks at the ledger twice a second. A new champion is loaded and asked beside the one that answers, and takes its place in
one step; one that fails is not taken. What was taken last is noted on this machine's disk, so that a start without ledger and
registry goes on with it.
"""

import json
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from configs.errors import ConfigError
from serving import metrics
from serving.canary import Trial
from serving.versions import Pick, Served, take
from tasks.contracts import SERVING, Promotion
from tasks.errors import EvergreenError, RegistryUnavailable, StaleDecision
from tasks.lake import replacing
from tasks.ledger.promotions import newest_rows
from tasks.resources import Resources, open_resources

log = logging.getLogger("serving")

PAUSE = 0.5
"""Seconds between two looks at the ledger."""
AGAIN = 10.0
"""Seconds after which a version that could not be fetched is tried again."""


@dataclass(frozen=True)
class Reign:
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

    def __init__(self, names: list[str], note: Path, database: str) -> None:
        self.note, self.database = note, database
        self.reigns: dict[str, Reign] = {name: Reign() for name in names}
        self.resources: dict[str, Resources] = {}
        self.answered = 0.0
        """When the ledger last answered, by `time.monotonic`; 0 for never."""
        self.silence = ""
        """Why the ledger does not answer; empty where it does."""
        self._seen: dict[str, int] = {}
        self._again: dict[str, float] = {}
        self._ahead = ThreadPoolExecutor(1, "fetch")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        for name in names:
            try:
                self.resources[name] = open_resources(name)
            except ConfigError as error:
                log.error("model %s is not served: %s", name, error)
                self.reigns[name] = Reign(problem=f"its folder cannot be read: {error}", settled=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(10)
        self._ahead.shutdown(wait=False, cancel_futures=True)

    @property
    def ready(self) -> bool:
        """Whether every model has been looked at once."""
        return all(reign.settled for reign in self.reigns.values())

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception:  # a thread that ends would leave an old champion for ever
                log.exception("looking at the ledger failed; it is tried again")
            if self._over.wait(PAUSE):
                return

    def look(self) -> None:
        """Look at the ledger once, and follow it where a model has a new row or something is to be tried again."""
        try:
            self._look()
        except sa.exc.SQLAlchemyError as error:
            self._silent(error)

    def _look(self) -> None:
        newest = newest_rows(self.database)
        if self.silence:
            log.warning("the ledger answers again")
        self.silence, self.answered = "", time.monotonic()
        for name, res in self.resources.items():
            self._stop_broken(name, res)
            due = self._again.get(name, float("inf")) <= time.monotonic()
            if due or self._seen.get(name) != newest.get(name, 0):
                self._again.pop(name, None)
                self._follow(name, res)
                self._seen[name] = newest.get(name, 0)

    def _silent(self, error: Exception) -> None:
        if not self.silence:
            log.error("the ledger does not answer (%s); what is served goes on", type(error).__name__)
        self.silence = type(error).__name__
        for name, res in self.resources.items():
            if not self.reigns[name].settled:
                self._follow_note(name, res)

    # One model

    def _follow(self, name: str, res: Resources) -> None:
        """Serve what the ledger wants of one model; what is served already stays where that fails."""
        champion, challenger = res.ledger.champion(), res.ledger.challenger()
        before = self.reigns[name]
        problem, served = "", before.champion
        if champion is None:
            served = None
        elif not _is(before.champion, wanted := _pick(champion, res)):
            served, problem = self._take(name, wanted, before.champion, res)
        self.reigns[name] = replace(before, champion=served, problem=problem, settled=True)
        if served is not before.champion:
            self._note(name, served)
            metrics.CHANGES.labels(name).inc()
            metrics.VERSION.labels(name).set(float(served.version) if served else 0)
            log.info("%s: version %s answers now", name, served.version if served else "none")
        self._follow_challenger(name, challenger, res)
        self._ahead.submit(self._fetch_ahead, res)

    def _take(self, name: str, wanted: Pick, before: Served | None, res: Resources) -> tuple[Served | None, str]:
        """The version that is wanted, or the one before with the reason; what may work later is tried again."""
        try:
            return take(wanted, res), ""
        except Exception as error:  # noqa: BLE001  (whatever a file does when it is loaded, the version before goes on)
            metrics.TAKEN.labels(name).inc()
            if isinstance(error, RegistryUnavailable | OSError):
                self._again[name] = time.monotonic() + AGAIN
            told = str(error) if isinstance(error, EvergreenError) else f"{type(error).__name__}: {error}"
            going = f"version {before.version} goes on" if before else "nothing is served"
            log.error("%s: version %s was not taken, %s: %s", name, wanted.version, going, told)
            return before, f"version {wanted.version} was not taken, {going}: {told}"

    def _follow_challenger(self, name: str, row: Promotion | None, res: Resources) -> None:
        """The challenger answers in the shadow, and its share where model.yaml gives it one."""
        rules, before = res.config.promotion, self.reigns[name]
        if row is None or not (rules.shadow.partitions or rules.canary):
            self.reigns[name] = replace(before, challenger=None, trial=None)
            return
        wanted = _pick(row, res)
        if not _is(before.challenger, wanted):
            try:
                taken = take(wanted, res)
            except Exception as error:  # noqa: BLE001
                log.error("%s: challenger %s was not taken: %s", name, wanted.version, error)
                self._again[name] = time.monotonic() + AGAIN
                self.reigns[name] = replace(before, challenger=None, trial=None)
                return
            trial = Trial(rules.canary, taken) if rules.canary and before.champion else None
            if trial:
                self._begin(trial, row, res)
            self.reigns[name] = replace(before, challenger=taken, trial=trial)

    def _begin(self, trial: Trial, row: Promotion, res: Resources) -> None:
        """Write down, once, that a challenger gets its share; other hosts may have done so."""
        rows = res.ledger.promotions()
        if any(one.action == "canary" and one.version == row.version and one.sequence > row.sequence for one in rows):
            return
        reason = f"gets {trial.rule.share:.1%} of the requests, by its promotion.canary"
        self._write("canary", reason, trial, row, res)

    def _stop_broken(self, name: str, res: Resources) -> None:
        """Refuse a challenger whose budget has broken. It is given no rows since then."""
        trial = self.reigns[name].trial
        if trial is None or not trial.broken:
            return
        staged = res.ledger.challenger()
        if staged and staged.version == trial.served.version:
            log.error("%s: challenger %s is refused: %s", name, staged.version, trial.broken)
            self._write("refuse", f"its share of requests broke a budget: {trial.broken}", trial, staged, res)
        self.reigns[name] = replace(self.reigns[name], trial=None)

    def _write(self, action: str, reason: str, trial: Trial, row: Promotion, res: Resources) -> None:
        with suppress(StaleDecision):
            champion = res.ledger.champion()
            res.ledger.append(
                replace(
                    row,
                    action=action,  # type: ignore[arg-type]
                    by=SERVING,
                    reason=reason,
                    evidence=trial.evidence(),
                    previous=champion.version if champion else None,
                    against=champion.sequence if champion else 0,
                    flow_run="",
                    assurance="automation",
                )
            )

    def _fetch_ahead(self, res: Resources) -> None:
        """Have the files of what may be champion next: the newest version, and the one before the champion."""
        with suppress(EvergreenError, OSError, sa.exc.SQLAlchemyError):
            rows = res.ledger.promotions()
            reigned = [row.version for row in rows if row.to_stage == "champion"]
            for version in {row.version for row in rows[-1:]} | set(reigned[-2:]):
                res.registry.local_copy(version)

    # What is noted for a start without a ledger

    def _note(self, name: str, served: Served | None) -> None:
        path = self.note / f"{name}.json"
        if served is None:
            path.unlink(missing_ok=True)
            return
        try:
            with replacing(path) as draft:
                draft.write_text(json.dumps(asdict(served.pick), default=str), encoding="utf-8")
        except OSError as error:
            log.error("%s: cannot be noted that version %s answers: %s", name, served.version, error)

    def _follow_note(self, name: str, res: Resources) -> None:
        """Go on with what was served last."""
        try:
            held = json.loads((self.note / f"{name}.json").read_text(encoding="utf-8"))
            wanted = Pick(**(held | {"as_of": datetime.fromisoformat(held["as_of"])}))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.error("%s: what was served last cannot be read: %s", name, error)
            return
        served, problem = self._take(name, wanted, None, res)
        self.reigns[name] = Reign(champion=served, problem=problem, settled=served is not None)


def _pick(row: Promotion, res: Resources) -> Pick:
    digest = str(row.evidence.get("digest", "")) or res.ledger.digest(row.version)
    return Pick(row.version, row.as_of.astimezone(UTC), digest, row.sequence)


def _is(served: Served | None, wanted: Pick) -> bool:
    """Whether a version is served already. The same version may be champion again by another row, with another as-of."""
    return served is not None and served.pick == wanted


def told(reigns: Mapping[str, Reign]) -> dict[str, str]:
    """The problems of models, by name."""
    return {name: reign.problem for name, reign in reigns.items() if reign.problem}
