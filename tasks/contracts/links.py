"""Addresses in Prefect's UI: the list of runs with a tag, a run, and the form that starts a run of a deployment.

Prefect 3.9 serves two interfaces. Its default is V2, below `/v2`; V1 answers every other path. They read different parameters:

| | V2 | V1 |
|---|---|---|
| list of runs | `tags=a,b`: runs with any of them, of all times | `tag=a&tag=b`: runs with all of them, of the past week |
| part of the run's name | `flow-run-search=` | the same |
| form | `parameters=` as JSON, decoded once | the same, decoded twice |

These addresses open V2 and have the parameters of both, so without `/v2` they show the same in V1.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

YEAR = 365 * 24 * 3600
"""Seconds. V1 shows the runs of the past week unless an address has another time span."""


def run_url(ui: str, flow_run: str) -> str:
    """Return the address of a flow run's page.

    Args:
        ui: The address of the UI that people open: `prefect_ui` of the settings.
        flow_run: The id of the run.
    """
    return f"{ui}/v2/runs/flow-run/{quote(flow_run, safe='')}"


def runs_url(ui: str, tags: list[str], name: str = "") -> str:
    """Return the address of the list of runs with a tag, newest first.

    V2 lists the runs that have any of several tags, V1 those that have all. One tag and a part of the name mean the same in both:
    `runs_url(ui, ["drift"], " flights ")` lists the runs of the model flights that detected drift.

    Args:
        ui: The address of the UI that people open: `prefect_ui` of the settings.
        tags: At least one, without commas, which separate them in V2.
        name: Only runs whose name contains this text.
    """
    parameters = [("tags", _json_text(",".join(tags))), *(("tag", tag) for tag in tags)]
    parameters += [("flow-run-search", _json_text(name))] if name else []
    parameters += [("type", "span"), ("seconds", str(-YEAR))]
    return f"{ui}/v2/runs?{urlencode(parameters, quote_via=quote)}"


def _json_text(text: str) -> str:
    """Return a text as V2 reads it: one that is JSON, such as the year `2013`, needs quotes, or it is no text."""
    try:
        json.loads(text)
    except ValueError:
        return text
    return json.dumps(text)


def run_form_url(ui: str, deployment: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """Return the address of the form that starts a run of a deployment, with parameters filled in.

    In both interfaces the parameters of an address replace the deployment's own, so the address has those too.

    Args:
        ui: The address of the UI that people open: `prefect_ui` of the settings.
        deployment: As Prefect's API describes it, see `schedules.read_deployments`: its `id`, and its `parameters`.
        parameters: Values of JSON types, which take precedence over the deployment's.
    """
    filled = json.dumps({**deployment.get("parameters", {}), **parameters})
    filled = filled.replace("%", "\\u0025")  # V1 decodes twice; a text in JSON may have any character as its number
    return f"{ui}/v2/deployments/deployment/{deployment['id']}/run?parameters={quote(filled, safe='')}"
