"""The real server in a process of its own: real clients, load while the champion changes, and bad days."""

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
from tests.serving.conftest import World, rows_of
from tests.serving.test_following import until

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
def running(world: World, **environment: str) -> Iterator[Server]:
    """A server process over a world; killed in the end if it still runs."""
    port, log = free_port(), world.folder / "serving.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving"], cwd=ROOT, stdout=out, stderr=out,
            env=os.environ | {"EVERGREEN_SERVING_PORT": str(port)} | environment,
        )  # fmt: skip
    server = Server(port, process, log)
    try:
        until(lambda: answers(server), 120)
        yield server
    finally:
        process.kill()
        process.wait()


def answers(server: Server) -> bool:
    assert server.process.poll() is None, server.log.read_text()
    try:
        return server.ready()["status"] == "ready"
    except requests.RequestException:
        return False


def rows_on_disk(world: World, server: Server) -> int:
    """Rows that the stopped server's journals and segments hold, of one day."""
    from serving.journal import by_partition

    folder = world.folder / ".evergreen" / "serving" / "journals" / "tiny"
    journals = folder.glob("*.jsonl")
    return sum(len(part["parcel"]) for path in journals for part in by_partition(path, world.config).values())


def test_mlflows_own_client_is_answered(world):
    frame = parcels(9)[["weight", "distance", "city"]]
    with running(world) as server:
        client = ScoringServerClient("127.0.0.1", f"{server.port}/models/tiny")
        client.wait_server_ready()
        assert client.get_version() == "1"
        found = client.invoke(frame)["predictions"]
    wanted = predict(world.models["1"], frame, world.config)
    assert [two[1] for two in found] == wanted.tolist()


