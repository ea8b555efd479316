"""Start runs of the deployments with the tag `on-arrival` when the source of their model has delivered something.

A run's idempotency key is a digest of what has arrived, so Prefect makes one run of it, however often and from where it is asked.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from configs.errors import ConfigError
from configs.load import load_model
from tasks.errors import EvergreenError
from tasks.orchestration.schedules import Post, all_items
from tasks.orchestration.timeouts import limit_of
from tasks.source.arrivals import arrivals

TAG = "on-arrival"
STARTED = "by-poll"
"""Tag of the runs that are started, see `run_tags`."""
ATTEMPTS = 3
"""Runs that are started for one state of a source, if they fail or their processes die."""
TRIED = ("CRASHED", "FAILED")
"""States of a run after which another one is started. One that a person has cancelled is left alone."""


class Run(NamedTuple):
    """The run of a deployment for what has arrived: its idempotency key, and its state, empty if it was not started yet."""

    key: str
    state: str

    @property
    def has_ended(self) -> bool:
        """Whether no further run is started for what has arrived."""
        return self.state in ("COMPLETED", "CANCELLED", *TRIED)


def start_arrived(post: Post, now: datetime) -> tuple[list[str], list[str], list[str]]:
    """Start `process` where a source has something that no run was started for, and `assess` when that run has ended.

    Args:
        post: Asks Prefect's API.
        now: The present, aware.

    Returns:
        The deployments of which runs were started, those for which nothing has arrived, and an error for each model that cannot be read.
    """
    tagged = all_items(post, "deployments/filter", {"deployments": {"tags": {"all_": [TAG]}}})
    deployments = sorted((d for d in tagged if not d["paused"]), key=lambda d: (_flow(d), d["name"]))
    digests, errors = _digests({_model(d) for d in deployments}, now)
    known = [d for d in deployments if digests.get((_flow(d), _model(d)))]
    keys = {d["id"]: [f"{digests[_flow(d), _model(d)]} {d['id']} {n}" for n in range(ATTEMPTS)] for d in known}
    wanted = {"flow_runs": {"idempotency_key": {"any_": [key for tried in keys.values() for key in tried]}}}
    by_id = {d["id"]: d for d in known}
    found = list(all_items(post, "flow_runs/filter", wanted)) if keys else []
    states = {run["idempotency_key"]: _state(run, by_id[run["deployment_id"]]) for run in found}
    runs = {d["id"]: _newest(keys[d["id"]], states) for d in known}
    processing = {_model(d) for d in known if _flow(d) == "process" and not runs[d["id"]].has_ended}
    started, unchanged = [], []
    for d in known:
        name = f"{_flow(d)}/{d['name']}"
        if runs[d["id"]].state or (_flow(d) == "assess" and _model(d) in processing):
            unchanged.append(name)
            continue
        post(
            f"deployments/{d['id']}/create_flow_run",
            {"idempotency_key": runs[d["id"]].key, "parameters": {}, "tags": [STARTED]},
        )
        started.append(name)
    return started, unchanged, errors


def _state(run: Mapping[str, Any], deployment: Mapping[str, Any]) -> str:
    """The state of a run. One that was cancelled at its limit has failed: `remind` did it, and no person."""
    limit = limit_of(run, deployment)
    hung = run["state_type"] == "CANCELLED" and limit is not None and run["total_run_time"] >= limit.total_seconds()
    return "FAILED" if hung else str(run["state_type"])


def _newest(keys: Sequence[str], states: Mapping[str, str]) -> Run:
    """The run that counts for what has arrived: the first that was not started, or that has neither failed nor died."""
    tried = [Run(key, states.get(key, "")) for key in keys]
    return next((run for run in tried if run.state not in TRIED), tried[-1])


def _flow(deployment: Mapping[str, Any]) -> str:
    return str(deployment["entrypoint"]).rpartition(":")[2]


def _model(deployment: Mapping[str, Any]) -> str:
    return str(deployment["parameters"].get("model", ""))


def _digests(models: Iterable[str], now: datetime) -> tuple[dict[tuple[str, str], str], list[str]]:
    """A digest of what has arrived for each flow and model, and the errors of models that cannot be read."""
    digests, errors = dict[tuple[str, str], str](), []
    for name in sorted(models):
        try:
            arrived = arrivals(load_model(name), now)
        except (EvergreenError, ConfigError, OSError) as error:
            errors.append(f"{name}: {error}")
            continue
        digests |= {("process", name): arrived.to_process, ("assess", name): arrived.to_assess}
    return digests, errors
