"""The web server of the pages: what a browser gets, and what its log has when a reader closes a page early."""

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.settings import Settings
from ops.programs import pages_command
from tests.conftest import free_port

LARGE = 20_000_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Settings, Path]]:
    settings = Settings(home=tmp_path, pages_port=free_port())
    settings.pages.mkdir()
    (settings.pages / "page.html").write_text("<p>a page</p>")
    (settings.pages / "large.json").write_bytes(b"1" * LARGE)
    log = tmp_path / "pages.log"
    with log.open("w") as output:
        process = subprocess.Popen([str(part) for part in pages_command(settings)], stdout=output, stderr=output)
        try:
            wait_for(settings)
            yield settings, log
        finally:
            process.terminate()
            process.wait()


def wait_for(settings: Settings) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection((settings.host, settings.pages_port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server does not respond")


def test_a_page_is_served_and_the_browser_asks_again_each_time(server):
    settings, _ = server
    with urllib.request.urlopen(f"{settings.pages_url}/page.html") as response:
        assert response.read() == b"<p>a page</p>"
        assert response.headers["Cache-Control"] == "no-cache"
    request = urllib.request.Request(f"{settings.pages_url}/../evergreen.db")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(request)


def test_a_reader_who_closes_the_page_is_no_error_in_the_log(server):
    settings, log = server
    for _ in range(3):
        with socket.create_connection((settings.host, settings.pages_port)) as reader:
            reader.sendall(b"GET /large.json HTTP/1.1\r\nHost: x\r\n\r\n")
            reader.recv(1000)
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # close by a reset
    urllib.request.urlopen(f"{settings.pages_url}/page.html").read()
    time.sleep(0.5)
    text = log.read_text()
    assert text.count("GET /large.json") == 3
    assert "Traceback" not in text
