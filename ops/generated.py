"""The deployments of models of `for_each`: those that `make model` writes into prefect.yaml, but generated when they are needed."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from configs.errors import ConfigError
from configs.load import load_model, model_names
from configs.settings import ROOT
from ops.rendering import BLOCK, render
from ops.schedule_times import times_of

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader in C where PyYAML has it: ten times as fast."""


def generated_deployments(names: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Return the deployments of models of `for_each`, as prefect.yaml would have them. A file that is not valid has none.

    Args:
        names: Names of models; by default all. Those that are not of `for_each` are left out.
    """
    blocks = "".join(_block(name) for name in (model_names() if names is None else names))
    return list(_with_definitions(blocks)["deployments"] or ()) if blocks else []


def unreadable_models() -> dict[str, ConfigError]:
    """Return the errors of models whose files are not valid, by model; by folder if a `for_each` cannot be read."""
    errors = {}
    for name in model_names():
        try:
            load_model(name)
        except ConfigError as error:
            errors[name] = error
    return errors


def gone_models(existing: Iterable[Mapping[str, Any]], pool: str) -> dict[str, list[str]]:
    """Return the deployments on the server, by a model that does not exist any more. Those of other pools belong to others.

    The models of a file that cannot be read are unknown, so they are not gone.
    """
    known, unreadable, gone = set(model_names()), unreadable_models(), dict[str, list[str]]()
    for deployment in existing:
        model, entrypoint = deployment["parameters"].get("model"), str(deployment["entrypoint"])
        ours = deployment["work_pool_name"] == pool and entrypoint.startswith("flows/")
        is_gone = model not in known and str(model).partition("-")[0] not in unreadable
        if ours and model and deployment["name"] == model and is_gone:
            gone.setdefault(model, []).append(f"{entrypoint.rpartition(':')[2]}/{model}")
    return gone


def pull_steps() -> list[dict[str, Any]]:
    """Return the steps of prefect.yaml before each run."""
    return list(_with_definitions("")["pull"])


def _block(name: str) -> str:
    try:
        model = load_model(name)
    except ConfigError:
        return ""  # `make deploy`, `make lint` and its own runs report it
    return render(BLOCK, name, times_of(model.config, model.for_each.spread)) if model.for_each else ""


def _with_definitions(blocks: str) -> Mapping[str, Any]:
    """Parse blocks of deployments with what prefect.yaml defines before its own."""
    head, mark, _ = (ROOT / "prefect.yaml").read_text(encoding="utf-8").partition("\ndeployments:\n")
    content: Mapping[str, Any] = yaml.load(head + mark + blocks, Loader=LOADER)  # noqa: S506  (a safe loader)
    return content
