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
from serving.versions import Served
from tasks.served import CANARY, CHAMPION

log = logging.getLogger("serving")


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
    champion = reign.champion
    assert champion is not None
    given = champion.contract.hold(table, call.at)
    sink.room(given.rows)
    said = _said(champion, given)
    mine: np.ndarray = np.zeros(given.rows, dtype=bool)
    trial = reign.trial
    if trial and not trial.broken and trial.served.takes(given):
        said, mine = _with_share(trial, said, given, call)
    by = trial.served if trial and mine.all() else champion
    content: dict[str, Any] = {"predictions": said.tolist(), "model": champion.model, "version": by.version}
    content |= {"as_of": by.pick.as_of, "request_id": call.id}
    if trial and mine.any() and not mine.all():
        content["versions"] = [trial.served.version if one else champion.version for one in mine]
    for served, role, places in ((champion, CHAMPION, ~mine), (trial and trial.served, CANARY, mine)):
        if served and places.any():
            kept = None if places.all() else np.flatnonzero(places)
            rows = said if kept is None else said[kept]
            sink.put(
                Answered(
                    champion.model,
                    given,
                    rows,
                    served.version,
                    served.pick.as_of,
                    role,
                    call.id,
                    call.at,
                    call.client_id,
                    kept,
                )
            )
            metrics.ROWS.labels(champion.model, served.version, role).inc(len(rows))
    if reign.challenger and reign.challenger.takes(given):
        shadow.ask(Asked(reign.challenger, given, call.id, call.at))
    return content


def _said(served: Served, given: Given) -> np.ndarray:
    """What a version says.

    Raises:
        Problem: it says something that is no number.
    """
    said = served.answer(given)
    if not np.isfinite(said).all():
        row = int(np.argmin(np.isfinite(said).reshape(given.rows, -1).all(axis=1)))
        detail = (
            f"version {served.version} says something that is no number about row {row}; `rollback` to another version"
        )
        raise Problem(500, "no-number", "The model failed", detail)
    return said


def _with_share(trial: Trial, said: np.ndarray, given: Given, call: Call) -> tuple[np.ndarray, np.ndarray]:
    """The champion's predictions with the challenger's in their place where a key is its, and which those are."""
    model = trial.served.model
    mine = chosen(model, [key or f"{call.id}-{at}" for at, key in enumerate(given.keys)], trial.rule.share)
    if not mine.any():
        return said, mine
    began, rows = time.perf_counter(), int(mine.sum())
    try:
        other = trial.served.answer(_part(given, mine))
        if not np.isfinite(other).all():
            raise ValueError("predictions that are no numbers")
    except Exception as error:  # noqa: BLE001  (whatever a challenger does, the champion answers)
        log.warning("version %s of %s failed at its share: %s", trial.served.version, model, type(error).__name__)
        trial.tell(rows, rows, (time.perf_counter() - began) * 1000)
        metrics.CANARY.labels(model, trial.served.version, "failed").inc(rows)
        return said, np.zeros(given.rows, dtype=bool)
    trial.tell(rows, 0, (time.perf_counter() - began) * 1000)
    metrics.CANARY.labels(model, trial.served.version, "answered").inc(rows)
    said = said.copy()
    said[mine] = other
    return said, mine


def _part(given: Given, mine: np.ndarray) -> Given:
    """Some of the rows."""
    places = np.flatnonzero(mine).tolist()
    values = {
        name: column[mine] if isinstance(column, np.ndarray) else [column[at] for at in places]
        for name, column in given.values.items()
    }
    return Given(values, len(places), [given.keys[at] for at in places], [given.times[at] for at in places])
