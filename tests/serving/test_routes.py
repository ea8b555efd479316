"""Responses to clients, probes and people."""

import asyncio
import errno
import gzip
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
from tasks.contracts import Stage
from tasks.models.features import predict
from tasks.resources import open_resources
from tasks.storage.answer_log import served_rows
from tests.conftest import parcels
from tests.serving.conftest import request_rows, running_client
from tests.serving.test_following import wait_until

pytestmark = pytest.mark.long

PATH = "/models/tiny/invocations"


def post(client, rows, **options):
    return client.post(PATH, json={"dataframe_records": rows}, **options)


def test_a_response_has_version_and_as_of(env, client):
    response = post(client, request_rows(9), headers={"X-Request-ID": "mine-1"})
    assert response.status_code == 200
    content = response.json()
    expected = predict(env.models["1"], parcels(9).head(3), env.config)
    assert np.array(content["predictions"])[:, 1].tobytes() == expected.tobytes()
    champion = env.ledger.champion()
    assert (content["model"], content["version"], content["as_of"]) == ("tiny", "1", champion.as_of.isoformat())
    assert response.headers["x-request-id"] == "mine-1"
    assert len(content["request_id"]) == 32  # unique, unlike the client's id
    assert response.headers["x-model-version"] == "1"


def test_an_invalid_request_id_is_replaced(client):
    response = post(client, request_rows(9), headers={"X-Request-ID": "a\tb" * 30})
    assert response.headers["x-request-id"] == response.json()["request_id"]


def test_invalid_rows_get_a_problem_document(client):
    response = post(client, [request_rows(9)[0] | {"weight": "heavy"}])
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    content = response.json()
    assert content["type"] == "urn:evergreen:problem:invalid-rows"
    assert content["errors"] == [{"row": 0, "field": "weight", "value": "heavy", "problem": "is not a number"}]
    assert "row 0, weight: is not a number" in content["detail"]
    assert set(content) == {"type", "title", "status", "detail", "errors", "request_id"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("get", "/nothing", 404),
        ("get", PATH, 405),
        ("post", "/models/tine/invocations", 404),
        ("get", "/models/tine", 404),
    ],
)
def test_unknown_paths_and_models_get_a_problem_document(client, method, path, status):
    response = getattr(client, method)(path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status


def test_a_model_without_a_champion_gets_a_problem_with_an_action(env):
    (env.folder / "configs" / "other").mkdir()
    text = (env.folder / "configs" / "tiny" / "model.yaml").read_text().replace("name: tiny", "name: other")
    (env.folder / "configs" / "other" / "model.yaml").write_text(text)
    for sql in ("source.sql", "labels.sql"):
        (env.folder / "configs" / "other" / sql).write_text((env.folder / "configs" / "tiny" / sql).read_text())
    (env.folder / "configs" / "broken").mkdir()
    (env.folder / "configs" / "broken" / "model.yaml").write_text("name: broken\n")
    with running_client(env) as client:
        response = client.post("/models/other/invocations", json={"inputs": {"weight": [1]}})
        assert response.status_code == 503
        assert "other: it has no champion yet; run `train` first" in response.json()["detail"]
        assert response.headers["retry-after"] == "1"
        ready = client.get("/ready")  # an unreadable folder does not affect other models
        assert ready.json()["models"] == {"broken": None, "other": None, "tiny": "1"}
        assert "broken: its folder cannot be read" in ready.json()["problems"][0]
        assert post(client, request_rows(9)).status_code == 200


def test_probes_models_and_metrics(client):
    post(client, request_rows(9))
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
    metrics = client.get("/metrics").text
    assert 'evergreen_requests_total{model="tiny",status="200"}' in metrics
    assert 'evergreen_requests_total{model="tiny",status="422"}' in metrics
    assert 'evergreen_rows_total{model="tiny",role="champion",version="1"}' in metrics
    assert 'evergreen_champion_version{model="tiny"} 1.0' in metrics
    assert client.get("/", follow_redirects=False).headers["location"] == "/docs"
    page = client.get("/docs").text  # all its files come from this server
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(loaded) >= 2
    assert [client.get(path).status_code for path in loaded] == [200] * len(loaded)


def test_every_path_with_get_answers_head_without_a_body(client):
    paths = [path for path, methods in client.get("/openapi.json").json()["paths"].items() if "get" in methods]
    for path in (*paths, "/", "/ping", "/models/tiny/ping", "/models/tiny/health", "/models/tiny/version"):
        head, get = (client.request(method, path, follow_redirects=False) for method in ("HEAD", "GET"))
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert head.headers["content-type"] == get.headers["content-type"] if get.content else True
    assert client.head("/models/nothing").status_code == 404


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "gzip, identity", "unknown"])
def test_a_compressed_body_is_refused_before_it_is_read(client, coding):
    body = gzip.compress(b"0" * 50_000_000)  # 50 kB, which would take 50 MB
    response = client.post(PATH, content=body, headers={"Content-Type": "application/json", "Content-Encoding": coding})
    assert response.status_code == 415
    assert "send the body without compression" in response.json()["detail"]
    assert response.headers["accept-encoding"] == "identity"
    rows = {"dataframe_records": request_rows(9)}
    assert client.post(PATH, json=rows, headers={"Content-Encoding": "identity"}).status_code == 200


