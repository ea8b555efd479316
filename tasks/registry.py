"""MLflow's owner: runs, registered versions, and the alias that follows the ledger. Imports no Prefect.

Models are kept as skops files, whose loading runs no arbitrary code. A version never
changes, so each is fetched once and then read from a local copy.
"""

import functools
import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from configs.schema import ModelConfig
from configs.settings import silence_vendors
from tasks.contracts import Learned, Promotion, Recipe, Trial, Version
from tasks.digests import model_digest
from tasks.errors import EvergreenError, ForgedVersion, RegistryUnavailable, UnknownVersion
from tasks.estimators import TRUSTED
from tasks.lake import replacing

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tasks.ledger.store import Ledger

T = TypeVar("T")
REQUIREMENTS = ("scikit-learn", "xgboost", "pandas", "numpy", "skops")
RECORDED = (*REQUIREMENTS, "optuna", "mlflow", "prefect", "great-expectations", "evidently")
CHAMPION, CHALLENGER = "champion", "challenger"
"""Aliases. They are copies of what the ledger says, for outsiders."""


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

    def open_training(self, name: str, flow_run: str, commit: str) -> str:
        """Begin the run of one training in the model's experiment, and return its id.

        Raises:
            RegistryUnavailable: MLflow does not answer.
        """
        with self._answers(), self._run(run_name=name) as run_id:
            self.client.set_tag(run_id, "evergreen.flow_run", flow_run)
            self.client.set_tag(run_id, "mlflow.source.git.commit", commit)
            for package, number in self.packages().items():
                self.client.log_param(run_id, f"version.{package}", number)
            return run_id

    def close_training(self, run_id: str, failed: bool = False) -> None:
        with self._answers():
            self.client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def log_trial(self, parent: str, trial: Trial) -> None:
        """A child run for one candidate or baseline: its recipe, the loss of each split, and its search."""
        with self._answers(), self._run(run_name=trial.name, parent=parent) as run_id:
            import mlflow

            mlflow.log_params(
                {"estimator": trial.recipe.estimator, **{k: str(v) for k, v in trial.recipe.params.items()}}
            )
            for step, loss in enumerate(trial.losses):
                _log_finite({"validation_loss_by_split": loss}, step)
            for tried in trial.tried:
                _log_finite({"search_loss": tried["loss"]}, tried["number"])
            _log_finite({"validation_loss": trial.loss})
            if trial.tried:
                mlflow.log_dict({"trials": list(trial.tried)}, "search.json")
            mlflow.set_tags(
                {"evergreen.beats_baseline": str(trial.beats_baseline), "evergreen.note": trial.note[:4000]}
            )
            self.client.set_tag(run_id, "evergreen.role", "candidate")

    def register(
        self,
        model: Any,
        config: ModelConfig,
        *,
        run_id: str,
        role: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        version: Version,
        documents: Mapping[str, Any],
        learned: Sequence[Learned],
    ) -> Version:
        """Log a model and register it as the next version: on the training's run, or on a child of it.

        `version` carries everything but the number and the run, which MLflow gives. The model
        is logged before the metrics, since MLflow gets slower with every metric of a run.

        Raises:
            RegistryUnavailable: MLflow does not answer; a run may be left, but no version.
        """
        child = {"parent": run_id, "run_name": role} if role != "challenger" else {"run_id": run_id}
        with self._answers(), self._run(**child) as own:
            import mlflow

            mlflow.log_params({k: str(v)[:500] for k, v in params.items()})
            logged = mlflow.sklearn.log_model(
                model,
                name="model",
                serialization_format="skops",
                skops_trusted_types=list(TRUSTED),
                signature=signature(config),
                pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
                pyfunc_predict_fn="predict" if config.target.kind == "regression" else "predict_proba",
            )
            _log_finite(metrics)
            for name, content in documents.items():
                mlflow.log_dict(content, name)
            _log_inputs(learned)
            tags = _to_tags(version)
            mlflow.set_tags(tags)
            made = mlflow.register_model(logged.model_uri, self.model, tags=tags)
            return Version(**(vars(version) | {"version": str(made.version), "run_id": own}))

    @contextmanager
    def _run(self, run_name: str | None = None, run_id: str | None = None, parent: str | None = None) -> Iterator[str]:
        """A run in the model's own experiment, new or `run_id` again; failed when the body fails."""
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        mlflow.set_experiment(f"evergreen/{self.model}")
        tags = {"mlflow.parentRunId": parent} if parent else None
        with mlflow.start_run(run_id=run_id, run_name=run_name, tags=tags) as run:
            yield run.info.run_id

    def annotate(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        documents: Mapping[str, Any],
        files: Mapping[str, bytes] | None = None,
        description: str = "",
    ) -> None:
        """Add what was found out later to a version's run; `files` by path, such as `plots/roc.png`."""
        with self._answers(), tempfile.TemporaryDirectory() as folder:
            for name, value in metrics.items():
                if value == value:
                    self.client.log_metric(run_id, name, value)
            for name, content in documents.items():
                self.client.log_dict(run_id, content, name)
            for name, data in (files or {}).items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            if files:
                self.client.log_artifacts(run_id, folder)
            if description:
                self.client.set_tag(run_id, "mlflow.note.content", description)

    def follow(self, ledger: "Ledger") -> None:
        """Point the aliases at the ledger's champion and challenger.

        Looks again after it has set one: of two processes the slower may have set what is champion no longer.

        Raises:
            RegistryUnavailable: MLflow does not answer; the next call repairs it.
        """
        with self._answers():
            for alias, current in ((CHAMPION, ledger.champion), (CHALLENGER, ledger.challenger)):
                while True:
                    row = current()
                    wanted = row.version if row else None
                    found = self.alias(alias)
                    if found != wanted:
                        self._point(alias, wanted)
                    again = current()
                    if (again.version if again else None) == wanted:
                        break

    def _point(self, alias: str, number: str | None) -> None:
        """Set or delete an alias; no registered model has no alias either."""
        if number is None:
            self.client.delete_registered_model_alias(self.model, alias)
        else:
            _insistently(functools.partial(self.client.set_registered_model_alias, self.model, alias, number))

    def mark(self, row: Promotion) -> None:
        """Write a ledger row's hash, and the stage it led to, on the version and on its run."""
        tags = {f"evergreen.ledger.{row.sequence}": row.hash, "evergreen.stage": row.to_stage}
        with self._answers(f"version {row.version!r} of {self.model!r}"):
            for name, value in tags.items():
                if row.run_id:
                    _insistently(functools.partial(self.client.set_tag, row.run_id, name, value))
                tag = functools.partial(self.client.set_model_version_tag, self.model, row.version, name, value)
                _insistently(tag)

    # Reading

    @staticmethod
    def packages() -> dict[str, str]:
        """The versions of the libraries that decide what a model is and how it was made."""
        return {name: installed(name) for name in RECORDED}

    def marks(self, number: str) -> dict[int, str]:
        """The hashes of ledger rows that stand on a version, by sequence."""
        with self._answers(f"version {number!r} of {self.model!r}"):
            tags = self.client.get_model_version(self.model, number).tags
        prefix = "evergreen.ledger."
        return {int(k.removeprefix(prefix)): v for k, v in tags.items() if k.startswith(prefix)}

    def document(self, run_id: str, name: str) -> Any:
        """A JSON document of a run.

        Raises:
            UnknownVersion: the run or the document is gone.
        """
        import mlflow

        with self._answers(f"{name} of run {run_id}"), tempfile.TemporaryDirectory() as folder:
            mlflow.set_tracking_uri(self.uri)
            path = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=folder)
            return json.loads(Path(path).read_text())

    def alias(self, name: str = CHAMPION) -> str | None:
        """The version that an alias points at; search results and versions do not tell."""
        from mlflow.exceptions import MlflowException

        with self._answers():
            try:
                found = self.client.get_registered_model(self.model).aliases.get(name)
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

    def recall(self, number: str) -> Version:
        """The same, from what this machine remembers of it: a version never changes, and may be asked about when MLflow is down."""
        memory = self.cache / f"{number}.json"
        if memory.is_file():
            found = json.loads(memory.read_text(encoding="utf-8"))
            return _from_tags(self.model, number, found["run_id"], found["tags"])
        version = self.version(number)
        with replacing(memory) as draft:
            draft.write_text(json.dumps({"run_id": version.run_id, "tags": _to_tags(version)}), encoding="utf-8")
        return version

    def load(self, number: str, digest: str = "") -> Any:
        """A version's fitted model, from the local copy when there is one; held to `digest` where one is given.

        Raises:
            RegistryUnavailable: MLflow does not answer and there is no local copy.
            UnknownVersion: there is no such version.
            ForgedVersion: the file is not the model that was registered.
        """
        folder = self.local_copy(number)
        silence_vendors()
        from skops.io import load

        model = load(folder / "model.skops", trusted=list(TRUSTED))
        if digest and (found := model_digest(model)) != digest:
            raise ForgedVersion(
                f"{folder / 'model.skops'} is not version {number} of {self.model!r} as the ledger knows it (digest {found[:12]}, "
                f"not {digest[:12]}); find out who changed it, delete the folder, and `rollback` if MLflow's copy is wrong too"
            )
        return model

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


