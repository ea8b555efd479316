"""Only responses of MLflow itself are used, and not those of a proxy."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tasks.errors import RegistryUnavailable
from tasks.registry.connection import Connection
from tests.conftest import free_port

RESPONSES: dict[str, tuple[int, bytes, dict | None]] = {
    "unknown model": (404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}', {}),
    "a proxy's page": (404, b"<html>not here</html>", None),
    "unknown path": (404, b'{"error_code": "ENDPOINT_NOT_FOUND"}', None),
    "a login": (401, b"", None),
    "a page instead of JSON": (200, b"<html>hello</html>", None),
    "not an object": (200, b"null", None),
    "a model": (200, b'{"registered_model": {}}', {"registered_model": {}}),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_only_responses_of_mlflow_are_used(name):
    status, content, expected = RESPONSES[name]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_): ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        connection = Connection(f"http://127.0.0.1:{server.server_port}/", "m", Path("nowhere"))
        assert connection.rest_get("registered-models/get", name="m") == expected
        thread.join()


def test_a_server_that_does_not_respond_is_reported():
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        Connection(f"http://127.0.0.1:{free_port()}", "m", Path("nowhere")).rest_get("registered-models/get", name="m")


@pytest.mark.parametrize(
    ("uri", "variable", "is_open"),
    [
        ("http://host:5000", "", True),
        ("sqlite:///x.db", "", False),
        ("http://ann:secret@host:5000", "", False),
        ("http://host:5000", "MLFLOW_TRACKING_TOKEN", False),
        ("http://host:5000", "MLFLOW_REGISTRY_URI", False),
        ("http://host:5000", "MLFLOW_WORKSPACE", False),
    ],
)
def test_with_credentials_or_a_separate_registry_mlflows_client_is_used(monkeypatch, uri, variable, is_open):
    if variable:
        monkeypatch.setenv(variable, "x")
    assert Connection(uri, "m", Path("nowhere")).is_open_server is is_open
