"""From the rows of one request to its answer: hold them to the contract, predict, keep, and let the challenger see them."""

import logging
import time
from datetime import datetime
from typing import Any

import numpy as np

from serving import metrics
from serving.canary import Trial, chosen
from serving.contract import Given
from serving.envelope import Table
from serving.follower import Reign
from serving.problems import Problem
from serving.shadow import Asked, Shadow
from serving.sink import Answered, Sink
from serving.versions import Served
from tasks.served import CANARY, CHAMPION

log = logging.getLogger("serving")


def answer(table: Table, reign: Reign, own: str, now: datetime, sink: Sink, shadow: Shadow) -> dict[str, Any]:
    """The predictions of a request's rows, with who made them; every row of it by the versions of one moment.

    Raises:
        Problem: rows that the model does not take; answers that cannot be kept; a model that fails.
    """
    champion = reign.champion
    assert champion is not None
    given = champion.contract.hold(table, now)
    sink.room(given.rows)
    trial = reign.trial if reign.trial and not reign.trial.broken else None
    said, mine = _by_both(trial, champion, given, own) if trial else (_said(champion, given), None)
    content: dict[str, Any] = {
        "predictions": said.tolist(),
        "model": champion.model,
        "version": champion.version,
        "as_of": champion.pick.as_of,
        "request_id": own,
    }
    if mine is None or not mine.any():
        _keep(champion, CHAMPION, given, said, own, now, sink)
    else:
        assert trial is not None
        other = trial.served
        content["versions"] = [other.version if one else champion.version for one in mine]
        for by, role, places in ((champion, CHAMPION, ~mine), (other, CANARY, mine)):
            if places.any():
                _keep(by, role, given, said, own, now, sink, np.flatnonzero(places))
    if reign.challenger:
        shadow.ask(Asked(reign.challenger, given, own, now))
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


def _by_both(trial: Trial, champion: Served, given: Given, own: str) -> tuple[np.ndarray, np.ndarray]:
    """Champion's predictions, those of the challenger in their place where a key is its, and which those are."""
    said = _said(champion, given)
    keys = [key or f"{own}-{at}" for at, key in enumerate(given.keys)]
    mine = chosen(champion.model, keys, trial.rule.share)
    if not mine.any():
        return said, mine
    began, rows = time.perf_counter(), int(mine.sum())
    try:
        other = trial.served.answer(_part(given, mine))
        if not np.isfinite(other).all():
            raise ValueError("predictions that are no numbers")
    except Exception as error:  # noqa: BLE001  (whatever a challenger does, the champion answers)
        log.warning(
            "version %s of %s failed at its share: %s", trial.served.version, champion.model, type(error).__name__
        )
        trial.tell(rows, rows, (time.perf_counter() - began) * 1000)
        metrics.CANARY.labels(champion.model, trial.served.version, "failed").inc(rows)
        return said, np.zeros(given.rows, dtype=bool)
    trial.tell(rows, 0, (time.perf_counter() - began) * 1000)
    metrics.CANARY.labels(champion.model, trial.served.version, "answered").inc(rows)
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


def _keep(
    by: Served,
    role: str,
    given: Given,
    said: np.ndarray,
    own: str,
    now: datetime,
    sink: Sink,
    places: np.ndarray | None = None,
) -> None:
    rows = given.rows if places is None else len(places)
    own_said = said if places is None else said[places]
    sink.put(Answered(by.model, given, own_said, by.version, by.pick.as_of, role, own, now, places))
    metrics.ROWS.labels(by.model, by.version, role).inc(rows)
