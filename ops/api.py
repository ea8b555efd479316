"""Requests to Prefect's API without importing Prefect, since the import takes longer than all of `make status`."""

import base64
import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

from configs.settings import Settings

BUSY, WAITS = 503, (0.5, 2, 5)
"""Status of a server whose SQLite is locked, and seconds before each repetition. Such an answer can take ten seconds by itself."""


def post(
    settings: Settings, path: str, body: dict[str, Any] | list[dict[str, Any]], seconds: float = 10, url: str = ""
) -> Any:
    """Send a POST request and return the JSON of the response, None if it has no content.

    A busy server answers 503 and has done nothing: the request is sent again, as Prefect's own client does.

    The password of a protected server comes from `PREFECT_API_AUTH_STRING`, as for Prefect's own client.

    Args:
        settings: Give the server's address.
        path: Path within the API, such as `deployments/filter`.
        body: Sent as JSON.
        seconds: Timeout of each attempt.
        url: The API's address, by default that of the server of `make up`.

    Raises:
        OSError: The server does not respond, or responds with an error.
        ValueError: The response is not JSON.
    """
    headers = {"Content-Type": "application/json"}
    if password := os.environ.get("PREFECT_API_AUTH_STRING"):
        headers["Authorization"] = f"Basic {base64.b64encode(password.encode()).decode()}"
    address = f"{url.rstrip('/') or f'{settings.prefect_url}/api'}/{path}"
    request = urllib.request.Request(address, data=json.dumps(body).encode(), headers=headers)
    for wait in (*WAITS, None):
        try:
            with urllib.request.urlopen(request, timeout=seconds) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code != BUSY or wait is None:
                raise
            time.sleep(wait)
    raise AssertionError
