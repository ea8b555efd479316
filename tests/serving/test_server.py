"""The server in its own process: real clients, load while the champion changes, crashes and overload."""

import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest
import requests
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from configs.load import load_model
from configs.settings import ROOT
from tasks.models.features import predict
from tasks.storage.answer_log import segments, served_folder, served_rows
from tests.conftest import free_port, parcels
from tests.serving.conftest import Environment, request_rows
from tests.serving.test_following import wait_until

pytestmark = pytest.mark.servers
PATH = "/models/tiny/invocations"


class Server:
    def __init__(self, port: int, process: subprocess.Popen, log: Path) -> None:
        self.port, self.process, self.log = port, process, log
        self.url = f"http://127.0.0.1:{port}"

    def ready(self) -> dict:
        return requests.get(f"{self.url}/ready", timeout=5).json()

    def post(self, rows, timeout: float = 30):
        return requests.post(self.url + PATH, json={"instances": rows}, timeout=timeout)


@contextmanager
def running(env: Environment, **environment: str) -> Iterator[Server]:
    """Run a server process, and kill it at the end if it still runs."""
    port, log = free_port(), env.folder / "serving.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving"], cwd=ROOT, stdout=out, stderr=out,
            env=os.environ | {"EVERGREEN_SERVING_PORT": str(port)} | environment,
        )  # fmt: skip
    server = Server(port, process, log)
    try:
        wait_until(lambda: is_ready(server), 120)
        yield server
    finally:
        process.kill()
        process.wait()


def is_ready(server: Server) -> bool:
    assert server.process.poll() is None, server.log.read_text()
    try:
        return server.ready()["status"] == "ready"
    except requests.RequestException:
        return False


def rows_on_disk(env: Environment, server: Server) -> int:
    """Return the number of rows in the journals of a stopped server."""
    from serving.journal import rows_by_partition

    folder = env.folder / ".evergreen" / "serving" / "journals" / "tiny"
    journals = folder.glob("*.jsonl")
    return sum(len(part["parcel"]) for path in journals for part in rows_by_partition(path, env.config).values())


def test_the_mlflow_client_works(env):
    frame = parcels(9)[["weight", "distance", "city"]]
    with running(env) as server:
        client = ScoringServerClient("127.0.0.1", f"{server.port}/models/tiny")
        client.wait_server_ready()
        assert client.get_version() == "1"
        predictions = client.invoke(frame)["predictions"]
    expected = predict(env.models["1"], frame, env.config)
    assert [probabilities[1] for probabilities in predictions] == expected.tolist()


