"""What clients, probes and people are answered."""

import asyncio
import errno
import logging
import re
import threading

import numpy as np
import pytest
from fastapi import Request

from configs.load import load_model
from serving import app
from serving.journal import Journal
from serving.problems import Problem
from serving.reading import Bodies, Limits
from tasks.models.features import predict
from tasks.storage.answer_log import served_rows
from tests.conftest import parcels
from tests.serving.conftest import rows_of, served
from tests.serving.test_following import until

PATH = "/models/tiny/invocations"


def post(client, rows, **more):
    return client.post(PATH, json={"dataframe_records": rows}, **more)


def test_an_answer_names_version_and_moment(world, client):
    answer = post(client, rows_of(9), headers={"X-Request-ID": "mine-1"})
    assert answer.status_code == 200
    found = answer.json()
    wanted = predict(world.models["1"], parcels(9).head(3), world.config)
    assert np.array(found["predictions"])[:, 1].tobytes() == wanted.tobytes()
    champion = world.ledger.champion()
    assert (found["model"], found["version"], found["as_of"]) == ("tiny", "1", champion.as_of.isoformat())
    assert answer.headers["x-request-id"] == "mine-1"
    assert len(found["request_id"]) == 32  # a client's own may come twice
    assert answer.headers["x-model-version"] == "1"


def test_an_id_that_is_no_plain_one_is_replaced(client):
    answer = post(client, rows_of(9), headers={"X-Request-ID": "a\tb" * 30})
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


