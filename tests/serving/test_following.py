"""The ledger's champion answers, and goes on when what should follow is not there or not sound."""

import json
import shutil
import time

import pytest
import sqlalchemy as sa

from serving import follower, versions
from tests.serving.conftest import rows_of, served

PATH = "/models/tiny/invocations"


def version(client) -> str:
    return client.post(PATH, json={"instances": rows_of(9, 1)}).json()["version"]


def until(check, seconds: float = 20) -> None:
    """Wait for something; the time is only there so that a failure ends."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_promotion_and_a_rollback_are_followed(world, client):
    assert version(client) == "1"
    world.version("2", depth=1)
    world.promote("2")
    until(lambda: version(client) == "2")
    world.row("rollback", "1", world.ledger.digest("1"))
    until(lambda: version(client) == "1")


@pytest.mark.parametrize("fault", ["forged", "no model", "gone", "not sound"])
def test_a_version_that_cannot_be_loaded_or_asked_is_not_taken(world, client, fault, monkeypatch):
    digest = world.version("2", depth=1)
    copy = world.folder / ".evergreen" / "models" / "tiny" / "2"
    if fault == "forged":
        digest = "0" * 64
    elif fault == "no model":
        (copy / "model.skops").write_bytes(b"no model at all")
    elif fault == "gone":
        shutil.rmtree(copy)
    else:
        monkeypatch.setattr(versions, "unsound", lambda *_: "2 predictions are no numbers")
    world.row("promote", "2", digest)
    until(lambda: any("being fetched" not in one for one in client.get("/ready").json()["problems"]), 60)
    (problem,) = client.get("/ready").json()["problems"]
    assert problem.startswith("tiny: version 2 was not taken, version 1 goes on: ")
    assert client.get("/ready").status_code == 200
    assert version(client) == "1"
    monkeypatch.undo()


def test_a_start_without_ledger_and_registry_goes_on_with_what_was_served_last(world, monkeypatch):
    with served(world) as client:
        before = client.post(PATH, json={"instances": rows_of(9, 1)}).json()
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with served(world) as client:
        after = client.post(PATH, json={"instances": rows_of(9, 1)}).json()
        ready = client.get("/ready")
    same = ("predictions", "version", "as_of")
    assert {name: before[name] for name in same} == {name: after[name] for name in same}
    assert ready.status_code == 200
    assert "the ledger does not answer (OperationalError); what was champion goes on" in ready.json()["problems"]


def test_a_ledger_that_has_gone_is_told_and_what_was_served_goes_on(world, monkeypatch):
    """As where a file was moved away, or the address is another's: an empty ledger is no reason to serve nothing."""
    with served(world):
        pass
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", f"sqlite:///{world.folder}/another.db")
    with served(world) as client:
        until(lambda: client.get("/ready").json()["models"]["tiny"] == "1")
        (problem,) = client.get("/ready").json()["problems"]
        assert "the ledger has no row of it, but version 1 was served last" in problem
        assert version(client) == "1"


def test_a_first_start_without_a_ledger_is_not_ready(world, monkeypatch):
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    service = world.service()
    service.follower.look()
    assert not service.follower.ready


def test_a_ledger_that_is_away_for_a_while_is_followed_again(world, client, monkeypatch):
    def away(url):
        raise sa.exc.OperationalError("", {}, OSError("away"))

    real = follower.newest_sequences
    monkeypatch.setattr(follower, "newest_sequences", away)
    until(lambda: client.get("/ready").json()["status"] == "degraded")
    world.version("2", depth=1)
    world.promote("2")
    assert version(client) == "1"
    monkeypatch.setattr(follower, "newest_sequences", real)
    until(lambda: version(client) == "2")
    until(lambda: client.get("/ready").json()["status"] == "ready")


def test_a_registry_that_is_away_for_a_while_is_asked_again(world, monkeypatch):
    """A version is promoted that was never fetched here, and MLflow does not answer: the one before goes on until it does."""
    monkeypatch.setattr(follower, "AGAIN", 0.5)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    digest, copy = world.version("2", depth=1), world.folder / ".evergreen" / "models" / "tiny" / "2"
    copy.rename(world.folder / "kept")
    with served(world) as client:
        world.row("promote", "2", digest)
        until(lambda: "does not answer" in str(client.get("/ready").json()["problems"]), 60)
        assert (client.get("/ready").json()["status"], version(client)) == ("degraded", "1")
        (world.folder / "kept").rename(copy)  # as when it has been fetched
        until(lambda: version(client) == "2", 60)
        until(lambda: client.get("/ready").json()["status"] == "ready")


def test_the_pipeline_answers_where_the_plan_does_not_know_it(world, monkeypatch):
    def none(model):
        raise versions.NoPlan("its encoder does Magic to numbers")

    with served(world) as client:
        compiled = client.post(PATH, json={"instances": rows_of(9, 20)}).json()["predictions"]
    monkeypatch.setattr(versions, "plan_of", none)
    with served(world) as client:
        about = client.get("/models/tiny").json()["champion"]
        assert (about["compiled"], about["why_not_compiled"]) == (False, "its encoder does Magic to numbers")
        assert client.post(PATH, json={"instances": rows_of(9, 20)}).json()["predictions"] == compiled


def test_a_changed_or_new_folder_is_read_and_a_broken_one_changes_nothing(world, client):
    def heavy() -> int:
        return client.post(PATH, json={"instances": [rows_of(9, 1)[0] | {"weight": 70}]}).status_code

    path = world.folder / "configs" / "tiny" / "model.yaml"
    text = path.read_text()
    assert heavy() == 422
    path.write_text(text.replace("max_value: 50", "max_value: 80"))
    until(lambda: heavy() == 200)
    path.write_text("name: tiny\nfeatured: {}\n")
    until(lambda: client.get("/ready").json()["status"] == "degraded")
    assert "tiny: its folder cannot be read" in client.get("/ready").json()["problems"][0]
    assert heavy() == 200
    shutil.copytree(path.parent, world.folder / "configs" / "second")
    second = world.folder / "configs" / "second" / "model.yaml"
    second.write_text(text.replace("name: tiny", "name: second"))
    until(lambda: "second" in client.get("/ready").json()["models"])
    shutil.rmtree(second.parent)
    until(lambda: "second" not in client.get("/ready").json()["models"])


def test_a_change_that_cannot_be_taken_stays_told_until_it_is_mended(world, client):
    """Such as a pattern that is none: the row goes on being held to the contract before."""
    path = world.folder / "configs" / "tiny" / "model.yaml"
    text = path.read_text()
    check = "  - {type: expect_column_values_to_match_regex, kwargs: {column: city, regex: '('}}\n"
    path.write_text(text.replace("expectations:\n", f"expectations:\n{check}"))
    until(lambda: client.get("/ready").json()["status"] == "degraded")
    for _ in range(3):
        client.service.follower._again["tiny"] = 0.0  # as when the time to try again has come
        time.sleep(0.7)
        assert client.get("/ready").json()["status"] == "degraded"
    assert version(client) == "1"
    path.write_text(text)
    until(lambda: client.get("/ready").json()["status"] == "ready")


def test_what_is_noted_is_the_version_and_its_digest(world, client):
    note = world.folder / ".evergreen" / "serving" / "champions" / "tiny.json"
    until(note.is_file)
    held = json.loads(note.read_text())
    assert (held["version"], held["digest"]) == ("1", world.ledger.digest("1"))
    assert note.stat().st_size < 1000
