"""MLflow's owner: runs, registered versions, and the alias that follows the ledger. Imports no Prefect.

Models are kept as skops files, whose loading runs no arbitrary code. A version never
changes, so each is fetched once and then read from a local copy.
"""

import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from configs.schema import Features
from configs.settings import silence_vendors
from tasks.contracts import Version
from tasks.errors import EvergreenError, RegistryUnavailable, UnknownVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from sklearn.pipeline import Pipeline

    from tasks.ledger.store import Ledger

T = TypeVar("T")
TRUSTED = (
    "collections.OrderedDict",
    "numpy.dtype",
    "sklearn.compose._column_transformer._RemainderColsList",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
)
"""Classes beyond skops' own list that a model file may name; none of them runs code when it is read."""
REQUIREMENTS = ("scikit-learn", "xgboost", "pandas", "numpy", "skops")
ALIAS = "champion"


class Registry:
    """One registered model of an MLflow server, with local copies of its versions under `cache`."""

    def __init__(self, uri: str, model: str, cache: Path) -> None:
        self.uri, self.model, self.cache = uri, model, cache / model

    @functools.cached_property
    def client(self) -> "MlflowClient":
        silence_vendors()
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        return mlflow.MlflowClient(self.uri)

    # Writing

    def register(
        self,
        pipeline: "Pipeline",
        features: Features,
        *,
        run_name: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        version: Version,
        documents: Mapping[str, Any],
    ) -> Version:
        """Log one run with its model and register that as the next version.

        `version` carries everything but the number and the run, which MLflow gives. The model
        is logged before the metrics, since MLflow gets slower with every metric of a run.

        Raises:
            RegistryUnavailable: MLflow does not answer; a run may be left, but no version.
        """
        with self._answers(), self._run(run_name) as run_id:
            import mlflow

            mlflow.log_params({k: str(v)[:500] for k, v in params.items()})
            logged = mlflow.sklearn.log_model(
                pipeline,
                name="model",
                serialization_format="skops",
                skops_trusted_types=list(TRUSTED),
                signature=signature(features),
                pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
                pyfunc_predict_fn="predict_proba",
            )
            mlflow.log_metrics({k: v for k, v in metrics.items() if v == v})
            for name, content in documents.items():
                mlflow.log_dict(content, name)
            tags = _to_tags(version)
            mlflow.set_tags(tags)
            made = mlflow.register_model(logged.model_uri, self.model, tags=tags)
            return Version(**(vars(version) | {"version": str(made.version), "run_id": run_id}))

    @contextmanager
    def _run(self, name: str) -> Iterator[str]:
        """A run in the model's own experiment; failed when the body fails."""
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        mlflow.set_experiment(f"evergreen/{self.model}")
        with mlflow.start_run(run_name=name) as run:
            yield run.info.run_id

    def annotate(self, run_id: str, metrics: Mapping[str, float], documents: Mapping[str, Any]) -> None:
        """Add what was found out later to a version's run."""
        with self._answers():
            for name, value in metrics.items():
                if value == value:
                    self.client.log_metric(run_id, name, value)
            for name, content in documents.items():
                self.client.log_dict(run_id, content, name)

    def follow(self, ledger: "Ledger") -> bool:
        """Point the alias at the ledger's champion. True when it had to be moved.

        Raises:
            RegistryUnavailable: MLflow does not answer; the next call repairs it.
        """
        champion = ledger.champion()
        with self._answers():
            if champion is None or self.alias() == champion.version:
                return False
            set_alias = functools.partial(self.client.set_registered_model_alias, self.model, ALIAS, champion.version)
            _twice(set_alias)
            return True

    # Reading

    def alias(self) -> str | None:
        """The version that the alias points at; search results and versions do not tell."""
        from mlflow.exceptions import MlflowException

        with self._answers():
            try:
                found = self.client.get_registered_model(self.model).aliases.get(ALIAS)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise
            return str(found) if found else None

    def version(self, number: str) -> Version:
        """What is known of a version.

        Raises:
            UnknownVersion: MLflow has none of this number, or it was not made by Evergreen.
        """
        with self._answers(f"version {number!r} of {self.model!r}"):
            found = self.client.get_model_version(self.model, number)
        return _from_tags(self.model, number, found.run_id or "", dict(found.tags))

    def load(self, number: str) -> "Pipeline":
        """A version's fitted pipeline, from the local copy when there is one.

        Raises:
            RegistryUnavailable: MLflow does not answer and there is no local copy.
            UnknownVersion: there is no such version.
        """
        folder = self.local_copy(number)
        silence_vendors()
        from skops.io import load

        return load(folder / "model.skops", trusted=list(TRUSTED))

    def local_copy(self, number: str) -> Path:
        """The folder with a version's files; fetched whole or not at all."""
        folder = self.cache / number
        if folder.is_dir():
            return folder
        with self._answers(f"version {number!r} of {self.model!r}"):
            import mlflow

            self.client.get_model_version(self.model, number)
            self.cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.cache) as draft:
                fetched = mlflow.artifacts.download_artifacts(f"models:/{self.model}/{number}", dst_path=draft)
                try:
                    Path(fetched).rename(folder)
                except OSError:  # another process fetched it meanwhile
                    if not folder.is_dir():
                        raise
        return folder

    def forget_copies(self) -> None:
        """Drop the local copies; the next load fetches again."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def run_url(self, run_id: str) -> str:
        """Where a person looks at a run; empty for a registry without a server."""
        if not self.uri.startswith("http") or not run_id:
            return ""
        with self._answers():
            return f"{self.uri}/#/experiments/{self.client.get_run(run_id).info.experiment_id}/runs/{run_id}"

    def version_url(self, number: str) -> str:
        return f"{self.uri}/#/models/{self.model}/versions/{number}" if self.uri.startswith("http") else ""

    @contextmanager
    def _answers(self, what: str = "") -> Iterator[None]:
        """Turn MLflow's errors into ours: it does not answer, or it does not have this."""
        silence_vendors()
        from mlflow.exceptions import MlflowException

        try:
            yield
        except EvergreenError:
            raise
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise UnknownVersion(f"MLflow at {self.uri} has no {what or self.model}: {error.message}") from error
            if "API request to" in str(error) or "Connection" in str(error):
                raise RegistryUnavailable(
                    f"MLflow at {self.uri} does not answer ({type(error).__name__}). Start it with `make up`, or set "
                    f"MLFLOW_TRACKING_URI; then run the same again, nothing was changed"
                ) from error
            raise


