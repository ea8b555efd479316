"""Local copies of the models of registered versions, verified by digest whenever one is loaded."""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from configs.settings import disable_telemetry
from tasks.errors import ForgedVersion
from tasks.models.encoding_tables import NoPredictionPlan
from tasks.models.estimators import read_model
from tasks.models.fast_predict import plan_of
from tasks.registry.connection import Connection
from tasks.storage.folders import make_folder

log = logging.getLogger(__name__)


class Copies(Connection):
    """Copies of MLflow's model files under `cache`, one folder a version."""

    def load(self, number: str, digest: str = "", threads: int | None = None) -> Any:
        """Load a version's fitted model from the local copy. A copy that is damaged or forged is replaced by MLflow's, if that is good.

        Args:
            digest: The digest that the model must have, by `model_digest`; empty for no check.
            threads: Cores that its predictions may use, by default as many as when it was fitted.

        Raises:
            RegistryUnavailable: MLflow does not respond, and there is no local copy.
            UnknownVersion: There is no such version.
            ForgedVersion: The local copy is damaged or has another digest, and MLflow has no good one or does not respond.
        """
        folder = self.local_copy(number)
        disable_telemetry()
        try:
            model = read_model(folder / "model.skops", digest)
        except ForgedVersion as error:
            model = self._load_again(number, digest, error)
        if threads:
            with suppress(NoPredictionPlan):
                plan_of(model).set_threads(threads)
        return model

    def _load_again(self, number: str, digest: str, problem: ForgedVersion) -> Any:
        """Load MLflow's copy of a version. If it is good, it replaces the local one, which is kept as `<number>.damaged`."""
        folder, damaged = self.cache / number, self.cache / f"{number}.damaged"
        try:
            with self._download(number) as fetched:
                model = read_model(fetched / "model.skops", digest)
                with suppress(ForgedVersion):
                    return read_model(folder / "model.skops", digest)  # another process has replaced it
                if damaged.exists():  # the first one is kept
                    shutil.rmtree(folder, ignore_errors=True)
                with suppress(FileNotFoundError):  # another process has moved it
                    folder.rename(damaged)
                self._move(fetched, folder)
        except Exception as error:
            raise ForgedVersion(
                f"version {number} of {self.model!r} was not loaded: {problem}. MLflow has no good copy ({error}). Find out who changed "
                f"the file. If MLflow's artifact is good, delete {folder} and run this again. If not, restore it from a backup, "
                f"or run `rollback`"
            ) from error
        log.warning(
            "%s. MLflow's copy is good and has replaced it. Find out who changed it: it is kept in %s", problem, damaged
        )
        return model

    def has_copy(self, number: str) -> bool:
        """Return whether a version's files are on this machine."""
        return (self.cache / number).is_dir()

    def local_copy(self, number: str) -> Path:
        """Return the folder with a version's files. Downloads them the first time, completely or not at all.

        Raises:
            RegistryUnavailable: MLflow does not respond.
            UnknownVersion: There is no such version.
        """
        folder = self.cache / number
        if not folder.is_dir():
            with self._download(number) as fetched:
                self._move(fetched, folder)
        return folder

    @contextmanager
    def _download(self, number: str) -> Iterator[Path]:
        """Download a version's files from MLflow into a temporary folder beside the copies."""
        make_folder(self.cache)
        with tempfile.TemporaryDirectory(dir=self.cache) as draft:
            with self.translated_errors(f"version {number!r} of {self.model!r}"):
                import mlflow

                self.client.get_model_version(self.model, number)
                fetched = mlflow.artifacts.download_artifacts(f"models:/{self.model}/{number}", dst_path=draft)
            yield Path(fetched)

    @staticmethod
    def _move(fetched: Path, folder: Path) -> None:
        """Rename a downloaded folder to that of the copy."""
        try:
            fetched.rename(folder)
        except OSError:  # another process has downloaded it in the meantime
            if not folder.is_dir():
                raise

    def delete_copies(self) -> None:
        """Delete the local copies. The next load downloads them again."""
        shutil.rmtree(self.cache, ignore_errors=True)
