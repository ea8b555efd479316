"""Check that every model has its deployments and every deployment its model: `python -m ops.check`.

Part of `make lint`. It loads every model, so an error in a model.yaml fails here too. Great Expectations checks the
arguments of its expectations, and its estimators the values of their parameters. A change that breaks the published contract
without declaring it is a problem before a run refuses it. Rules that are valid but cannot work are warnings, and do not fail.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from configs.errors import ConfigError
from configs.load import load_model, model_names
from configs.settings import ROOT
from ops.candidate_values import unfit_parameters
from ops.generated import generated_deployments
from ops.workable import warnings
from tasks.errors import UnreadableContract
from tasks.resources import open_resources
from tasks.steps.publish import contract_problem
from tasks.storage.published_contract import read_history
from tasks.validation.expectations import check_arguments

FLOWS = ("assess", "process", "retrain", "train")
"""Flows that every model needs a deployment of. The deployment has the model's name."""

SHARED = ("manual", "all")
"""Deployment names that belong to no model: `manual` is started by hand for any model, `all` runs on a schedule for all."""


def read_deployments(path: Path = ROOT / "prefect.yaml") -> list[dict[str, Any]]:
    """Return the deployments of a prefect.yaml, with YAML anchors resolved.

    Raises:
        ConfigError: The file is not YAML, or has no list of deployments.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return list(content["deployments"])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: cannot read the list `deployments:`: {error}") from error


def find_problems(models: Iterable[str], deployments: Iterable[Mapping[str, Any]], root: Path = ROOT) -> list[str]:
    """Return a message for each mismatch between models and deployments."""
    names, by_name = set(models), defaultdict(list)
    for deployment in deployments:
        by_name[deployment["name"]].append(deployment)
    missing = [
        f"model {model!r} has no deployment {flow}/{model}; `prefect.yaml` needs the block that `make model` writes"
        for model in sorted(names)
        for flow in FLOWS
        if flow not in [flow_of(deployment) for deployment in by_name[model]]
    ]
    unknown = [
        f"deployment {flow_of(deployment)}/{name} has no model: configs/{name}/model.yaml does not exist"
        for name in sorted(by_name.keys() - names - {*SHARED})
        for deployment in by_name[name]
    ]
    twice = [
        f"deployment {flow}/{name} is in prefect.yaml twice, or there although `for_each` generates it; remove it there"
        for name, group in by_name.items()
        for flow, count in Counter(map(flow_of, group)).items()
        if count > 1
    ]
    return [
        *missing,
        *unknown,
        *twice,
        *(p for group in by_name.values() for d in group for p in deployment_problems(d, root)),
    ]


def deployment_problems(deployment: Mapping[str, Any], root: Path = ROOT) -> list[str]:
    """Return a message for each problem of one deployment."""
    name, flow = deployment["name"], flow_of(deployment)
    problems: list[str] = []
    if not (root / "flows" / f"{flow}.py").is_file():
        problems.append(
            f"deployment {flow}/{name}: the file of its entrypoint {deployment['entrypoint']} does not exist"
        )
    if name in SHARED:
        return problems
    if deployment.get("parameters", {}).get("model") != name:
        problems.append(f"deployment {flow}/{name}: parameters: model: must be {name!r}")
    matches = [trigger["match"] for trigger in deployment.get("triggers", [])]
    wrong = [match for match in matches if match != {"prefect.resource.id": f"evergreen.model.{name}"}]
    return [
        *problems,
        *(f"deployment {flow}/{name}: its trigger matches {match}, not evergreen.model.{name}" for match in wrong),
    ]


def flow_of(deployment: Mapping[str, Any]) -> str:
    """Return the name of the flow that a deployment runs."""
    return str(deployment["entrypoint"]).rpartition(":")[2]


def main() -> int:
    """Print the problems of all models and of prefect.yaml, and warnings. Exit status 1 if there are problems."""
    try:
        models = model_names()
        invalid = {name: error for name in models if (error := _config_error(name))}
        valid = [name for name in models if name not in invalid]
        deployments = [*read_deployments(), *generated_deployments(valid)]
        problems = [*map(str, invalid.values()), *broken_contracts(valid), *shared_targets(valid), *same_names(models)]
        problems += find_problems(models, deployments)
        for line in (w for name in valid for w in warnings(open_resources(name))):
            print(f"warning: {line}", file=sys.stderr)
    except ConfigError as error:
        problems = [str(error)]
    for line in problems:
        print(f"error: {line}", file=sys.stderr)
    if not problems:
        print(f"Models and deployments match: {', '.join(models) or 'no model yet'}.")
    return 1 if problems else 0


def broken_contracts(models: Iterable[str]) -> Iterator[str]:
    """Yield how each model.yaml breaks its published contract undeclared. The lake of this machine's settings has what is published."""
    for res in map(open_resources, models):
        try:
            problem = contract_problem(res.model, read_history(res.lake))
        except UnreadableContract as error:
            problem = str(error)
        except OSError as error:
            file = res.model.folder / "model.yaml"
            print(f"warning: {file}: not compared with the published contract: {error}", file=sys.stderr)
            continue
        if problem:
            yield problem


def shared_targets(models: Iterable[str]) -> Iterator[str]:
    """Yield each target of `publish` that two models cannot share: the same files, or a table for two different outputs."""
    used: dict[tuple[str | None, str], tuple[str, str]] = {}
    for name, model in ((name, load_model(name)) for name in models):
        for key, sink in model.config.publish.items():
            place = sink.path.format(model=name, partition="{partition}") if sink.path else sink.place
            other, output = used.setdefault((sink.connection, place), (f"{name}: publish.{key}", sink.output))
            if not other.startswith(f"{name}:") and (sink.path or output != sink.output):
                way = "add {model} to its path" if sink.path else "choose another table, since they have other columns"
                yield f"{model.folder / 'model.yaml'}: publish.{key}: {sink.place} is also that of {other}; {way}"


def same_names(models: Iterable[str]) -> Iterator[str]:
    """Yield the models whose names differ in - and _ only: Prefect's keys of pages have no _, so their pages would be one."""
    known: dict[str, str] = {}
    for name in models:
        if (other := known.setdefault(name.replace("-", "_"), name)) != name:
            yield f"the models {other} and {name} differ in - and _ only, so their pages in Prefect would be one; rename one of them"


def _config_error(name: str) -> ConfigError | None:
    try:
        model = load_model(name)
        check_arguments(model.config)
    except ConfigError as error:
        return error
    unfit = "\n".join(unfit_parameters(model.config, model.folder / "model.yaml"))
    return ConfigError(unfit) if unfit else None


if __name__ == "__main__":
    sys.exit(main())
