"""Metrics that are added to a run after its training: in one request, without MLflow's client where possible."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Any, NamedTuple

from tasks.contracts import Promotion
from tasks.errors import RegistryUnavailable
from tasks.registry.connection import Connection

MOST_POINTS = 1000
"""Metrics that MLflow accepts in one request."""
JUDGED = "judged_version"
"""Section of the metrics of a refit's run that were measured on the version which the gate judged in its place."""


class Point(NamedTuple):
    """One value of a metric. `step` orders the values in plots."""

    metric: str
    value: float
    time: datetime
    step: int


class Series(Connection):
    """Values of metrics by partition, and those of a refit's judged version."""

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Add values of metrics to a run in one request. A value that the run has already is not added again.

        Raises:
            RegistryUnavailable: MLflow does not respond, or did not accept them. Calling again repeats it.
            UnknownVersion: The run no longer exists.
        """
        metrics = [
            {"key": p.metric, "value": p.value, "timestamp": round(p.time.timestamp() * 1000), "step": p.step}
            for p in points
            if isfinite(p.value)
        ]
        for begin in range(0, len(metrics), MOST_POINTS):
            part = metrics[begin : begin + MOST_POINTS]
            done = (
                self.rest_post("runs/log-batch", {"run_id": run_id, "metrics": part}) if self.is_open_server else None
            )
            if done is None:
                self._log_by_client(run_id, part)

    def _log_by_client(self, run_id: str, metrics: Sequence[Mapping[str, Any]]) -> None:
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        try:
            with self.translated_errors(f"run {run_id}"):
                self.client.log_batch(run_id, [Metric(**metric) for metric in metrics])
        except MlflowException as error:
            raise RegistryUnavailable(f"MLflow did not accept metrics of run {run_id}: {error}") from error

    def log_judged(self, row: Promotion, loss: str) -> None:
        """Add what the gate measured to the run of a version that is a refit, by names that show of which version it is.

        Args:
            row: The row of the gate's decision. Other rows are left out.
            loss: The metric to log first: MLflow opens a comparison of runs on the oldest metric.

        Raises:
            RegistryUnavailable: MLflow does not respond, or did not accept them.
            UnknownVersion: The run no longer exists.
        """
        judged, card = row.evidence.get("judged", row.version), {}
        if row.action in ("stage", "refuse") and judged != row.version:
            card = row.evidence.get("scorecards", {}).get(judged, {})
        if not card or not row.run_id or not row.recorded_at:
            return
        gain = row.evidence.get("gain") or {}
        metrics = dict(sorted(card["metrics"].items(), key=lambda item: item[0] != loss))
        metrics |= {"gain" if name == "mean" else f"gain_{name}": value for name, value in gain.items()}
        known = {name: value for name, value in metrics.items() if value is not None}
        self.log_points(
            row.run_id, [Point(f"{JUDGED}/{name}", value, row.recorded_at, 0) for name, value in known.items()]
        )
