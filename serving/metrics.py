"""Metrics for Prometheus, with names as in https://prometheus.io/docs/practices/naming/."""

import functools
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)

REQUESTS = Counter("evergreen_requests", "Scoring requests by status", ["model", "status"])
ROWS = Counter("evergreen_rows", "Rows that were predicted", ["model", "version", "role"])
LATENCY = Histogram("evergreen_request_seconds", "Duration of scoring requests", ["model"], buckets=SECONDS)
VERSION = Gauge("evergreen_champion_version", "Version number of the champion in use", ["model"])
CHANGES = Counter("evergreen_champion_changes", "Changes of the champion in use", ["model"])
LOAD_FAILURES = Counter("evergreen_versions_not_taken", "Failed loads or smoke tests of versions", ["model"])
LEDGER_AGE = Gauge("evergreen_ledger_age_seconds", "Seconds since the last response of the ledger")
UNWRITTEN = Gauge("evergreen_rows_unwritten", "Predicted rows that are not in a journal yet")
WRITTEN = Gauge("evergreen_rows_written", "Predicted rows that this process has written into journals")
SHADOW = Counter("evergreen_shadow_rows", "Rows for the challenger in shadow mode", ["model", "version", "outcome"])
SHADOW_SECONDS = Histogram(
    "evergreen_shadow_seconds", "Duration of requests in shadow mode", ["model"], buckets=SECONDS
)
CANARY = Counter("evergreen_canary_rows", "Rows of the canary", ["model", "version", "outcome"])


@functools.lru_cache(maxsize=1024)
def with_labels(metric: Any, *labels: str) -> Any:
    """Return a metric with labels. Cached, because the lookup takes longer than counting."""
    return metric.labels(*labels)