def test_the_example_of_a_boolean_feature_is_a_boolean(env):
    """In the lake a boolean is 0 or 1."""
    env.edit_config(features__numeric=["weight", "distance", "fragile"])
    env.fit_version("2", columns={"fragile": 1.0})
    rows = parcels(9).assign(fragile=lambda frame: (frame.index % 2).astype("float64"))
    res = open_resources("tiny")
    ref = res.ref("2024-03-10")
    digest = res.lake.write_frame(Stage.VALID, ref.key, rows[list(res.config.columns)])
    res.lake.write_record(ref, Stage.VALID, version=1, inputs={}, rows=len(rows), digest=digest)
    env.promote("2")
    with running_client(env) as client:
        body = client.get("/openapi.json").json()["paths"]["/models/tiny/invocations"]["post"]["requestBody"]["content"]
        (row,) = body["application/json"]["examples"]["dataframe_records"]["value"]["dataframe_records"]
        assert row["fragile"] is True
        assert client.post(PATH, json={"instances": [row]}).status_code == 200
        csv = body["text/csv"]["example"]
        assert client.post(PATH, content=csv, headers={"Content-Type": "text/csv"}).status_code == 200


def test_a_token_is_required_if_one_is_set(env):
    with running_client(env, token="secret") as client:
        for path in ("/models", "/metrics", "/docs", "/openapi.json"):
            response = client.get(path)
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
        assert post(client, request_rows(9)).status_code == 401
        assert post(client, request_rows(9), headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert post(client, request_rows(9), headers={"Authorization": "Bearer secret"}).status_code == 200
        assert client.get("/health").status_code == client.get("/ready").status_code == 200


def test_input_values_are_never_logged(env, client, caplog, monkeypatch):
    def failing(table, *_):
        raise ValueError(f"cannot do {table.columns['city'][0]}")

    monkeypatch.setattr("serving.app.score_request", failing)
    with caplog.at_level(logging.DEBUG):
        response = post(client, [request_rows(9)[0] | {"city": "secret-city"}])
    assert response.status_code == 500
    assert response.json()["request_id"] in caplog.text
    assert "ValueError" in caplog.text
    assert "secret-city" not in caplog.text + response.text


def test_the_openapi_document_has_a_valid_example_for_each_model(client):
    document = client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    body = document["paths"]["/models/tiny/invocations"]["post"]["requestBody"]["content"]
    for example in body["application/json"]["examples"].values():
        response = client.post(PATH, json=example["value"])
        assert response.status_code == 200, response.text
    response = client.post(PATH, content=body["text/csv"]["example"], headers={"Content-Type": "text/csv"})
    assert response.status_code == 200, response.text
    (records,) = [
        one["properties"]["instances"]
        for one in body["application/json"]["schema"]["oneOf"]
        if "instances" in one["properties"]
    ]
    weight = records["items"]["properties"]["weight"]
    assert weight == {"type": ["number", "null"], "minimum": -50, "maximum": 50}
    assert records["items"]["required"] == ["weight", "distance", "city"]


def test_large_bodies_and_too_many_rows_are_refused(env, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SERVING_MB", "0.01")
    monkeypatch.setenv("EVERGREEN_SERVING_ROWS", "5")
    with running_client(env) as client:
        response = post(client, request_rows(9, 6))
        assert (response.status_code, "6 rows; this server accepts up to 5" in response.json()["detail"]) == (413, True)
        response = post(client, request_rows(9, 100))
        assert response.status_code == 413
        assert "this server accepts bodies up to 0.01 MB" in response.json()["detail"]
        parts = (b"x" * 1000 for _ in range(100))  # without a Content-Length
        response = client.post(PATH, content=parts, headers={"Content-Type": "application/json"})
        assert (response.status_code, "more than 10,000 bytes" in response.json()["detail"]) == (413, True)


def test_requests_are_refused_if_predictions_cannot_be_recorded(env, monkeypatch):
    """The disk is full: rows wait in memory up to a limit, then requests are refused."""
    monkeypatch.setenv("EVERGREEN_SERVING_UNWRITTEN", "7")

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with running_client(env) as client:
        with monkeypatch.context() as disk:
            disk.setattr(Journal, "write", full)
            assert [post(client, request_rows(9, 3)).status_code for _ in range(2)] == [200, 200]
            refused = post(client, request_rows(9, 3))
            wait_until(lambda: "No space left on device" in str(client.get("/ready").json()["problems"]))
            assert post(client, request_rows(9, 1)).status_code == 200  # this row is within the limit
            assert client.get("/ready").status_code == 503
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json()["type"] == "urn:evergreen:problem:not-recorded"
        wait_until(lambda: client.get("/ready").json()["status"] == "ready")
        assert post(client, request_rows(9, 3)).status_code == 200
    assert len(served_rows(load_model("tiny"), "2024-03-10")) == 10


def test_the_size_of_all_bodies_together_is_limited():
    """A second body that exceeds the memory limit is refused, and accepted after the first request ends."""
    bodies = Bodies(Limits(body_mb=1, bodies_mb=1.5))

    def request() -> Request:
        async def receive():
            return {"type": "http.request", "body": b"x" * 1_000_000, "more_body": False}

        return Request({"type": "http", "headers": []}, receive)

    async def send() -> None:
        async with bodies.body(request()) as first:
            assert len(first) == 1_000_000
            with pytest.raises(Problem, match="fill the memory") as refused:
                async with bodies.body(request()):
                    pass
            assert refused.value.status == 503
        assert bodies.bytes_in_memory == 0
        async with bodies.body(request()) as again:
            assert len(again) == 1_000_000

    asyncio.run(send())


def test_only_two_large_requests_run_at_the_same_time_and_do_not_block_small_ones(env, monkeypatch):
    in_progress, highest, release = 0, 0, threading.Event()
    real = app.read_table

    def slow(body, kind, rows):
        nonlocal in_progress, highest
        if len(body) > app.INLINE_BYTES:
            in_progress += 1
            highest = max(highest, in_progress)
            assert release.wait(60)
            in_progress -= 1
        return real(body, kind, rows)

    monkeypatch.setattr(app, "read_table", slow)
    large_rows = [row | {"city": "x" * 900} for row in request_rows(9, 100)]
    statuses: list[int] = []
    with running_client(env) as client:
        threads = [
            threading.Thread(target=lambda: statuses.append(post(client, large_rows).status_code)) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: in_progress == 2)
            assert post(client, request_rows(9, 3)).status_code == 200
            assert in_progress == 2
        finally:
            release.set()
            for thread in threads:
                thread.join()
    assert (statuses, highest) == ([200] * 5, 2)


def test_large_and_single_row_requests_get_the_same_predictions(env, client):
    rows = [row for day in range(9, 15) for row in request_rows(day, 150)]
    for i, row in enumerate(rows):
        row["parcel"] = str(i)
    predictions = post(client, rows).json()["predictions"]
    one_by_one = [post(client, [row]).json()["predictions"][0] for row in rows[:20]]
    assert predictions[:20] == one_by_one
    assert len(predictions) == 900