def signature(features: Features) -> Any:
    """MLflow's schema of the inputs: doubles and optional strings, so that nulls are allowed."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    columns = [ColSpec("double", name) for name in features.numeric]
    columns += [ColSpec("string", name, required=False) for name in features.categorical]
    return ModelSignature(Schema(columns), Schema([TensorSpec(np.dtype("float32"), (-1, 2))]))


def _twice(call: Callable[[], T]) -> T:
    """MLflow's first set of an alias can fail on a unique constraint; the second does not."""
    from mlflow.exceptions import MlflowException

    try:
        return call()
    except MlflowException:
        return call()


def _to_tags(version: Version) -> dict[str, str]:
    """A version as MLflow tags, under `evergreen.`."""
    content = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(version).items()}
    return {f"evergreen.{k}": json.dumps(v) for k, v in content.items() if k not in ("model", "version", "run_id")}


def _from_tags(model: str, number: str, run_id: str, tags: dict[str, str]) -> Version:
    found = {k.removeprefix("evergreen."): json.loads(v) for k, v in tags.items() if k.startswith("evergreen.")}
    try:
        times = {k: datetime.fromisoformat(found.pop(k)) for k in ("window_start", "window_end", "as_of")}
        return Version(**{**found, **times, "model": model, "version": number, "run_id": run_id})
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownVersion(
            f"version {number} of {model!r} was not registered by Evergreen ({error}); train one instead"
        ) from error
