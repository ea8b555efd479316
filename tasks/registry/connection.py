"""Connection to an MLflow server: client, translation of errors, and retries of conflicting writes."""

import functools
import json
import logging
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from configs.settings import disable_telemetry
from tasks.errors import EvergreenError, RegistryUnavailable, UnknownVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient


log = logging.getLogger(__name__)
T = TypeVar("T")
TIMEOUT = 20
"""Timeout of a REST call, in seconds."""


class Connection:
    """A connection to the MLflow server of one registered model, with local copies of its versions under `cache`."""

    def __init__(self, uri: str, model: str, cache: Path) -> None:
        self.uri, self.model, self.cache = uri, model, cache / model

    @functools.cached_property
    def client(self) -> "MlflowClient":
        """MLflow's client of this server."""
        disable_telemetry()
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        return mlflow.MlflowClient(self.uri)

    @property
    def is_open_server(self) -> bool:
        """Whether the server is used over HTTP without credentials, a separate registry or a workspace, by MLflow's variables."""
        variables = [key for key in os.environ if key.startswith("MLFLOW_TRACKING_") and key != "MLFLOW_TRACKING_URI"]
        variables += [key for key in ("MLFLOW_REGISTRY_URI", "MLFLOW_WORKSPACE") if os.environ.get(key)]
        return self.uri.startswith("http") and "@" not in self.uri and not variables

    def rest_get(self, path: str, **parameters: str) -> dict[str, Any] | None:
        """Send a GET request to MLflow's REST API, see `_rest`."""
        return self._rest(f"{path}?{urllib.parse.urlencode(parameters)}")

    def rest_post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Send a POST request to MLflow's REST API, see `_rest`."""
        return self._rest(path, json.dumps(body).encode())

    def _rest(self, path: str, body: bytes | None = None) -> dict[str, Any] | None:
        """Send a request to MLflow's REST API.

        Returns:
            The response; {} if MLflow responds that the resource does not exist; None for any other response, such as a proxy's.

        Raises:
            RegistryUnavailable: The server does not respond.
        """
        # Not httpx: this one request takes 50 ms with it, because it builds a TLS context, and 2 ms with urllib.
        # The import of httpx takes another 45 ms.
        url = f"{self.uri.rstrip('/')}/api/2.0/mlflow/{path}"
        request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310  (http or https, see `is_open_server`)
                return _json_object(response.read())
        except urllib.error.HTTPError as error:
            content = _json_object(error.read()) or {}
            return {} if content.get("error_code") == "RESOURCE_DOES_NOT_EXIST" else None
        except OSError as error:
            raise self._unavailable(error) from error
        except HTTPException:
            return None

    def _unavailable(self, error: Exception) -> RegistryUnavailable:
        return RegistryUnavailable(
            f"MLflow at {self.uri} does not answer ({type(error).__name__}). Nothing was changed. Start it with `make up` or set "
            f"MLFLOW_TRACKING_URI, then run this again"
        )

    @contextmanager
    def translated_errors(self, what: str = "") -> Iterator[None]:
        """Translate MLflow's errors in the body.

        Args:
            what: Name of the resource for the message, by default the model's.

        Raises:
            RegistryUnavailable: The server does not respond.
            UnknownVersion: The resource does not exist.
        """
        disable_telemetry()
        from mlflow.exceptions import MlflowException

        try:
            yield
        except EvergreenError:
            raise
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise UnknownVersion(
                    f"MLflow at {self.uri} has no {what or self.model} ({error.message}); choose another version, or `rollback` if "
                    f"it is the champion"
                ) from error
            if "API request to" in str(error) or "Connection" in str(error):
                raise self._unavailable(error) from error
            raise

    @contextmanager
    def optional(self, what: str) -> Iterator[None]:
        """Log a response of MLflow that is an error, and go on: nothing depends on what the body writes."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            log.warning("%s of %s was not written in MLflow: %s", what, self.model, error)


def _json_object(content: bytes) -> dict[str, Any] | None:
    """Parse a JSON object; return None for anything else."""
    try:
        value = json.loads(content)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def retry_conflicts(call: Callable[[], T]) -> T:
    """Call an idempotent write, and retry it if it conflicts with the same write of another process, which MLflow reports as an error."""
    from mlflow.exceptions import MlflowException

    for pause in (0.05, 0.2, 0.5):
        try:
            return call()
        except MlflowException as error:
            if "UNIQUE" not in str(error).upper() and error.error_code != "BAD_REQUEST":
                raise
            time.sleep(pause)
    return call()
