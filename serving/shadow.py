"""Shadow mode: the challenger predicts the champion's requests after they were answered. Its predictions are only recorded."""

import logging
import queue
import threading
import time
from dataclasses import dataclass

import numpy as np

from serving import metrics
from serving.contract import InputRows
from serving.journal import Call
from serving.sink import Sink
from serving.versions import ServedVersion
from tasks.storage.answer_log import SHADOW

log = logging.getLogger("serving")

MAX_WAITING = 10_000
"""Rows that may wait. If there are more, requests are skipped, because the champion's requests need the cores."""


@dataclass(frozen=True)
class ShadowRequest:
    """Rows that the champion has predicted, to be predicted by the challenger too."""

    served: ServedVersion
    inputs: InputRows
    call: Call
    positions: np.ndarray | None = None
    """Positions of the rows in the request, None for all."""


class Shadow:
    """A thread that lets challengers predict the champion's requests, one after another."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._requests: queue.SimpleQueue[ShadowRequest | None] = queue.SimpleQueue()
        self._rows, self._count = 0, threading.Lock()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Start the thread that predicts."""
        self._thread.start()

    def stop(self, timeout: float = 10) -> None:
        """Process the waiting requests and end the thread."""
        self._requests.put(None)
        self._thread.join(timeout)

    def submit(self, request: ShadowRequest) -> None:
        """Queue a request for the challenger, or skip it if too many rows wait."""
        served, rows = request.served, request.inputs.rows
        with self._count:
            full = self._rows > MAX_WAITING
            self._rows += 0 if full else rows
        if full:
            metrics.with_labels(metrics.SHADOW, served.model, served.version, "left out").inc(rows)
        else:
            self._requests.put(request)

    def _run(self) -> None:
        while (request := self._requests.get()) is not None:
            served, started = request.served, time.perf_counter()
            try:
                predictions = served.predict(request.inputs)
                self.sink.require_capacity(request.inputs.rows)
                self.sink.put(served.scored_rows(SHADOW, request.inputs, predictions, request.call, request.positions))
                outcome = "answered"
            except Exception as error:  # noqa: BLE001  (no failure of a challenger may end this thread)
                name, about = type(error).__name__, {"model": served.model, "version": served.version}
                log.warning(
                    "version %s of %s failed in shadow mode: %s", served.version, served.model, name, extra=about
                )
                outcome = "failed"
            metrics.with_labels(metrics.SHADOW, served.model, served.version, outcome).inc(request.inputs.rows)
            with self._count:
                self._rows -= request.inputs.rows
            metrics.with_labels(metrics.SHADOW_SECONDS, served.model).observe(time.perf_counter() - started)
