"""Requests to Prefect's API: a server that is busy is asked again, and its other errors are errors."""

import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from configs.settings import Settings
from ops.api import post

pytestmark = pytest.mark.long

ANSWERS: list[int] = []
"""Statuses of the next responses."""


class Server(BaseHTTPRequestHandler):
    """Answers with `ANSWERS` in order, and with `{"rows": 1}` if the status is 200."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"rows": 1}'
        self.send_response(ANSWERS.pop(0))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def settings() -> Iterator[Settings]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Settings(prefect_port=server.server_port)
        server.shutdown()


def test_a_busy_server_is_asked_again(settings):
    ANSWERS[:] = [503, 503, 200]
    assert post(settings, "deployments/filter", {}) == {"rows": 1}
    assert ANSWERS == []


@pytest.mark.parametrize("statuses", [[500, 200], [503, 503, 503, 503, 200]])
def test_another_error_and_a_server_that_stays_busy_are_errors(settings, statuses, monkeypatch):
    monkeypatch.setattr("ops.api.WAITS", (0.01, 0.01, 0.01))
    ANSWERS[:] = statuses
    with pytest.raises(urllib.error.HTTPError, match=str(statuses[0])):
        post(settings, "deployments/filter", {})
    assert ANSWERS == [200]
