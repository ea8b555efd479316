"""A server of S3 for tests, which keeps its objects in memory."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import s3fs

from tests.conftest import free_port


def key_variables(endpoint: str) -> dict[str, str]:
    """The variables of the environment by which the server is found and accepts us."""
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    return keys | {"AWS_ENDPOINT_URL": endpoint}


@contextmanager
def new_bucket(name: str) -> Iterator[str]:
    """Start a server with an empty bucket, and yield the address of the server. Any key is accepted."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    script = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    server = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    s3fs.S3FileSystem.clear_instance_cache()  # instances keep the address of an earlier server
    options = {"key": "testing", "secret": "testing", "endpoint_url": endpoint}
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                fsspec.filesystem("s3", **options).mkdir(name)
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield endpoint
    finally:
        server.kill()
        server.wait()


def require_keys(endpoint: str, after: int) -> None:
    """Let the server refuse unknown keys after this number of requests."""
    address = f"{endpoint}/moto-api/reset-auth"
    request = urllib.request.Request(address, str(after).encode(), {"Content-Type": "text/plain"})
    assert urllib.request.urlopen(request).status == 200
