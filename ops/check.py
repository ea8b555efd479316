"""Whether the models under `configs/` and the deployments in `prefect.yaml` fit each other: `python -m ops.check`.

Part of `make lint`. Loads every model, so a typo in a model.yaml fails here too.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from configs.errors import ConfigError
from configs.load import load_model, model_names
from configs.settings import ROOT

FLOWS = ("assess", "process", "retrain", "train")
"""What every model needs a deployment of, named like the model."""

SHARED = ("manual", "all")
"""The names of deployments that are no model's: by hand for any model, or on a schedule for all of them."""


def read_deployments(path: Path = ROOT / "prefect.yaml") -> list[dict[str, Any]]:
    """The deployments of a prefect.yaml, anchors resolved.

    Raises:
        ConfigError: it is no YAML, or has no list of deployments.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return list(content["deployments"])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: holds no `deployments:` that can be read: {error}") from error


def complaints(models: Iterable[str], deployments: Iterable[Mapping[str, Any]], root: Path = ROOT) -> list[str]:
    """Everything that does not fit, each as a sentence; empty when all does."""
    known, found = set(models), defaultdict(list)
    for deployment in deployments:
        found[deployment["name"]].append(deployment)
    missing = [
        f"model {model!r} has no deployment {flow}/{model}; `prefect.yaml` needs the block that `make model` writes"
        for model in sorted(known)
        for flow in FLOWS
        if flow not in [flow_of(deployment) for deployment in found[model]]
    ]
    strays = [
        f"deployment {flow_of(deployment)}/{name} names no model: there is no configs/{name}/model.yaml"
        for name in sorted(found.keys() - known - {*SHARED})
        for deployment in found[name]
    ]
    return [*missing, *strays, *(c for name in found for deployment in found[name] for c in faults(deployment, root))]


def faults(deployment: Mapping[str, Any], root: Path = ROOT) -> list[str]:
    """What is wrong with one deployment by itself."""
    name, flow = deployment["name"], flow_of(deployment)
    said: list[str] = []
    if not (root / "flows" / f"{flow}.py").is_file():
        said.append(f"deployment {flow}/{name}: its entrypoint {deployment['entrypoint']} is no file")
    if name in SHARED:
        return said
    if deployment.get("parameters", {}).get("model") != name:
        said.append(f"deployment {flow}/{name}: parameters: model: must be {name!r}")
    matches = [trigger["match"] for trigger in deployment.get("triggers", [])]
    strays = [match for match in matches if match != {"prefect.resource.id": f"evergreen.model.{name}"}]
    return [
        *said,
        *(f"deployment {flow}/{name}: its trigger matches {match}, not evergreen.model.{name}" for match in strays),
    ]


def flow_of(deployment: Mapping[str, Any]) -> str:
    """The flow that a deployment runs."""
    return str(deployment["entrypoint"]).rpartition(":")[2]


def main() -> int:
    try:
        models = model_names()
        said = [str(error) for name in models if (error := _fault_of(name))]
        said += complaints(models, read_deployments())
    except ConfigError as error:
        said = [str(error)]
    for line in said:
        print(f"error: {line}", file=sys.stderr)
    if not said:
        print(f"Models and deployments fit: {', '.join(models) or 'no model yet'}.")
    return 1 if said else 0


def _fault_of(name: str) -> ConfigError | None:
    try:
        load_model(name)
    except ConfigError as error:
        return error
    return None


if __name__ == "__main__":
    sys.exit(main())