@pytest.mark.slow
def test_twenty_promotions_and_rollbacks_under_load_drop_no_request_and_mix_no_versions(env):
    """Each response has the predictions of one version, which was champion within the last two seconds."""
    digests = {"1": env.ledger.digest("1"), "2": env.fit_version("2", depth=1)}
    rows = request_rows(9, 5)
    expected = {n: predict(env.models[n], parcels(9).head(5), env.config).tolist() for n in ("1", "2")}
    responses: list[tuple[float, float, int, str]] = []
    mismatches, stopped = [], threading.Event()
    body = json.dumps({"instances": rows})

    def send_requests(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not stopped.is_set():
            began = time.time()
            connection.request("POST", PATH, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = json.loads(response.read())
            responses.append((began, time.time(), response.status, content.get("version", "")))
            if (
                response.status == 200
                and [probabilities[1] for probabilities in content["predictions"]] != expected[content["version"]]
            ):
                mismatches.append(content)
        connection.close()

    changes = [(time.time(), "1")]
    with running(env) as server:
        for version in "21":  # load both versions before the requests start
            env.append_row("promote" if version == "2" else "rollback", version, digests[version])
            wait_until(lambda version=version: server.ready()["models"]["tiny"] == version)
        clients = [threading.Thread(target=send_requests, args=(server.port,)) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            for turn in range(20):
                version = "21"[turn % 2]
                since = time.time()
                env.append_row("promote" if version == "2" else "rollback", version, digests[version])
                changes.append((since, version))
                time.sleep(0.3 if turn % 5 == 0 else 2.5 if turn % 4 == 1 else 0.8)  # fast and slow changes
        finally:
            time.sleep(2)
            stopped.set()
            for client in clients:
                client.join()
    assert len(responses) > 200
    assert {status for *_, status, _ in responses} == {200}
    assert not mismatches
    for began, ended, _, version in responses:
        champions = {
            champion
            for at, (since, champion) in enumerate(changes)
            if since <= ended and (changes[at + 1][0] if at + 1 < len(changes) else float("inf")) >= began - 2
        }
        assert version in champions
    assert {version for *_, version in responses} == {"1", "2"}


def test_a_killed_server_loses_less_than_a_second_of_rows(env):
    with running(env) as server:
        answered = {}
        began = time.monotonic()
        while time.monotonic() - began < 3:
            assert server.post([request_rows(9, 1)[0] | {"parcel": f"p{len(answered)}"}]).status_code == 200
            answered[f"p{len(answered)}"] = time.monotonic()
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        killed = time.monotonic()
    expected_keys = {key for key, at in answered.items() if killed - at > 1}
    assert len(expected_keys) > 10
    with running(env) as server:
        assert server.post(request_rows(9, 1)).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) in (0, -signal.SIGTERM)
    rows = served_rows(load_model("tiny"), "2024-03-10").to_pandas()
    assert expected_keys <= set(rows["parcel"])
    tables = [pd.read_parquet(path) for path in segments(served_folder("tiny") / "2024-03-10")]
    assert len(pd.concat(tables)) == len(rows)  # no duplicates


def test_a_sigterm_lets_requests_finish_and_writes_all_rows(env):
    """A request that is open at the SIGTERM is answered. The lake has exactly the rows of all answered requests."""
    answered: list[int] = []

    def send_requests(server: Server) -> None:
        while True:
            try:
                answered.append(server.post(request_rows(9, 50)).status_code)
            except requests.ConnectionError:
                return

    body = json.dumps({"instances": request_rows(9, 50)}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with (
        running(env, EVERGREEN_SERVING_SECONDS="60") as server,
        socket.create_connection(("127.0.0.1", server.port)) as pending,
    ):
        pending.settimeout(30)
        pending.sendall(head.encode() + body[:100])
        clients = [threading.Thread(target=send_requests, args=(server,)) for _ in range(3)]
        for client in clients:
            client.start()
        wait_until(lambda: len(answered) > 20)
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join(60)
            assert not client.is_alive()
        pending.sendall(body[100:])
        received = b""
        while part := pending.recv(1 << 16):
            received += part
        server.process.wait(60)
    assert b" 200 " in received.splitlines()[0]
    assert len(json.loads(received.partition(b"\r\n\r\n")[2])["predictions"]) == 50
    assert set(answered) == {200}
    assert rows_on_disk(env, server) == 0  # all rows are in the lake
    assert len(served_rows(load_model("tiny"), "2024-03-10")) == 50 * (len(answered) + 1)


def test_huge_and_slow_bodies_and_a_thousand_connections_do_not_block_other_clients(env):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
    with running(env, EVERGREEN_SERVING_SECONDS="2") as server:
        before = psutil.Process(server.process.pid).memory_info().rss
        slow = socket.create_connection(("127.0.0.1", server.port))
        slow.sendall(
            b"POST "
            + PATH.encode()
            + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(1000)]
        assert server.post(request_rows(9, 3)).status_code == 200
        huge = socket.create_connection(("127.0.0.1", server.port))
        huge.sendall(
            b"POST "
            + PATH.encode()
            + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 200000000\r\n\r\n"
        )
        assert b" 413 " in huge.recv(4096).splitlines()[0]
        chunked = socket.create_connection(("127.0.0.1", server.port))
        chunked.sendall(
            b"POST "
            + PATH.encode()
            + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        sent = send_chunks(chunked, 200_000_000)
        assert sent < 100_000_000  # the server closed the connection
        slow.settimeout(30)
        assert b" 408 " in slow.recv(4096).splitlines()[0]
        assert server.post(request_rows(9, 3)).status_code == 200
        grown = psutil.Process(server.process.pid).memory_info().rss - before
        assert grown < 150e6
        for one in (*idle, slow, huge, chunked):
            one.close()
        assert is_ready(server)
    assert "Traceback" not in server.log.read_text()


def send_chunks(connection: socket.socket, limit: int) -> int:
    """Send chunks until the connection is closed, and return the number of bytes sent."""
    chunk, sent = b"10000\r\n" + b" " * 0x10000 + b"\r\n", 0
    try:
        while sent < limit:
            connection.sendall(chunk)
            sent += 0x10000
    except OSError:
        pass
    return sent


@pytest.mark.long
def test_the_server_imports_no_flow_libraries_and_requires_a_token_for_other_hosts(env):
    code = "import sys, serving.__main__; print(*[n for n in ('prefect', 'great_expectations', 'evidently', 'mlflow') if n in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
    process = subprocess.run(
        [sys.executable, "-m", "serving"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"EVERGREEN_HOST": "0.0.0.0"},
    )
    assert process.returncode == 2
    assert "set EVERGREEN_SERVING_TOKEN to the bearer token that clients must send" in process.stderr


@pytest.mark.long
def test_requests_generated_from_the_openapi_document_cause_no_server_error(env):
    """Schemathesis generates valid and invalid requests from the OpenAPI document."""
    with running(env) as server:
        report = subprocess.run(
            [str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi.json",
             "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
             "--max-examples", "60", "--seed", "1", "--no-color", "--generation-database", ":memory:"],
            cwd=env.folder, capture_output=True, text=True,
        )  # fmt: skip
        assert report.returncode == 0, report.stdout[-5000:]
        assert is_ready(server)
    assert "Traceback" not in server.log.read_text()
