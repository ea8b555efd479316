"""Loss and skill of each partition as a series of metrics on the MLflow run of the version that scored it.

The records in the lake are the source, MLflow has a copy. What was copied is noted in the lake, so each partition is sent once, and again
when its values change. If MLflow does not respond, nothing is noted, and the next run sends it.
"""

import json
from collections import defaultdict
from datetime import timedelta
from typing import Any

from tasks.contracts import Record, Stage
from tasks.errors import RegistryUnavailable, UnknownVersion
from tasks.orchestration.prefect_tasks import run_log
from tasks.registry.series import Point
from tasks.resources import LiveResources, Resources
from tasks.storage.files import replacing
from tasks.storage.partitions import NoPartition, ordinal

FILE = "mlflow_series.json"
"""In the model's folder of the lake: of each copied partition the version, the values, and how often they were sent."""
PREFIX = "partition"
"""Section of these metrics in MLflow."""


def copy_performance(res: Resources) -> None:
    """Send the performance of new and changed partitions, one request for each version. Only production is copied."""
    if not isinstance(res, LiveResources) or res.variant.name:
        return
    copied, due = _copied(res), defaultdict[str, dict[str, dict[str, Any]]](dict)
    for key in res.lake.keys(Stage.PERFORMANCE):
        record = res.lake.record(Stage.PERFORMANCE, key)
        if record is None or record.status != "done" or not (values := _values(record, res)):
            continue
        if not _has_partition(key, res):
            continue
        known, version = copied.get(key, {}), record.data["version"]
        if (known.get("version"), known.get("values")) != (version, values):
            due[version][key] = {"version": version, "values": values, "sent": known.get("sent", 0) + 1}
    for version, entries in due.items():
        if not _send(version, entries, res):
            return
        copied |= entries
        with replacing(res.lake.root / FILE) as draft:
            draft.write_text(json.dumps(copied, indent=1) + "\n", encoding="utf-8")


def _has_partition(key: str, res: Resources) -> bool:
    """Return whether a key is one of the model's calendar; one from before `partition.every` was changed is not."""
    try:
        return bool(res.ref(key))
    except NoPartition:
        return False


def _copied(res: LiveResources) -> dict[str, dict[str, Any]]:
    """Return what was sent, by partition; nothing if the note is missing or damaged."""
    try:
        copied: dict[str, dict[str, Any]] = json.loads((res.lake.root / FILE).read_text(encoding="utf-8"))
        return copied
    except (FileNotFoundError, ValueError):
        return {}


def _values(record: Record, res: Resources) -> dict[str, float]:
    """Return loss and skill of an assessed partition, without those that could not be measured."""
    loss = res.config.target.eval_loss
    values = {loss: record.data["metrics"].get(loss), "skill": record.data.get("skill")}
    return {name: value for name, value in values.items() if value is not None}


def _send(version: str, entries: dict[str, dict[str, Any]], res: LiveResources) -> bool:
    """Send the values of one version. Return whether MLflow has them, or no longer has the version's run.

    The time of a value is the partition's end. A corrected one is a millisecond later, since MLflow shows the latest as the current one.
    """
    points = []
    for key, entry in entries.items():
        time = res.ref(key).end + timedelta(milliseconds=entry["sent"] - 1)
        step = ordinal(key, res.config.partition.every)
        points += [Point(f"{PREFIX}/{name}", value, time, step) for name, value in entry["values"].items()]
    try:
        res.registry.log_points(res.registry.cached_version(version).run_id, points)
    except UnknownVersion as error:
        text = "the performance of version %s is not in MLflow: %s"
        run_log().warning(text, version, error, extra={"version": version})
    except RegistryUnavailable as error:
        run_log().warning("MLflow does not have the newest performance; the next `assess` sends it: %s", error)
        return False
    return True
