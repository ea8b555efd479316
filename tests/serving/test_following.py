"""The server follows the champion of the ledger, and keeps the current version if the next one cannot be loaded or fails its test."""

import json
import shutil
import threading
import time
from contextlib import contextmanager, suppress

import pytest
import sqlalchemy as sa
from mlflow.exceptions import MlflowException

from serving import follower, versions
from serving.app import LEDGER_TIMEOUT
from tasks.registry import Registry
from tests.serving.conftest import request_rows, running_client

pytestmark = pytest.mark.long

PATH = "/models/tiny/invocations"


def version(client) -> str:
    return client.post(PATH, json={"instances": request_rows(9, 1)}).json()["version"]


def wait_until(check, seconds: float = 20) -> None:
    """Wait until a condition holds. The time limit only ends a failing test."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_promotion_and_a_rollback_are_followed(env, client):
    assert version(client) == "1"
    env.fit_version("2", depth=1)
    env.promote("2")
    wait_until(lambda: version(client) == "2")
    env.append_row("rollback", "1", env.ledger.digest("1"))
    wait_until(lambda: version(client) == "1")


@pytest.mark.long
@pytest.mark.parametrize("fault", ["forged", "invalid file", "missing", "failed smoke test"])
def test_a_version_that_cannot_be_loaded_or_fails_its_smoke_test_is_not_served(env, client, fault, monkeypatch):
    digest = env.fit_version("2", depth=1)
    copy = env.folder / ".evergreen" / "models" / "tiny" / "2"
    if fault == "forged":
        digest = "0" * 64
    elif fault == "invalid file":
        (copy / "model.skops").write_bytes(b"not a model")
    elif fault == "missing":
        shutil.rmtree(copy)
    else:
        monkeypatch.setattr(versions, "prediction_problem", lambda *_: "2 predictions are not finite")
    env.append_row("promote", "2", digest)
    wait_until(lambda: any("being downloaded" not in one for one in client.get("/ready").json()["problems"]), 60)
    (problem,) = client.get("/ready").json()["problems"]
    assert problem.startswith("tiny: version 2 could not be loaded, version 1 stays in use: ")
    assert client.get("/ready").status_code == 200
    assert version(client) == "1"
    monkeypatch.undo()


def test_a_start_without_ledger_and_registry_serves_the_last_served_version(env, monkeypatch):
    with running_client(env) as client:
        before = client.post(PATH, json={"instances": request_rows(9, 1)}).json()
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with running_client(env) as client:
        after = client.post(PATH, json={"instances": request_rows(9, 1)}).json()
        ready = client.get("/ready")
    same = ("predictions", "version", "as_of")
    assert {name: before[name] for name in same} == {name: after[name] for name in same}
    assert ready.status_code == 200
    assert "the ledger does not respond (OperationalError); the last champions stay in use" in ready.json()["problems"]


def test_an_empty_ledger_is_reported_and_the_last_served_version_stays_in_use(env, monkeypatch):
    """The database file was moved, or its address is wrong. The server keeps serving although the ledger is empty."""
    with running_client(env):
        pass
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", f"sqlite:///{env.folder}/another.db")
    with running_client(env) as client:
        wait_until(lambda: client.get("/ready").json()["models"]["tiny"] == "1")
        (problem,) = client.get("/ready").json()["problems"]
        assert "the ledger has no row of this model, but version 1 was served last" in problem
        assert version(client) == "1"


def test_a_first_start_without_a_ledger_is_not_ready(env, monkeypatch):
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    service = env.service()
    service.follower.poll()
    assert not service.follower.ready


def test_promotions_are_followed_after_an_outage_of_the_ledger(env, client, monkeypatch):
    def unavailable(url):
        raise sa.exc.OperationalError("", {}, OSError("unavailable"))

    real = follower.newest_sequences
    monkeypatch.setattr(follower, "newest_sequences", unavailable)
    wait_until(lambda: client.get("/ready").json()["status"] == "degraded")
    env.fit_version("2", depth=1)
    env.promote("2")
    assert version(client) == "1"
    monkeypatch.setattr(follower, "newest_sequences", real)
    wait_until(lambda: version(client) == "2")
    wait_until(lambda: client.get("/ready").json()["status"] == "ready")


def test_a_download_is_retried_after_an_outage_of_the_registry(env, monkeypatch):
    """The promoted version is not on the local disk and MLflow is unavailable. The current version stays until MLflow responds."""
    monkeypatch.setattr(follower, "RETRY_SECONDS", 0.5)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    digest, copy = env.fit_version("2", depth=1), env.folder / ".evergreen" / "models" / "tiny" / "2"
    copy.rename(env.folder / "moved")
    with running_client(env) as client:
        env.append_row("promote", "2", digest)
        wait_until(lambda: "does not answer" in str(client.get("/ready").json()["problems"]), 60)
        assert (client.get("/ready").json()["status"], version(client)) == ("degraded", "1")
        (env.folder / "moved").rename(copy)  # as if it had been downloaded
        wait_until(lambda: version(client) == "2", 60)
        wait_until(lambda: client.get("/ready").json()["status"] == "ready")


def test_the_pipeline_predicts_if_there_is_no_plan(env, monkeypatch):
    def no_plan(model):
        raise versions.NoPredictionPlan("its encoder has a Magic step")

    with running_client(env) as client:
        compiled = client.post(PATH, json={"instances": request_rows(9, 20)}).json()["predictions"]
    monkeypatch.setattr(versions, "plan_of", no_plan)
    with running_client(env) as client:
        about = client.get("/models/tiny").json()["champion"]
        assert (about["compiled"], about["why_not_compiled"]) == (False, "its encoder has a Magic step")
        assert client.post(PATH, json={"instances": request_rows(9, 20)}).json()["predictions"] == compiled


def test_changed_and_new_folders_are_read_and_an_invalid_one_changes_nothing(env, client):
    def heavy() -> int:
        return client.post(PATH, json={"instances": [request_rows(9, 1)[0] | {"weight": 70}]}).status_code

    path = env.folder / "configs" / "tiny" / "model.yaml"
    text = path.read_text()
    assert heavy() == 422
    path.write_text(text.replace("max_value: 50", "max_value: 80"))
    wait_until(lambda: heavy() == 200)
    path.write_text("name: tiny\nfeatured: {}\n")
    wait_until(lambda: client.get("/ready").json()["status"] == "degraded")
    assert "tiny: its folder cannot be read" in client.get("/ready").json()["problems"][0]
    assert heavy() == 200
    shutil.copytree(path.parent, env.folder / "configs" / "second")
    second = env.folder / "configs" / "second" / "model.yaml"
    second.write_text(text.replace("name: tiny", "name: second"))
    wait_until(lambda: "second" in client.get("/ready").json()["models"])
    shutil.rmtree(second.parent)
    wait_until(lambda: "second" not in client.get("/ready").json()["models"])


def test_an_invalid_change_is_reported_until_it_is_fixed(env, client):
    """The pattern is invalid, so requests are still validated against the previous contract."""
    path = env.folder / "configs" / "tiny" / "model.yaml"
    text = path.read_text()
    check = "  - {type: expect_column_values_to_match_regex, kwargs: {column: city, regex: '('}}\n"
    path.write_text(text.replace("expectations:\n", f"expectations:\n{check}"))
    wait_until(lambda: client.get("/ready").json()["status"] == "degraded")
    for _ in range(3):
        client.service.follower._retry_at["tiny"] = 0.0  # the retry is due now
        time.sleep(0.7)
        assert client.get("/ready").json()["status"] == "degraded"
    assert version(client) == "1"
    path.write_text(text)
    wait_until(lambda: client.get("/ready").json()["status"] == "ready")


def test_the_last_served_version_and_its_digest_are_saved(env, client):
    path = env.folder / ".evergreen" / "serving" / "champions" / "tiny.json"
    wait_until(path.is_file)
    content = json.loads(path.read_text())
    assert (content["version"], content["digest"]) == ("1", env.ledger.digest("1"))
    assert path.stat().st_size < 1000


@pytest.mark.long
def test_a_damaged_copy_is_replaced_without_delaying_the_other_models(env, client, monkeypatch):
    """MLflow takes its time. The ledger is still polled, and the previous champion stays in use."""
    (artifacts := env.folder / "artifacts").mkdir()
    registry = client.service.follower.resources["tiny"].registry
    with suppress(MlflowException):  # another test has created it
        registry.client.create_registered_model("tiny")
    versions_ = [registry.client.create_model_version("tiny", str(artifacts)) for _ in range(2)]
    number = str(versions_[1].version)  # not 1, which is the champion
    env.fit_version(number, depth=1)
    file = registry.cache / number / "model.skops"
    shutil.copy(file, artifacts)
    file.write_bytes(file.read_bytes()[:1000])
    started, resume, download = threading.Event(), threading.Event(), Registry._download

    @contextmanager
    def slow_download(*args):
        started.set()
        assert resume.wait(60)
        with download(*args) as folder:
            yield folder

    monkeypatch.setattr(Registry, "_download", slow_download)
    env.promote(number)
    assert started.wait(60)
    wait_until(lambda: "being downloaded" in str(client.get("/ready").json()["problems"]))
    assert client.service.follower.age < LEDGER_TIMEOUT
    assert version(client) == "1"
    resume.set()
    wait_until(lambda: version(client) == number)
    assert client.get("/ready").json()["problems"] == []
