"""Deployments of the models of `for_each`: the same as those of `make model`, spread over time, and deployed only if they have changed."""

import asyncio
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from configs.errors import ConfigError
from configs.load import load_model
from configs.settings import ROOT, load_settings
from ops import deploy
from ops.check import find_problems, flow_of
from ops.deploy import prepare
from ops.deploy_models import deploy_selected, models_in_form
from ops.generated import generated_deployments, gone_models
from ops.rendering import render
from ops.schedule_times import moment_within, times, times_of
from tests.fleet import write_stores
from tests.ops.test_deployments import in_words


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVERGREEN_CONFIGS", str(tmp_path))
    write_stores(tmp_path, ["a", "b"])
    return tmp_path


def without_times(deployments: list[dict[str, Any]], name: str) -> str:
    """Return deployments as text, without their own times and with X for the model's name."""
    for deployment in deployments:
        for schedule in deployment.get("schedules", ()):
            deployment["description"] = deployment["description"].replace(in_words(schedule), "WHEN")
            schedule["cron"] = "CRON"
    return yaml.safe_dump(deployments).replace(name, "X")


def test_they_are_those_that_make_model_writes(configs: Path) -> None:
    generated = [d for d in generated_deployments() if d["name"] == "store-a"]
    written = yaml.safe_load((ROOT / "prefect.yaml").read_text() + render("deployments.yaml", "new_one"))["deployments"]
    assert len(generated) == 5
    assert without_times(generated, "store-a") == without_times(
        [d for d in written if d["name"] == "new_one"], "new_one"
    )


def test_a_fact_of_one_model_starts_the_retraining_of_no_other(configs: Path) -> None:
    matches = {d["name"]: d["triggers"][0]["match"] for d in generated_deployments() if flow_of(d) == "retrain"}
    assert matches == {name: {"prefect.resource.id": f"evergreen.model.{name}"} for name in ("store-a", "store-b")}


def test_lint_requires_no_block_and_refuses_one(configs: Path) -> None:
    generated = generated_deployments()
    assert find_problems(["store-a", "store-b"], generated) == []
    twice = [*generated, next(d for d in generated if flow_of(d) == "train")]
    assert find_problems(["store-a", "store-b"], twice) == [
        "deployment train/store-a is in prefect.yaml twice, or there although `for_each` generates it; remove it there"
    ]


def test_schedules_are_spread_and_stay_where_they_are(configs: Path) -> None:
    write_stores(configs, range(100))
    before = {d["name"]: d["schedules"][0]["cron"] for d in generated_deployments() if flow_of(d) == "process"}
    minutes = Counter(int(cron.split()[0]) for cron in before.values())
    assert {cron.split(maxsplit=1)[1] for cron in before.values()} == {"6 * * *"}, "all between 06:00 and 07:00"
    assert len(minutes) > 40
    assert max(minutes.values()) <= 8
    write_stores(configs, range(50, 120))
    after = {d["name"]: d["schedules"][0]["cron"] for d in generated_deployments() if flow_of(d) == "process"}
    assert all(after[name] == before[name] for name in after.keys() & before.keys())


def test_spread_is_declared(configs: Path) -> None:
    path = configs / "store" / "model.yaml"
    path.write_text(path.read_text().replace("values: [a, b]", "values: [a, b], spread: 0min"))
    model = load_model("store-a")
    assert model.for_each
    assert times_of(model.config, model.for_each.spread).process.line == "0 6 * * *"


@pytest.mark.parametrize(
    ("every", "zone", "later", "process", "assess", "words"),
    [
        ("D", "UTC", 17, "17 6 * * *", "17 7 * * *", "Every day at 06:17 UTC"),
        ("D", "Europe/Berlin", 24 * 60 + 90, "30 7 * * *", "30 8 * * *", "Every day at 07:30 in Berlin"),
        ("H", "UTC", 29, "29 * * * *", "59 * * * *", "Every hour, 29 minutes past"),
        ("W", "UTC", 6 * 24 * 60, "0 6 * * 0", "0 7 * * 0", "Every Sunday at 06:00 UTC"),
        ("M", "America/New_York", 24 * 60, "0 6 2 * *", "0 7 2 * *", "At 06:00 in New York on day 2 of each month"),
    ],
)
def test_schedules_follow_from_the_partitions(
    every: Any, zone: str, later: int, process: str, assess: str, words: str
) -> None:
    own = times(every, zone, timedelta(minutes=later))
    assert (own.process.line, own.assess.line, own.process.words) == (process, assess, words)


def test_a_moment_is_within_the_spread() -> None:
    assert {moment_within(f"store-{n}", timedelta(minutes=3)) for n in range(60)} == {
        timedelta(minutes=n) for n in range(3)
    }


