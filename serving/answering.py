"""From the rows of one request to its answer: hold them to the contract, predict, keep, and let the challenger see them."""

import logging
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from serving import metrics
from serving.canary import Trial, chosen
from serving.contract import Given
from serving.envelope import Table
from serving.follower import Reign
from serving.journal import Answered
from serving.problems import Problem
from serving.shadow import Asked, Shadow
from serving.sink import Sink
from serving.versions import NoNumber, Served
from tasks.served import CANARY, CHAMPION

log = logging.getLogger("serving")

NOBODY: np.ndarray = np.empty(0, dtype="int64")
"""The positions of the challenger's rows where it has none."""


Rows = tuple[Given, np.ndarray, np.ndarray | None]
"""Some rows of a request: what was asked, what was said, and their positions in the request, None for all."""


@dataclass(frozen=True)
class Call:
    """One request: its id here, what the client calls it, and when it came."""

    id: str
    client_id: str
    at: datetime


def answer(table: Table, reign: Reign, call: Call, sink: Sink, shadow: Shadow) -> dict[str, Any]:
    """The predictions of a request's rows, with who made them; every row of it by the versions of one moment.

    Raises:
        Problem: rows that the model does not take; answers that cannot be kept; a model that fails.
    """
    champion, trial = reign.champion, reign.trial
    assert champion is not None
    given = champion.contract.hold(table, call.at)
    sink.room(given.rows)
    said, mine = _said(champion, given), NOBODY
    if trial and not trial.broken and trial.served.takes(given):
        said, mine = _with_share(trial, said, given, call)
    by = trial.served if trial and len(mine) == given.rows else champion
    content = {
        "predictions": said.tolist(),
        "model": champion.model,
        "version": by.version,
        "as_of": by.pick.as_of,
        "request_id": call.id,
    }
    rest: Rows = (given, said, None)
    if trial and len(mine):
        others = np.setdiff1d(np.arange(given.rows), mine)
        rest = (_part(given, others), said[others], others)
        sink.put(_kept(trial.served, CANARY, (_part(given, mine), said[mine], mine), call))
        if len(others):
            versions: np.ndarray = np.full(given.rows, champion.version, dtype=object)
            versions[mine] = trial.served.version
            content["versions"] = versions.tolist()
    if rest[0].rows:
        sink.put(_kept(champion, CHAMPION, rest, call))
        if reign.challenger and reign.challenger.takes(given):
            shadow.ask(Asked(reign.challenger, rest[0], call.id, call.at, rest[2]))
    return content


def _kept(by: Served, role: str, rows: Rows, call: Call) -> Answered:
    """What goes on record of the rows that one version has answered."""
    given, said, places = rows
    metrics.of(metrics.ROWS, by.model, by.version, role).inc(given.rows)
    return Answered(by.model, given, said, by.version, by.pick.as_of, role, call.id, call.at, call.client_id, places)


def _said(served: Served, given: Given) -> np.ndarray:
    """What a version says.

    Raises:
        Problem: it says something that is no number.
    """
    try:
        return served.answer(given)
    except NoNumber as error:
        raise Problem(500, "no-number", "The model failed", f"{error}; `rollback` to another version") from None


def _with_share(trial: Trial, said: np.ndarray, given: Given, call: Call) -> tuple[np.ndarray, np.ndarray]:
    """The champion's predictions with the challenger's in their place where a key is its, and the positions of those."""
    model = trial.served.model
    keys = [key or f"{call.id}-{at}" for at, key in enumerate(given.keys)]
    mine = np.flatnonzero(chosen(model, keys, trial.rule.share))
    if not len(mine):
        return said, mine
    began = time.perf_counter()
    try:
        other, failed = trial.served.answer(_part(given, mine)), 0
    except Exception as error:  # noqa: BLE001  (whatever a challenger does, the champion answers)
        log.warning("version %s of %s failed at its share: %s", trial.served.version, model, type(error).__name__)
        other, failed = said[mine], len(mine)
    trial.tell(len(mine), failed, (time.perf_counter() - began) * 1000)
    outcome = "failed" if failed else "answered"
    metrics.of(metrics.CANARY, model, trial.served.version, outcome).inc(len(mine))
    if failed:
        return said, NOBODY
    said = said.copy()
    said[mine] = other
    return said, mine


def _part(given: Given, places: np.ndarray) -> Given:
    """Some of the rows."""
    at = places.tolist()
    values = {
        name: column[places] if isinstance(column, np.ndarray) else [column[i] for i in at]
        for name, column in given.values.items()
    }
    return Given(values, len(at), [given.keys[i] for i in at], [given.times[i] for i in at])
