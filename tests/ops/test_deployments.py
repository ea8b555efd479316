"""prefect.yaml: complete, short, and consistent with the models."""

import importlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate

from configs.errors import ConfigError
from configs.load import model_names
from configs.settings import ROOT, Settings, load_env
from ops.check import SHARED, find_problems, flow_of, main, read_deployments
from ops.rendering import render
from tasks.contracts import FOR_PEOPLE
from tasks.orchestration.events import EVENT

LONGEST_BLOCK = 30


@pytest.fixture(scope="module")
def deployments() -> list[dict[str, Any]]:
    return read_deployments()


def blocks() -> dict[str, list[str]]:
    """Return the lines of each model's block in prefect.yaml. A block begins with the model's name as a comment."""
    lines = (ROOT / "prefect.yaml").read_text().partition("\ndeployments:\n")[2].splitlines()
    starts = {i: m[1] for i, line in enumerate(lines) if (m := re.fullmatch(r"  # ([a-z0-9_]+)(:.*)?", line))}
    ends = [*list(starts)[1:], len(lines)]
    return {name: [x for x in lines[i:end] if x.strip()] for (i, name), end in zip(starts.items(), ends, strict=True)}


def test_models_and_deployments_match(deployments: list[dict[str, Any]]) -> None:
    assert find_problems(model_names(), deployments) == []


def test_every_model_has_one_short_block() -> None:
    assert sorted(blocks()) == model_names()
    assert {name: len(lines) for name, lines in blocks().items() if len(lines) > LONGEST_BLOCK} == {}


def test_every_deployment_has_a_description_and_starts_without_a_supervising_process(
    deployments: list[dict[str, Any]],
) -> None:
    for deployment in deployments:
        assert deployment["description"], deployment
        assert deployment["tags"], deployment
        assert deployment["work_pool"]["name"] == Settings.model_fields["pool"].default
        assert deployment["work_pool"]["job_variables"] == {
            "command": ".venv/bin/python -m prefect.engine",
            "working_dir": ".",
        }


WEEKDAYS = dict(
    zip("1234560", ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"), strict=True)
)


def in_words(schedule: dict[str, Any]) -> str:
    """Describe a cron line of the kinds that prefect.yaml has, with the city of its time zone."""
    minute, hour, day, month, weekday = schedule["cron"].split()
    assert month == "*", schedule
    if hour == "*":
        return f"Every {minute[2:]} minutes" if minute.startswith("*/") else f"Every hour, {minute} minutes past"
    zone = schedule["timezone"]
    place = zone if zone == "UTC" else f"in {zone.rpartition('/')[2].replace('_', ' ')}"
    time = f"{int(hour):02}:{int(minute):02}"
    if day != "*":
        return f"At {time} {place} on day {day} of each month"
    return f"Every day at {time} {place}" if weekday == "*" else f"Every {WEEKDAYS[weekday]} at {time} {place}"


def test_a_description_begins_with_the_schedule_in_words(deployments: list[dict[str, Any]]) -> None:
    content = (ROOT / "prefect.yaml").read_text() + render("deployments.yaml", "trains")
    new = [d for d in yaml.safe_load(content)["deployments"] if d["name"] == "trains"]
    scheduled = [d for d in (*deployments, *new) if d.get("schedules")]
    assert len(scheduled) == 11, "three of flights, electricity and a new model, and two for all models"
    for deployment in scheduled:
        (schedule,) = deployment["schedules"]
        assert deployment["description"].startswith(in_words(schedule)), deployment["description"]


def test_every_automation_of_a_deployment_has_a_description(deployments: list[dict[str, Any]]) -> None:
    triggers = [trigger for d in deployments for trigger in d.get("triggers", [])]
    assert triggers
    assert [t["name"] for t in triggers if not t.get("description")] == []


def test_each_fact_starts_one_run_of_its_models_retraining(deployments: list[dict[str, Any]]) -> None:
    for deployment in deployments:
        if flow_of(deployment) != "retrain":
            continue
        (trigger,) = deployment["triggers"]
        assert trigger["match"] == {"prefect.resource.id": f"evergreen.model.{deployment['name']}"}
        assert trigger["for_each"] == ["prefect.resource.id", "evergreen.fact"]
        assert set(trigger["expect"]) == {name for kind, name in EVENT.items() if kind not in FOR_PEOPLE}
        assert (trigger["threshold"], trigger["within"]) == (1, 30)
        assert set(trigger["parameters"]) == {"partition", "fact", "as_of"}
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


def test_trigger_names_are_unique(deployments: list[dict[str, Any]]) -> None:
    names = [trigger["name"] for deployment in deployments for trigger in deployment.get("triggers", [])]
    assert len(names) == len(set(names))


def test_manual_deployments_are_for_every_model(deployments: list[dict[str, Any]]) -> None:
    shared = {(flow_of(d), d["name"]) for d in deployments if d["name"] in SHARED}
    manual = ("audit", "backfill", "promote", "replay", "reproduce", "rollback", "train")
    assert shared == {*((name, "manual") for name in manual), ("remind", "all"), ("poll", "all")}


def test_a_model_without_deployments_is_an_error(deployments: list[dict[str, Any]]) -> None:
    problems = find_problems([*model_names(), "trains"], deployments)
    assert len(problems) == 4
    assert "model 'trains' has no deployment assess/trains" in problems[0]


def test_a_deployment_without_a_model_is_an_error(deployments: list[dict[str, Any]]) -> None:
    problems = find_problems([], deployments)
    assert "deployment process/flights has no model: configs/flights/model.yaml does not exist" in problems


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": {"model": "trains"}}, "parameters: model: must be 'flights'"),
        ({"entrypoint": "flows/gone.py:gone"}, "does not exist"),
        ({"triggers": [{"match": {"prefect.resource.id": "evergreen.model.*"}}]}, "not evergreen.model.flights"),
    ],
)
def test_a_copied_block_that_was_not_completely_changed_is_an_error(
    deployments: list[dict[str, Any]], change: dict[str, Any], message: str
) -> None:
    changed = [{**d, **change} if (flow_of(d), d["name"]) == ("process", "flights") else d for d in deployments]
    assert any(message in line for line in find_problems(model_names(), changed))


