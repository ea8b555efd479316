"""The challenger's answers to what the champion was asked, off the requests' path. Nobody acts on them; they are on record."""

import logging
import queue
import threading
import time
from dataclasses import dataclass

import numpy as np

from serving import metrics
from serving.contract import Given
from serving.journal import Call
from serving.sink import Sink
from serving.versions import Served
from tasks.storage.answer_log import SHADOW

log = logging.getLogger("serving")

WAITING = 10_000
"""Rows that may wait; with more, some requests are left out, since the champion's have the cores."""


@dataclass(frozen=True)
class Asked:
    """A request that the champion has answered, for the challenger."""

    by: Served
    given: Given
    call: Call
    places: np.ndarray | None = None
    """Which rows of the request these are; None for all."""


class Shadow:
    """One thread that answers what the champion was asked by the challengers, one request after another."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._asked: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._rows, self._count = 0, threading.Lock()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, patience: float = 10) -> None:
        """Answer what waits, and end."""
        self._asked.put(None)
        self._thread.join(patience)

    def ask(self, asked: Asked) -> None:
        """Let the challenger answer it later; left out where too many wait."""
        with self._count:
            full = self._rows > WAITING
            self._rows += 0 if full else asked.given.rows
        if full:
            metrics.of(metrics.SHADOW, asked.by.model, asked.by.version, "left out").inc(asked.given.rows)
        else:
            self._asked.put(asked)

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            by, began = asked.by, time.perf_counter()
            try:
                said = by.answer(asked.given)
                self.sink.room(asked.given.rows)
                self.sink.put(by.answered(SHADOW, asked.given, said, asked.call, asked.places))
                outcome = "answered"
            except Exception as error:  # noqa: BLE001  (whatever a challenger does, the champion goes on)
                log.warning("version %s of %s failed in the shadow: %s", by.version, by.model, type(error).__name__)
                outcome = "failed"
            metrics.of(metrics.SHADOW, by.model, by.version, outcome).inc(asked.given.rows)
            with self._count:
                self._rows -= asked.given.rows
            metrics.of(metrics.SHADOW_SECONDS, by.model).observe(time.perf_counter() - began)
