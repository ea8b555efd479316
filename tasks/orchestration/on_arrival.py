"""Start runs of the deployments with the tag `on-arrival` when the source of their model has delivered something.

A run's idempotency key is a digest of what has arrived, so Prefect makes one run of it, however often and from where it is asked.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from configs.errors import ConfigError
from configs.load import load_model
from tasks.errors import EvergreenError
from tasks.orchestration.schedules import Post, all_items
from tasks.source.arrivals import arrivals

TAG = "on-arrival"
ATTEMPTS = 3
"""Runs that are started for one state of a source, if their processes die."""


def start_arrived(post: Post, now: datetime) -> tuple[list[str], list[str], list[str]]:
    """Start `process` where a source has something that no run was started for, and `assess` when that run has ended.

    Args:
        post: Asks Prefect's API.
        now: The present, aware.

    Returns:
        The deployments of which runs were started, those for which nothing has arrived, and an error for each model that cannot be read.
    """
    tagged = all_items(post, "deployments/filter", {"deployments": {"tags": {"all_": [TAG]}}})
    deployments = {(_flow(d), d["parameters"].get("model", "")): d for d in tagged if not d["paused"]}
    keys, errors = _idempotency_keys({model for _, model in deployments}, now)
    wanted = [
        f"{keys[flow, model]} {n}" for flow, model in deployments if (flow, model) in keys for n in range(ATTEMPTS)
    ]
    states = {run["idempotency_key"]: run["state_type"] for run in _runs(post, wanted)}
    started, unchanged = [], []
    for (flow, model), deployment in sorted(deployments.items()):
        if (flow, model) not in keys:
            continue
        key = next((k for n in range(ATTEMPTS) if states.get(k := f"{keys[flow, model]} {n}") != "CRASHED"), None)
        waits = (
            flow == "assess" and ("process", model) in deployments and not _has_ended("process", model, keys, states)
        )
        if key is None or key in states or waits:
            unchanged.append(f"{flow}/{deployment['name']}")
            continue
        post(f"deployments/{deployment['id']}/create_flow_run", {"idempotency_key": key, "parameters": {}})
        started.append(f"{flow}/{deployment['name']}")
    return started, unchanged, errors


def _flow(deployment: Mapping[str, Any]) -> str:
    return str(deployment["entrypoint"]).rpartition(":")[2]


def _idempotency_keys(models: Iterable[str], now: datetime) -> tuple[dict[tuple[str, str], str], list[str]]:
    """The key of a run of each flow and model for what has arrived, and the errors of models that cannot be read."""
    keys, errors = {}, []
    for name in sorted(models):
        try:
            arrived = arrivals(load_model(name), now)
        except (EvergreenError, ConfigError, OSError) as error:
            errors.append(f"{name}: {error}")
            continue
        for flow, digest in (("process", arrived.to_process), ("assess", arrived.to_assess)):
            if digest:
                keys[flow, name] = f"{flow} {name} {digest}"
    return keys, errors


def _runs(post: Post, keys: list[str]) -> Iterable[dict[str, Any]]:
    """The runs that were started with these keys."""
    return all_items(post, "flow_runs/filter", {"flow_runs": {"idempotency_key": {"any_": keys}}}) if keys else ()


def _has_ended(flow: str, model: str, keys: Mapping[tuple[str, str], str], states: Mapping[str, str]) -> bool:
    """Whether a run that was started for what has arrived has ended, whatever its result."""
    ended = ("COMPLETED", "FAILED", "CANCELLED")
    return any(states.get(f"{keys[flow, model]} {n}") in ended for n in range(ATTEMPTS))