def test_the_message_about_an_invalid_prefect_yaml_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text("deployments: [")
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "prefect.yaml"))):
        read_deployments(tmp_path / "prefect.yaml")


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_env_files_switch_telemetry_off_and_contain_no_secret(name: str) -> None:
    variables = load_env(name)
    assert variables["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert variables["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert not [key for key in variables if re.search("KEY|PASSWORD|SECRET|TOKEN|AUTH", key)]
    assert not [value for value in variables.values() if "@" in value]


def test_the_message_about_an_unknown_env_lists_the_existing_ones() -> None:
    with pytest.raises(ConfigError, match="there are: dev, prod"):
        load_env("staging")


def test_every_parameter_has_help_and_every_model_is_a_choice(deployments: list[dict[str, Any]]) -> None:
    """The Prefect UI builds the form from this schema."""
    for name in sorted({flow_of(d) for d in deployments}):
        schema = parameter_schema(getattr(importlib.import_module(f"flows.{name}"), name))
        assert {p: bool(s.get("description")) for p, s in schema.properties.items()} == dict.fromkeys(
            schema.properties, True
        )
        if name not in ("remind", "poll"):  # they run for all models
            model = schema.properties["model"]
            assert model.get("anyOf", [model])[0]["enum"] == model_names()


@pytest.mark.parametrize("name", ["backfill", "replay", "train"])
def test_the_form_of_a_run_of_several_models_takes_no_model(name: str) -> None:
    """The Prefect UI sends null for a field without a value."""
    schema = parameter_schema(getattr(importlib.import_module(f"flows.{name}"), name)).model_dump(exclude_unset=True)

    def refused(**model: str | None) -> list[str]:
        parameters = {"models": "f*", "start": "2013-01", "end": "2013-02", **model}
        own = {key: value for key, value in parameters.items() if key in schema["properties"]}
        return [error.json_path for error in validate(own, schema)]

    assert refused(model=None) == refused() == refused(model="flights") == []
    assert refused(model="trains") == ["$.model"]


def test_a_wrong_argument_of_an_expectation_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "configs" / "flights", tmp_path / "flights")
    path = tmp_path / "flights" / "model.yaml"
    path.write_text(path.read_text().replace("min_value", "min_val"))
    monkeypatch.setenv("EVERGREEN_CONFIGS", str(tmp_path))
    assert main() == 1
    errors = capsys.readouterr().err
    assert (
        "[0].kwargs.min_val: expect_table_row_count_to_be_between has no such argument; did you mean 'min_value'?"
        in errors
    )