@pytest.mark.usefixtures("prefect_server")
def test_only_changed_deployments_are_deployed_again(configs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def deploy() -> tuple[str, str]:
        asyncio.run(deploy_selected(generated_deployments(), load_settings()))
        shown = capsys.readouterr()
        return re.sub(r"in \d+ s", "in S s", shown.out), shown.err

    assert PREFECT_API_URL.value()
    asyncio.run(prepare(load_settings()))
    assert deploy() == ("deployed 10 deployments of models in S s; 0 were unchanged\n", "")
    assert deploy() == ("deployed 0 deployments of models in S s; 10 were unchanged\n", "")
    assert asyncio.run(automations("process store-a on source.updated")) == 1
    asyncio.run(remove("process store-a on source.updated"))
    assert deploy()[0] == "deployed 1 deployments of models in S s; 9 were unchanged\n", "its automation was deleted"
    assert asyncio.run(automations("process store-a on source.updated")) == 1
    write_stores(configs, ["b", "c"])
    out, error = deploy()
    assert out == "deployed 5 deployments of models in S s; 5 were unchanged\n"
    assert error.startswith("warning: model store-a does not exist any more, but these deployments do: ")
    assert "process/store-a" in error


@pytest.mark.usefixtures("prefect_server")
def test_what_a_person_has_paused_stays_paused_after_a_change(configs: Path) -> None:
    def deploy() -> None:
        asyncio.run(deploy_selected(generated_deployments(["store-a"]), load_settings()))

    trigger = "retrain store-a on facts"
    asyncio.run(prepare(load_settings()))
    deploy()
    asyncio.run(pause("process/store-a", "train/store-a", trigger))
    path = configs / "store" / "model.yaml"
    path.write_text(path.read_text().replace("values: [a, b]", "values: [a, b], spread: 0min"))
    deploy()
    assert asyncio.run(state_of("process/store-a")) == ("0 6 * * *", False, False), "the new time, still paused"
    assert asyncio.run(state_of("assess/store-a")) == ("0 7 * * *", True, False)
    asyncio.run(touch("train/store-a", "retrain/store-a"))
    deploy()
    assert asyncio.run(state_of("train/store-a")) == ("", True, True)
    assert asyncio.run(is_enabled(trigger)) is False
    assert asyncio.run(is_enabled("process store-a on source.updated")) is True


async def pause(schedule_of: str, deployment: str, automation: str) -> None:
    """Pause the schedule of a deployment, another deployment, and an automation, as the Prefect UI does."""
    async with get_client() as client:
        own = await client.read_deployment_by_name(schedule_of)
        await client.update_deployment_schedule(own.id, own.schedules[0].id, active=False)
        await client.pause_deployment((await client.read_deployment_by_name(deployment)).id)
        await client.pause_automation((await client.read_automations_by_name(automation))[0].id)


async def touch(*deployments: str) -> None:
    """Give deployments another version, so that they are deployed again."""
    async with get_client() as client:
        for name in deployments:
            own = await client.read_deployment_by_name(name)
            body = {"name": own.name, "flow_id": str(own.flow_id), "version": "earlier", "paused": own.paused}
            await client.request("POST", "/deployments/", json=body)


async def state_of(deployment: str) -> tuple[str, bool, bool]:
    """Return the time of its schedule, whether that is active, and whether the deployment is paused."""
    async with get_client() as client:
        own = await client.read_deployment_by_name(deployment)
    schedules = [(str(s.schedule.cron), s.active) for s in own.schedules]
    return *(schedules[0] if schedules else ("", True)), own.paused


async def is_enabled(automation: str) -> bool:
    async with get_client() as client:
        return (await client.read_automations_by_name(automation))[0].enabled


def test_the_models_of_a_file_that_cannot_be_read_are_not_gone(
    configs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    existing = [
        {
            "name": name,
            "parameters": {"model": name},
            "entrypoint": "flows/train.py:train",
            "work_pool_name": "evergreen",
        }
        for name in ("store-a", "store-old", "shop-a")
    ]
    assert gone_models(existing, "evergreen") == {"store-old": ["train/store-old"], "shop-a": ["train/shop-a"]}
    path = configs / "store" / "model.yaml"
    path.write_text(path.read_text().replace("values: [a, b]", "values: [a, b"))
    assert gone_models(existing, "evergreen") == {"shop-a": ["train/shop-a"]}
    with pytest.raises(ConfigError, match=r"no model matches 'store-\*'"):
        deploy.deploy(load_settings(), "store-*")
    assert (
        f"warning: deployments that `for_each` generates from it stay as they are: {path}: " in capsys.readouterr().err
    )


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_a_selection_deploys_a_block_of_prefect_yaml_as_it_is(
    configs: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interval, a schedule that is not active, a limit as a number; and the forms of all models have the new one."""
    root = tmp_path_factory.mktemp("root")
    for path in ROOT.iterdir():
        if path.name != "prefect.yaml":
            (root / path.name).symlink_to(path)
    (configs / "flights").symlink_to(ROOT / "configs" / "flights")
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    for block in content["deployments"]:
        if (flow_of(block), block["name"]) == ("process", "flights"):
            block |= {"schedules": [{"interval": 3600, "active": False}], "concurrency_limit": 2}
            del block["description"], block["tags"]
    (root / "prefect.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(deploy, "ROOT", root)
    monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))

    deploy.deploy(load_settings(), "flights,store-a")
    own = asyncio.run(described("process/flights"))
    assert [(s["schedule"]["interval"], s["active"]) for s in own["schedules"]] == [(3600, False)]
    assert own["global_concurrency_limit"]["limit"] == 2
    names = ["flights", "store-a", "store-b"]
    assert models_in_form(asyncio.run(described("promote/manual"))) == names
    assert models_in_form(asyncio.run(described("train/manual"))) == names
    assert models_in_form(asyncio.run(described("train/store-a"))) == ["store-a"]

    write_stores(configs, ["a", "b", "c"])
    assert asyncio.run(deploy.file_deployments(["store-b"])) == []
    assert "promote/manual" in asyncio.run(deploy.file_deployments(["store-c"]))


async def described(deployment: str) -> dict[str, Any]:
    async with get_client() as client:
        flow, _, name = deployment.partition("/")
        return dict((await client.request("GET", f"/deployments/name/{flow}/{name}")).json())


async def automations(name: str) -> int:
    async with get_client() as client:
        return len(await client.read_automations_by_name(name))


async def remove(name: str) -> None:
    async with get_client() as client:
        for automation in await client.read_automations_by_name(name):
            await client.delete_automation(automation.id)
