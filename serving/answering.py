"""Score one request: validate its rows, predict them, record the predictions and pass the rows to the challenger."""

import logging
import time
from typing import Any

import numpy as np

from serving import metrics
from serving.canary import CanaryRun, canary_mask
from serving.contract import InputRows
from serving.envelope import Table
from serving.follower import ChampionState
from serving.journal import Call, ScoredRows
from serving.problems import Problem
from serving.shadow import Shadow, ShadowRequest
from serving.sink import Sink
from serving.versions import NonFinitePrediction, ServedVersion
from tasks.storage.answer_log import CANARY, CHAMPION

log = logging.getLogger("serving")


def score_request(table: Table, state: ChampionState, call: Call, sink: Sink, shadow: Shadow) -> dict[str, Any]:
    """Return the response to a request: its predictions and the versions that made them.

    The canary predicts its share of the rows. All rows are predicted by the versions in `state`, even if the champion changes meanwhile.

    Raises:
        Problem: A row violates the contract, the predictions cannot be recorded, or the model fails.
    """
    champion, canary = state.champion, state.canary
    assert champion is not None
    inputs = champion.contract.validate(table, call.at)
    sink.require_capacity(inputs.rows)
    predictions, served = _predict(champion, inputs), champion
    canary_rows, champion_rows = _split_rows(canary, inputs, call) if canary else (None, None)
    champion_inputs = inputs if champion_rows is None else _select_rows(inputs, champion_rows)
    versions: list[str] = []
    canary_inputs = None if canary_rows is None else _select_rows(inputs, canary_rows)
    if canary and canary_inputs and (canary_predictions := _predict_canary(canary, canary_inputs)) is not None:
        assert canary_rows is not None
        predictions = predictions.copy()
        predictions[canary_rows] = canary_predictions
        _record(canary.served.scored_rows(CANARY, canary_inputs, canary_predictions, call, canary_rows), sink)
        if champion_inputs.rows:
            remaining = predictions[champion_rows]
            _record(champion.scored_rows(CHAMPION, champion_inputs, remaining, call, champion_rows), sink)
            is_canary = np.isin(np.arange(inputs.rows), canary_rows)
            versions = np.where(is_canary, canary.served.version, champion.version).tolist()
        else:
            served = canary.served
    else:
        _record(champion.scored_rows(CHAMPION, inputs, predictions, call), sink)
    if state.challenger and champion_inputs.rows and state.challenger.accepts(champion_inputs):
        shadow.submit(ShadowRequest(state.challenger, champion_inputs, call, champion_rows))
    content = {
        "predictions": predictions.tolist(),
        "model": champion.model,
        "version": served.version,
        "as_of": served.ref.as_of,
        "request_id": call.id,
    }
    return content | {"versions": versions} if versions else content


def _record(scored: ScoredRows, sink: Sink) -> None:
    metrics.with_labels(metrics.ROWS, scored.model, scored.version, scored.role).inc(scored.rows)
    sink.put(scored)


def _predict(served: ServedVersion, inputs: InputRows) -> np.ndarray:
    """Return the champion's predictions.

    Raises:
        Problem: A prediction is NaN or infinite.
    """
    try:
        return served.predict(inputs)
    except NonFinitePrediction as error:
        detail = f"{error}; run `rollback` to serve another version"
        raise Problem(500, "no-number", "The model failed", detail) from None


def _split_rows(canary: CanaryRun, inputs: InputRows, call: Call) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Return the positions of the canary's rows and of the champion's rows, or None and None if the canary has no rows."""
    if canary.broken or not canary.served.accepts(inputs):
        return None, None
    keys = [key or f"{call.id}-{at}" for at, key in enumerate(inputs.keys)]
    mask = canary_mask(canary.served.model, keys, canary.rule.share)
    return (np.flatnonzero(mask), np.flatnonzero(~mask)) if mask.any() else (None, None)


def _predict_canary(canary: CanaryRun, inputs: InputRows) -> np.ndarray | None:
    """Return the challenger's predictions, or None if it fails. Failed rows count for its budget, and the champion predicts them."""
    predictions, started, model, version = None, time.perf_counter(), canary.served.model, canary.served.version
    try:
        predictions = canary.served.predict(inputs)
    except Exception as error:  # noqa: BLE001  (no failure of a challenger may fail the request)
        name, about = type(error).__name__, {"model": model, "version": version}
        log.warning("version %s of %s failed to predict its canary rows: %s", version, model, name, extra=about)
    canary.record(inputs.rows, inputs.rows if predictions is None else 0, (time.perf_counter() - started) * 1000)
    outcome = "failed" if predictions is None else "answered"
    metrics.with_labels(metrics.CANARY, model, version, outcome).inc(inputs.rows)
    return predictions


def _select_rows(inputs: InputRows, positions: np.ndarray) -> InputRows:
    """Return the rows at some positions."""
    at = positions.tolist()
    values = {
        name: column[positions] if isinstance(column, np.ndarray) else [column[i] for i in at]
        for name, column in inputs.values.items()
    }
    return InputRows(values, len(at), [inputs.keys[i] for i in at], [inputs.times[i] for i in at])