def signature(config: ModelConfig) -> Any:
    """MLflow's schema of the inputs: doubles and optional strings, so that nulls are allowed."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    columns = [ColSpec("double", name) for name in config.features.numeric]
    columns += [ColSpec("string", name, required=False) for name in config.features.categorical]
    wide = (-1,) if config.target.kind == "regression" else (-1, max(2, len(config.target.classes)))
    return ModelSignature(Schema(columns), Schema([TensorSpec(np.dtype("float64"), wide)]))


def _log_finite(metrics: Mapping[str, float], step: int | None = None) -> None:
    """Metrics on the active run; MLflow's database does not take what is no number."""
    import mlflow

    mlflow.log_metrics({k: v for k, v in metrics.items() if np.isfinite(v)}, step=step)


def _log_inputs(learned: Sequence[Learned]) -> None:
    """What was learned from, as MLflow dataset inputs: each partition with the digest of its rows."""
    import mlflow
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a path is a path in two ways to it
        sources = [resolve_dataset_source(part.path) for part in learned]
    pairs = zip(sources, learned, strict=True)
    sets = [MetaDataset(source, name=part.partition, digest=part.digest[:32]) for source, part in pairs]
    tags = [{"rows": str(part.rows), "sha256": part.digest} for part in learned]
    log = functools.partial(mlflow.log_inputs, datasets=sets, contexts=["training"] * len(sets), tags_list=tags)
    _insistently(log)


def _insistently(call: Callable[[], T]) -> T:
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


_TAGGED = tuple(f.name for f in fields(Version) if f.name not in ("model", "version", "run_id"))


def _to_tags(version: Version) -> dict[str, str]:
    """A version as MLflow tags, under `evergreen.`."""
    content = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(version).items()}
    return {f"evergreen.{name}": json.dumps(content[name]) for name in _TAGGED}


def _from_tags(model: str, number: str, run_id: str, tags: dict[str, str]) -> Version:
    try:
        found = {name: json.loads(tags[f"evergreen.{name}"]) for name in _TAGGED}
        times = {k: datetime.fromisoformat(found.pop(k)) for k in ("window_start", "window_end", "as_of")}
        shaped = {"recipe": Recipe(**found.pop("recipe")), "prior": tuple(found.pop("prior"))}
        return Version(**{**found, **times, **shaped, "model": model, "version": number, "run_id": run_id})
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownVersion(
            f"version {number} of {model!r} was not registered by Evergreen ({error}); train one instead"
        ) from error
