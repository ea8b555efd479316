"""Names of flow runs: verb, model and what the run is about, as in `process flights 2013-12`. A repeated name gets a number."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from httpx import HTTPError
from prefect import runtime
from prefect.exceptions import PrefectException

from tasks.orchestration.api import open_api

MOST_NUMBERS = 100
"""Numbers that are looked for."""


def name_by_partition() -> str:
    """Return `process flights 2013-05`, or `process flights due on 2013-06-01` for all due partitions, with the day of the run in UTC."""
    parameters = runtime.flow_run.parameters
    about = parameters.get("partition") or f"due on {_today()}"
    return numbered(f"{runtime.flow_run.flow_name} {parameters['model']} {about}")


def name_by_moment() -> str:
    """Return `train flights as of 2013-05-02`, or `train flights as of the newest partition`."""
    parameters = runtime.flow_run.parameters
    moment = str(parameters["as_of"])[:10] if parameters.get("as_of") else "the newest partition"
    return numbered(f"train {_subject(parameters)} as of {moment}")


def name_by_version() -> str:
    """Return `reproduce flights v3`, or without a version `reproduce flights champion`; for `rollback`, the previous champion."""
    parameters = runtime.flow_run.parameters
    flow, version = runtime.flow_run.flow_name, parameters.get("version")
    default = "previous champion" if flow == "rollback" else "champion"
    return numbered(f"{flow} {parameters['model']} {f'v{version}' if version else default}")


def name_by_action() -> str:
    """Return `promote flights v3`, `refuse flights challenger`, `adopt flights alias` or `restore flights alias`."""
    parameters = runtime.flow_run.parameters
    action, version = parameters.get("action", "promote"), parameters.get("version")
    default = "alias" if action in ("adopt", "restore") else "challenger"
    return numbered(f"{action} {parameters['model']} {f'v{version}' if version else default}")


def name_by_time() -> str:
    """Return `audit flights at 2013-06-15`. Without a moment, the date is that of the run in UTC."""
    parameters = runtime.flow_run.parameters
    return numbered(f"audit {parameters['model']} at {str(parameters.get('at') or _today())[:10]}")


def name_by_fact() -> str:
    """Return `retrain flights after 2013-05`, or `retrain flights requested by ann`."""
    parameters = runtime.flow_run.parameters
    if not parameters.get("fact"):
        return numbered(f"retrain {parameters['model']} requested by {parameters['by']}")
    return numbered(f"retrain {parameters['model']} after {parameters.get('partition') or 'a fact'}")


def name_by_range() -> str:
    """Return `backfill flights 2013-01 to 2013-03`, `... (dry run)`, `backfill flights plan 1f0c2a9b77de`, or `verify flights`."""
    parameters = runtime.flow_run.parameters
    flow, model = runtime.flow_run.flow_name, _subject(parameters)
    if parameters.get("plan") and not parameters.get("start"):
        return numbered(f"{flow} {model} plan {parameters['plan']}")
    text = f"{flow} {model} {parameters['start']} to {parameters['end']}"
    if not parameters.get("start") and not parameters.get("end"):
        text = f"{flow} {model}: {parameters.get('mode')} all partitions"
    return numbered(text + (" (dry run)" if parameters.get("dry_run") else ""))


def _subject(parameters: Mapping[str, Any]) -> str:
    """The model that a run is about, or the patterns of several."""
    return str(parameters.get("model") or parameters.get("models"))


def name_by_minute() -> str:
    """Return `poll 2013-06-15 14:05 UTC`, for a flow about all models."""
    return f"{runtime.flow_run.flow_name} {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def numbered(name: str) -> str:
    """Return a name with the number of the run, such as ` (2)`, if Prefect has runs of this name. Without an answer, the name alone."""
    others: dict[str, Any] = {"name": {"like_": name}, "id": {"not_any_": [runtime.flow_run.id]}}
    try:
        with open_api() as post:
            runs = post("flow_runs/filter", {"flow_runs": others, "sort": "START_TIME_DESC", "limit": MOST_NUMBERS})
    except (HTTPError, PrefectException):
        return name
    matches = (re.fullmatch(rf"{re.escape(name)}(?: \((\d+)\))?", run["name"]) for run in runs)
    numbers = [int(match[1] or 1) for match in matches if match]
    return f"{name} ({max(numbers) + 1})" if numbers else name


def _today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


def page_key(model: str, page: str) -> str:
    """Return the key of a model's artifact. Prefect allows lower-case letters, digits and dashes."""
    return f"{model}-{page}".replace("_", "-")