def test_a_refusal_is_a_problem_document(client):
    answer = post(client, [rows_of(9)[0] | {"weight": "heavy"}])
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["type"] == "urn:evergreen:problem:invalid-rows"
    assert found["errors"] == [{"row": 0, "field": "weight", "value": "heavy", "problem": "is no number"}]
    assert "row 0, weight: is no number" in found["detail"]
    assert set(found) == {"type", "title", "status", "detail", "errors", "request_id"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("get", "/nothing", 404),
        ("get", PATH, 405),
        ("post", "/models/tine/invocations", 404),
        ("get", "/models/tine", 404),
    ],
)
def test_what_is_not_there_is_a_problem_document_too(client, method, path, status):
    answer = getattr(client, method)(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_a_model_without_a_champion_says_what_to_do(world):
    (world.folder / "configs" / "other").mkdir()
    text = (world.folder / "configs" / "tiny" / "model.yaml").read_text().replace("name: tiny", "name: other")
    (world.folder / "configs" / "other" / "model.yaml").write_text(text)
    for sql in ("source.sql", "labels.sql"):
        (world.folder / "configs" / "other" / sql).write_text((world.folder / "configs" / "tiny" / sql).read_text())
    (world.folder / "configs" / "broken").mkdir()
    (world.folder / "configs" / "broken" / "model.yaml").write_text("name: broken\n")
    with served(world) as client:
        answer = client.post("/models/other/invocations", json={"inputs": {"weight": [1]}})
        assert answer.status_code == 503
        assert "other: it has no champion yet; run `train` first" in answer.json()["detail"]
        assert answer.headers["retry-after"] == "1"
        ready = client.get("/ready")  # one model's folder is no reason to take the others away
        assert ready.json()["models"] == {"broken": None, "other": None, "tiny": "1"}
        assert "broken: its folder cannot be read" in ready.json()["problems"][0]
        assert post(client, rows_of(9)).status_code == 200


def test_probes_models_and_metrics(client):
    post(client, rows_of(9))
    post(client, [{"weight": 1}])
    assert client.get("/health").json() == client.get("/ping").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready", "models": {"tiny": "1"}, "problems": []}
    (about,) = client.get("/models").json()
    assert about == client.get("/models/tiny").json()
    champion = about["champion"]
    assert champion["version"] == "1"
    assert champion["features"] == ["weight", "distance", "city"]
    assert champion["compiled"] is True
    assert about["classes"] == ["0", "1"]
    told = client.get("/metrics").text
    assert 'evergreen_requests_total{model="tiny",status="200"}' in told
    assert 'evergreen_requests_total{model="tiny",status="422"}' in told
    assert 'evergreen_rows_total{model="tiny",role="champion",version="1"}' in told
    assert 'evergreen_champion_version{model="tiny"} 1.0' in told
    assert client.get("/", follow_redirects=False).headers["location"] == "/docs"
    page = client.get("/docs").text  # with what it loads, and nothing from elsewhere
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(loaded) >= 2
    assert [client.get(path).status_code for path in loaded] == [200] * len(loaded)


def test_a_token_is_asked_for_where_one_is_set(world):
    with served(world, token="secret") as client:
        for path in ("/models", "/metrics", "/docs", "/openapi.json"):
            answer = client.get(path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert post(client, rows_of(9)).status_code == 401
        assert post(client, rows_of(9), headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert post(client, rows_of(9), headers={"Authorization": "Bearer secret"}).status_code == 200
        assert client.get("/health").status_code == client.get("/ready").status_code == 200


def test_nothing_of_the_input_is_logged(world, client, caplog, monkeypatch):
    def failing(table, *_):
        raise ValueError(f"cannot do {table.columns['city'][0]}")

    monkeypatch.setattr("serving.app.answer", failing)
    with caplog.at_level(logging.DEBUG):
        answer = post(client, [rows_of(9)[0] | {"city": "secret-city"}])
    assert answer.status_code == 500
    assert answer.json()["request_id"] in caplog.text
    assert "ValueError" in caplog.text
    assert "secret-city" not in caplog.text + answer.text


def test_the_document_describes_each_model_with_an_example_that_works(client):
    document = client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    body = document["paths"]["/models/tiny/invocations"]["post"]["requestBody"]["content"]
    for example in body["application/json"]["examples"].values():
        answer = client.post(PATH, json=example["value"])
        assert answer.status_code == 200, answer.text
    answer = client.post(PATH, content=body["text/csv"]["example"], headers={"Content-Type": "text/csv"})
    assert answer.status_code == 200, answer.text
    (records,) = [
        one["properties"]["instances"]
        for one in body["application/json"]["schema"]["oneOf"]
        if "instances" in one["properties"]
    ]
    weight = records["items"]["properties"]["weight"]
    assert weight == {"type": ["number", "null"], "minimum": -50, "maximum": 50}
    assert records["items"]["required"] == ["weight", "distance", "city"]


def test_a_large_body_and_many_rows_are_refused(world, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SERVING_MB", "0.01")
    monkeypatch.setenv("EVERGREEN_SERVING_ROWS", "5")
    with served(world) as client:
        answer = post(client, rows_of(9, 6))
        assert (answer.status_code, "6 rows; this server takes 5" in answer.json()["detail"]) == (413, True)
        answer = post(client, rows_of(9, 100))
        assert (answer.status_code, "this server takes bodies of 0.01 MB" in answer.json()["detail"]) == (413, True)
        parts = (b"x" * 1000 for _ in range(100))  # without a length beforehand
        answer = client.post(PATH, content=parts, headers={"Content-Type": "application/json"})
        assert (answer.status_code, "more than 10,000 bytes" in answer.json()["detail"]) == (413, True)


def test_nothing_is_answered_that_cannot_be_recorded(world, monkeypatch):
    """A disk that takes no more: what is answered waits in memory, up to a limit, and then nothing is."""
    monkeypatch.setenv("EVERGREEN_SERVING_UNWRITTEN", "7")

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with served(world) as client:
        with monkeypatch.context() as disk:
            disk.setattr(Journal, "write", full)
            assert [post(client, rows_of(9, 3)).status_code for _ in range(2)] == [200, 200]
            refused = post(client, rows_of(9, 3))
            until(lambda: "No space left on device" in str(client.get("/ready").json()["problems"]))
            assert post(client, rows_of(9, 1)).status_code == 200  # it has room for this one
            assert client.get("/ready").status_code == 503
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json()["type"] == "urn:evergreen:problem:not-recorded"
        until(lambda: client.get("/ready").json()["status"] == "ready")
        assert post(client, rows_of(9, 3)).status_code == 200
    assert len(served_rows(load_model("tiny"), "2024-03-10")) == 10


def test_all_bodies_together_have_a_limit():
    """A second body that does not fit beside the first is refused, and fits when that is answered."""
    bodies = Bodies(Limits(body_mb=1, bodies_mb=1.5))

    def request() -> Request:
        async def receive():
            return {"type": "http.request", "body": b"x" * 1_000_000, "more_body": False}

        return Request({"type": "http", "headers": []}, receive)

    async def ask() -> None:
        async with bodies.body(request()) as first:
            assert len(first) == 1_000_000
            with pytest.raises(Problem, match="fill the memory") as refused:
                async with bodies.body(request()):
                    pass
            assert refused.value.status == 503
        assert bodies.held == 0
        async with bodies.body(request()) as again:
            assert len(again) == 1_000_000

    asyncio.run(ask())


def test_no_more_large_requests_than_two_are_read_at_a_time_and_small_ones_pass_them(world, monkeypatch):
    going, most, hold = 0, 0, threading.Event()
    real = app.read_table

    def slow(body, kind, rows):
        nonlocal going, most
        if len(body) > app.INLINE_BYTES:
            going += 1
            most = max(most, going)
            assert hold.wait(60)
            going -= 1
        return real(body, kind, rows)

    monkeypatch.setattr(app, "read_table", slow)
    many = [row | {"city": "x" * 900} for row in rows_of(9, 100)]
    found: list[int] = []
    with served(world) as client:
        threads = [threading.Thread(target=lambda: found.append(post(client, many).status_code)) for _ in range(5)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: going == 2)
            assert post(client, rows_of(9, 3)).status_code == 200
            assert going == 2
        finally:
            hold.set()
            for thread in threads:
                thread.join()
    assert (found, most) == ([200] * 5, 2)


def test_rows_by_the_thousand_go_through_a_thread_and_are_the_same(world, client):
    rows = [row for day in range(9, 15) for row in rows_of(day, 150)]
    for at, row in enumerate(rows):
        row["parcel"] = str(at)
    found = post(client, rows).json()["predictions"]
    one_by_one = [post(client, [row]).json()["predictions"][0] for row in rows[:20]]
    assert found[:20] == one_by_one
    assert len(found) == 900
