"""One MLflow server: its client, its errors as ours, and writes that another process makes too."""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from configs.settings import silence_vendors
from tasks.errors import EvergreenError, RegistryUnavailable, UnknownVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient


T = TypeVar("T")


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
                raise RegistryUnavailable(
                    f"MLflow at {self.uri} does not answer ({type(error).__name__}). Start it with `make up`, or set "
                    f"MLFLOW_TRACKING_URI; then run the same again, nothing was changed"
                ) from error
            raise


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