def test_twenty_promotions_and_rollbacks_under_load_drop_and_mix_nothing(world):
    """Every answer is of one version, which was champion within the last two seconds, and says what that version says."""
    digests = {"1": world.ledger.digest("1"), "2": world.version("2", depth=1)}
    rows = rows_of(9, 5)
    wanted = {n: predict(world.models[n], parcels(9).head(5), world.config).tolist() for n in ("1", "2")}
    seen: list[tuple[float, float, int, str]] = []
    wrong, over = [], threading.Event()
    body = json.dumps({"instances": rows})

    def ask(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not over.is_set():
            began = time.time()
            connection.request("POST", PATH, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = json.loads(answer.read())
            seen.append((began, time.time(), answer.status, content.get("version", "")))
            if answer.status == 200 and [two[1] for two in content["predictions"]] != wanted[content["version"]]:
                wrong.append(content)
        connection.close()

    changes = [(time.time(), "1")]
    with running(world) as server:
        for version in "21":  # both are loaded once before there is any load
            world.row("promote" if version == "2" else "rollback", version, digests[version])
            until(lambda version=version: server.ready()["models"]["tiny"] == version)
        clients = [threading.Thread(target=ask, args=(server.port,)) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            for turn in range(20):
                version = "21"[turn % 2]
                since = time.time()
                world.row("promote" if version == "2" else "rollback", version, digests[version])
                changes.append((since, version))
                time.sleep(0.3 if turn % 5 == 0 else 2.5 if turn % 4 == 1 else 0.8)  # in quick turns and in slow ones
        finally:
            time.sleep(2)
            over.set()
            for client in clients:
                client.join()
    assert len(seen) > 200
    assert {status for *_, status, _ in seen} == {200}
    assert not wrong
    for began, ended, _, version in seen:
        champions = {
            champion
            for at, (since, champion) in enumerate(changes)
            if since <= ended and (changes[at + 1][0] if at + 1 < len(changes) else float("inf")) >= began - 2
        }
        assert version in champions
    assert {version for *_, version in seen} == {"1", "2"}


def test_a_killed_server_loses_less_than_a_second_and_the_next_goes_on(world):
    with running(world) as server:
        answered = {}
        began = time.monotonic()
        while time.monotonic() - began < 3:
            assert server.post([rows_of(9, 1)[0] | {"parcel": f"p{len(answered)}"}]).status_code == 200
            answered[f"p{len(answered)}"] = time.monotonic()
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        killed = time.monotonic()
    kept = {key for key, at in answered.items() if killed - at > 1}
    assert len(kept) > 10
    with running(world) as server:
        assert server.post(rows_of(9, 1)).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) in (0, -signal.SIGTERM)
    rows = served_rows(load_model("tiny"), "2024-03-10").to_pandas()
    assert kept <= set(rows["parcel"])
    found = [pd.read_parquet(path) for path in segments(served_folder("tiny") / "2024-03-10")]
    assert len(pd.concat(found)) == len(rows)  # nothing is there twice


def test_a_sigterm_lets_requests_end_and_writes_everything(world):
    """One request is on its way when it comes, and is answered; of all that were answered every row is in the lake, and no other."""
    answered: list[int] = []

    def ask(server: Server) -> None:
        while True:
            try:
                answered.append(server.post(rows_of(9, 50)).status_code)
            except requests.ConnectionError:
                return

    body = json.dumps({"instances": rows_of(9, 50)}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with (
        running(world, EVERGREEN_SERVING_SECONDS="60") as server,
        socket.create_connection(("127.0.0.1", server.port)) as begun,
    ):
        begun.settimeout(30)
        begun.sendall(head.encode() + body[:100])
        clients = [threading.Thread(target=ask, args=(server,)) for _ in range(3)]
        for client in clients:
            client.start()
        until(lambda: len(answered) > 20)
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join(60)
            assert not client.is_alive()
        begun.sendall(body[100:])
        got = b""
        while part := begun.recv(1 << 16):
            got += part
        server.process.wait(60)
    assert b" 200 " in got.splitlines()[0]
    assert len(json.loads(got.partition(b"\r\n\r\n")[2])["predictions"]) == 50
    assert set(answered) == {200}
    assert rows_on_disk(world, server) == 0  # all of them are in the lake
    assert len(served_rows(load_model("tiny"), "2024-03-10")) == 50 * (len(answered) + 1)


def test_huge_and_slow_bodies_and_a_thousand_connections_keep_nobody_else_waiting(world):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
    with running(world, EVERGREEN_SERVING_SECONDS="2") as server:
        before = psutil.Process(server.process.pid).memory_info().rss
        slow = socket.create_connection(("127.0.0.1", server.port))
        slow.sendall(
            b"POST "
            + PATH.encode()
            + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(1000)]
        assert server.post(rows_of(9, 3)).status_code == 200
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
        assert sent < 100_000_000  # it was told to stop
        slow.settimeout(30)
        assert b" 408 " in slow.recv(4096).splitlines()[0]
        assert server.post(rows_of(9, 3)).status_code == 200
        grown = psutil.Process(server.process.pid).memory_info().rss - before
        assert grown < 150e6
        for one in (*idle, slow, huge, chunked):
            one.close()
        assert answers(server)
    assert "Traceback" not in server.log.read_text()


def send_chunks(connection: socket.socket, most: int) -> int:
    """Send chunks until the other side has had enough; returns the bytes that were taken."""
    chunk, sent = b"10000\r\n" + b" " * 0x10000 + b"\r\n", 0
    try:
        while sent < most:
            connection.sendall(chunk)
            sent += 0x10000
    except OSError:
        pass
    return sent


def test_it_imports_neither_prefect_nor_a_vendor_of_flows_and_is_not_open_without_a_token(world):
    code = "import sys, serving.__main__; print(*[n for n in ('prefect', 'great_expectations', 'evidently', 'mlflow') if n in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
    done = subprocess.run(
        [sys.executable, "-m", "serving"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"EVERGREEN_HOST": "0.0.0.0"},
    )
    assert done.returncode == 2
    assert "set EVERGREEN_SERVING_TOKEN to what they must send" in done.stderr


def test_requests_made_from_the_document_find_no_5xx(world):
    """Schemathesis makes valid and invalid requests from the OpenAPI document."""
    with running(world) as server:
        report = subprocess.run(
            [str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi.json",
             "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
             "--max-examples", "60", "--seed", "1", "--no-color", "--generation-database", ":memory:"],
            cwd=world.folder, capture_output=True, text=True,
        )  # fmt: skip
        assert report.returncode == 0, report.stdout[-5000:]
        assert answers(server)
    assert "Traceback" not in server.log.read_text()
