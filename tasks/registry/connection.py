"""One MLflow server: its client, its errors as ours, and writes that another process makes too."""

import functools
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from configs.settings import silence_vendors
from tasks.errors import EvergreenError, RegistryUnavailable, UnknownVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient


T = TypeVar("T")
ANSWER = 20
"""Seconds within which a server must answer a plain question."""


class Connection:
    """A registered model's MLflow server, with local copies of the model's versions under `cache`."""

    def __init__(self, uri: str, model: str, cache: Path) -> None:
        self.uri, self.model, self.cache = uri, model, cache / model

    @functools.cached_property
    def client(self) -> "MlflowClient":
        silence_vendors()
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        return mlflow.MlflowClient(self.uri)

    @property
    def plain(self) -> bool:
        """Whether it is a server that asks for no credentials and has no other one beside it, by MLflow's variables and its address."""
        others = [name for name in os.environ if name.startswith("MLFLOW_TRACKING_") and name != "MLFLOW_TRACKING_URI"]
        others += [name for name in ("MLFLOW_REGISTRY_URI", "MLFLOW_WORKSPACE") if os.environ.get(name)]
        return self.uri.startswith("http") and "@" not in self.uri and not others

    def ask(self, path: str, **parameters: str) -> dict[str, Any] | None:
        """What the server's REST API says of something, empty where it says that there is no such thing; None for any other answer.

        Raises:
            RegistryUnavailable: nobody answers.
        """
        url = f"{self.uri.rstrip('/')}/api/2.0/mlflow/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=ANSWER) as answer:  # noqa: S310  (http or https, see `plain`)
                return _object(answer.read())
        except urllib.error.HTTPError as error:
            told = _object(error.read()) or {}
            return {} if told.get("error_code") == "RESOURCE_DOES_NOT_EXIST" else None
        except OSError as error:
            raise self._silent(error) from error
        except HTTPException:
            return None

    def _silent(self, error: Exception) -> RegistryUnavailable:
        return RegistryUnavailable(
            f"MLflow at {self.uri} does not answer ({type(error).__name__}). Start it with `make up`, or set "
            f"MLFLOW_TRACKING_URI; then run the same again, nothing was changed"
        )

    @contextmanager
    def answers(self, what: str = "") -> Iterator[None]:
        """Turn MLflow's errors into ours: it does not answer, or it does not have this."""
        silence_vendors()
        from mlflow.exceptions import MlflowException

        try:
            yield
        except EvergreenError:
            raise
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise UnknownVersion(
                    f"MLflow at {self.uri} has no {what or self.model} ({error.message}); `rollback` to a version that is there, "
                    f"or name another"
                ) from error
            if "API request to" in str(error) or "Connection" in str(error):
                raise self._silent(error) from error
            raise


def _object(content: bytes) -> dict[str, Any] | None:
    """A JSON object; None for anything else."""
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def insistently(call: Callable[[], T]) -> T:
    """Make a call that writes the same whoever makes it. MLflow fails it when another process writes that at the same moment."""
    from mlflow.exceptions import MlflowException

    for pause in (0.05, 0.2, 0.5):
        try:
            return call()
        except MlflowException as error:
            if "UNIQUE" not in str(error).upper() and error.error_code != "BAD_REQUEST":
                raise
            time.sleep(pause)
    return call()
