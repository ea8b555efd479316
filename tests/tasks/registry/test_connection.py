"""What MLflow's REST API is believed: a model that it says is not there, and nothing that a proxy says."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tasks.errors import RegistryUnavailable
from tasks.registry.connection import Connection
from tests.conftest import free_port

ANSWERS = {
    "no such model": (404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}', {}),
    "a proxy's page": (404, b"<html>not here</html>", None),
    "no such path": (404, b'{"error_code": "ENDPOINT_NOT_FOUND"}', None),
    "a login": (401, b"", None),
    "a page instead of an answer": (200, b"<html>hello</html>", None),
    "no object": (200, b"null", None),
    "a model": (200, b'{"registered_model": {}}', {"registered_model": {}}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_only_mlflows_own_answer_counts(name):
    status, content, expected = ANSWERS[name]

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_): ...

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        asked = Connection(f"http://127.0.0.1:{server.server_port}/", "m", Path("nowhere"))
        assert asked.ask("registered-models/get", name="m") == expected
        thread.join()


def test_nobody_there_is_told_as_that():
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        Connection(f"http://127.0.0.1:{free_port()}", "m", Path("nowhere")).ask("registered-models/get", name="m")


@pytest.mark.parametrize(
    ("uri", "variable", "plain"),
    [
        ("http://host:5000", "", True),
        ("sqlite:///x.db", "", False),
        ("http://ann:secret@host:5000", "", False),
        ("http://host:5000", "MLFLOW_TRACKING_TOKEN", False),
        ("http://host:5000", "MLFLOW_REGISTRY_URI", False),
        ("http://host:5000", "MLFLOW_WORKSPACE", False),
    ],
)
def test_a_server_with_credentials_or_another_beside_it_is_left_to_mlflows_client(monkeypatch, uri, variable, plain):
    if variable:
        monkeypatch.setenv(variable, "x")
    assert Connection(uri, "m", Path("nowhere")).plain is plain
