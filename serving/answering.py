"""From the rows of one request to its answer: hold them to the contract, predict, keep, and let the challenger see them."""

import logging
import time
from typing import Any

import numpy as np

from serving import metrics
from serving.canary import Trial, chosen
from serving.contract import Given
from serving.envelope import Table
from serving.follower import ChampionState
from serving.journal import Call
from serving.problems import Problem
from serving.shadow import Asked, Shadow
from serving.sink import Sink
from serving.versions import NoNumber, Served
from tasks.storage.answer_log import CANARY, CHAMPION

log = logging.getLogger("serving")


def answer(table: Table, reign: ChampionState, call: Call, sink: Sink, shadow: Shadow) -> dict[str, Any]:
    """The predictions of a request's rows, with who made them; every row of it by the versions of one moment.

    Raises:
        Problem: rows that the model does not take; answers that cannot be kept; a model that fails.
    """
    champion, trial = reign.champion, reign.trial
    assert champion is not None
    given = champion.contract.hold(table, call.at)
    sink.room(given.rows)
    said, by = _said(champion, given), champion
    share, rest = _shared(trial, given, call) if trial else (None, None)
    others = given if rest is None else _part(given, rest)
    versions: list[str] = []
    part = None if share is None else _part(given, share)
    if trial and part and (theirs := _tried(trial, part)) is not None:
        said = said.copy()
        said[share] = theirs
        _keep(trial.served, CANARY, part, theirs, call, share, sink)
        if others.rows:
            _keep(champion, CHAMPION, others, said[rest], call, rest, sink)
            versions = np.where(np.isin(np.arange(given.rows), share), trial.served.version, champion.version).tolist()
        else:
            by = trial.served
    else:
        _keep(champion, CHAMPION, given, said, call, None, sink)
    if reign.challenger and others.rows and reign.challenger.takes(others):
        shadow.ask(Asked(reign.challenger, others, call, rest))
    content = {
        "predictions": said.tolist(),
        "model": champion.model,
        "version": by.version,
        "as_of": by.pick.as_of,
        "request_id": call.id,
    }
    return content | {"versions": versions} if versions else content


def _keep(
    by: Served, role: str, given: Given, said: np.ndarray, call: Call, places: np.ndarray | None, sink: Sink
) -> None:
    """Put on record what one version has answered."""
    metrics.of(metrics.ROWS, by.model, by.version, role).inc(given.rows)
    sink.put(by.answered(role, given, said, call, places))


def _said(served: Served, given: Given) -> np.ndarray:
    """What a version says.

    Raises:
        Problem: it says something that is no number.
    """
    try:
        return served.answer(given)
    except NoNumber as error:
        raise Problem(500, "no-number", "The model failed", f"{error}; `rollback` to another version") from None


def _shared(trial: Trial, given: Given, call: Call) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """The positions of the rows whose keys are the challenger's, and of the others; None and None where it has none."""
    if trial.broken or not trial.served.takes(given):
        return None, None
    keys = [key or f"{call.id}-{at}" for at, key in enumerate(given.keys)]
    mine = chosen(trial.served.model, keys, trial.rule.share)
    return (np.flatnonzero(mine), np.flatnonzero(~mine)) if mine.any() else (None, None)


def _tried(trial: Trial, given: Given) -> np.ndarray | None:
    """What the challenger says about its share; None where it fails, which counts, and the champion answers."""
    said, began, model, version = None, time.perf_counter(), trial.served.model, trial.served.version
    try:
        said = trial.served.answer(given)
    except Exception as error:  # noqa: BLE001  (whatever a challenger does, the champion answers)
        log.warning("version %s of %s failed at its share: %s", version, model, type(error).__name__)
    trial.tell(given.rows, given.rows if said is None else 0, (time.perf_counter() - began) * 1000)
    metrics.of(metrics.CANARY, model, version, "failed" if said is None else "answered").inc(given.rows)
    return said


def _part(given: Given, places: np.ndarray) -> Given:
    """Some of the rows."""
    at = places.tolist()
    values = {
        name: column[places] if isinstance(column, np.ndarray) else [column[i] for i in at]
        for name, column in given.values.items()
    }
    return Given(values, len(at), [given.keys[i] for i in at], [given.times[i] for i in at])
