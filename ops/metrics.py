"""Metrics of models, ledger and queues for Prometheus: `python -m ops.metrics`. The scoring server has metrics of its own.

A scrape opens no file and no database. A thread reads models again whose files or ledger have changed, at most every 15 s.
"""

import argparse
import logging
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from configs.errors import ConfigError
from configs.fleets import files_of
from configs.load import configs_folder, model_names
from configs.settings import Settings, disable_telemetry, load_settings
from ops.api import post
from ops.queues import queue_lengths
from tasks.contracts.words import first_line
from tasks.errors import EvergreenError
from tasks.ledger.promotions import newest_entries
from tasks.log_format import set_up_logging
from tasks.reports.metrics import (
    METRICS,
    Metric,
    ModelState,
    Sample,
    describe,
    folder_stamp,
    record_stamp,
    unreadable,
)
from tasks.resources import LiveResources, open_resources

log = logging.getLogger("metrics")
INTERVAL, SHARE = 15.0, 10
"""Seconds between two readings, and at least so many times the duration of a reading: a remote lake is read less often."""
PREFECT_SECONDS = 2.0
"""Timeout of a request to Prefect's server."""
PROGRAM: Mapping[str, Metric] = {
    "evergreen_prefect_up": Metric("1 if Prefect's server lists its queues. At 0 queues have no series", ()),
    "evergreen_queue_runs": Metric(
        "Flow runs in a queue: waiting for a worker although their time has come, or pending with one",
        ("pool", "queue", "state"),
    ),
    "evergreen_read_timestamp_seconds": Metric("When models, ledger and queues were read last, Unix time", ()),
    "evergreen_read_seconds": Metric("Duration of that reading", ()),
}
"""The metrics that are not about one model."""


class _Known(NamedTuple):
    """A model as it was read, and stamps of what it was read from. `files` is None if it must be read again."""

    config: object
    res: LiveResources
    state: ModelState
    files: object


class Exporter(Collector):
    """The values of all metrics as they were read last."""

    def __init__(self, settings: Settings) -> None:
        """Keep the settings. `read` reads the values."""
        self.settings = settings
        self._known: dict[str, _Known] = {}
        self._states: tuple[ModelState, ...] = ()
        self._program: tuple[Sample, ...] = ()
        self._problems: dict[str, str] = {}

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield all metrics with their present values."""
        now = datetime.now(UTC)
        samples: dict[str, list[Sample]] = defaultdict(list)
        for sample in (*self._program, *(s for state in self._states for s in state.samples(now))):
            samples[sample.name].append(sample)
        for name, metric in {**METRICS, **PROGRAM}.items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            values = family(name, metric.help, labels=metric.labels)
            for sample in samples[name]:
                values.add_metric(sample.labels, sample.value)
            yield values

    def read(self) -> float:
        """Read models, ledger and queues. Return the seconds until they should be read again."""
        began = time.monotonic()
        entries, problem = self._entries()
        names = model_names()
        self._states = tuple(self._state(name, entries, problem) for name in names)
        self._known = {name: known for name, known in self._known.items() if name in names}
        queues, seconds = self._queues(), time.monotonic() - began
        reading = (
            Sample("evergreen_read_timestamp_seconds", (), time.time()),
            Sample("evergreen_read_seconds", (), seconds),
        )
        self._program = (*queues, *reading)
        return max(INTERVAL, SHARE * seconds)

    def _entries(self) -> tuple[Mapping[str, int], str]:
        """Return the number of entries that the ledger has about each model, and why it cannot be read; empty if it can."""
        try:
            return newest_entries(self.settings.database), ""
        except Exception as error:  # noqa: BLE001  (each driver has its own errors)
            return {}, f"the ledger does not respond: {type(error).__name__}"

    def _state(self, name: str, entries: Mapping[str, int], problem: str) -> ModelState:
        """Return the state of a model, read again if something has changed. A damaged one does not stop the others."""
        try:
            state = unreadable(name) if problem else self._read(name, entries.get(name, 0))
        except Exception as error:  # noqa: BLE001
            known = isinstance(error, ConfigError | EvergreenError)
            state, problem = unreadable(name), first_line(str(error)) if known else type(error).__name__
        if problem != self._problems.get(name, ""):
            log.log(
                logging.ERROR if problem else logging.INFO, "%s", problem or "can be read again", extra={"model": name}
            )
        self._problems[name] = problem
        return state

    def _read(self, name: str, entry: int) -> ModelState:
        known, config = self._known.get(name), _config_stamp(name)
        if known is None or known.config != config:
            self._known.pop(name, None)
            known = _Known(config, open_resources(name), ModelState(name), None)
        folders = folder_stamp(known.res)
        if known.files is None or known.files != (entry, folders, record_stamp(known.state, known.res)):
            self._known[name] = known._replace(files=None)
            state = describe(known.res)
            files = (entry, folders, record_stamp(state, known.res)) if folders else None
            known = known._replace(state=state, files=files)
        self._known[name] = known
        return known.state

    def _queues(self) -> list[Sample]:
        try:
            ask = partial(post, self.settings, seconds=PREFECT_SECONDS, url=os.environ.get("PREFECT_API_URL", ""))
            lengths = queue_lengths(ask)
        except (OSError, ValueError):
            return [Sample("evergreen_prefect_up", (), 0)]
        runs = (
            Sample("evergreen_queue_runs", (q.pool, q.queue, state), count)
            for q in lengths
            for state, count in (("waiting", q.waiting), ("pending", q.pending))
        )
        return [Sample("evergreen_prefect_up", (), 1), *runs]


def _config_stamp(name: str) -> object:
    """Return a value that changes when a file of a model's config changes, or one that it extends or that makes the model."""
    folders = dict.fromkeys(path.parent for path in files_of(name, configs_folder()) if path.parent.is_dir())
    paths = (path for folder in folders for path in sorted(folder.iterdir()) if path.is_file())
    return tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in paths)


def serve(exporter: Exporter, host: str, port: int) -> None:
    """Serve until the process is stopped. Listens as soon as all has been read once."""
    pause, registry = exporter.read(), CollectorRegistry()
    registry.register(exporter)
    start_http_server(port, host, registry)
    log.info("metrics of %d models at http://%s:%d/metrics", len(model_names()), host, port)
    wait = threading.Event().wait
    while True:
        wait(pause)
        try:
            pause = exporter.read()
        except Exception:
            log.exception("reading failed; the values are those of the last reading")
            pause = INTERVAL


def main() -> int:
    """Serve until a signal ends the process. Exit status 2 if the settings are not valid, 1 if the port is taken."""
    disable_telemetry()
    try:
        settings = load_settings()
        parser = argparse.ArgumentParser(prog="python -m ops.metrics", description="Metrics for Prometheus.")
        parser.add_argument("--host", default=settings.host, help="address to listen on (%(default)s)")
        parser.add_argument("--port", default=settings.metrics_port, type=int, help="port (%(default)s)")
        options = parser.parse_args()
        set_up_logging(settings)
        serve(Exporter(settings), options.host, options.port)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"error: port {options.port} of {options.host} (EVERGREEN_METRICS_PORT): {error.strerror}", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
