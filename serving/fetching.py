"""Versions' files on this machine, fetched by threads of their own: a registry that hangs must hold up nothing else."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tasks.errors import EvergreenError
from tasks.resources import Resources


class BeingFetched(EvergreenError):
    """A version's files are not here yet. Look again in a moment."""


class Fetcher:
    """What is being fetched, by model and version."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(4, "fetch")
        self._going: dict[tuple[str, str], Future[Path]] = {}

    def need(self, res: Resources, version: str) -> None:
        """Make sure that a version's files are here, or on their way.

        Raises:
            BeingFetched: they are on their way.
            RegistryUnavailable, UnknownVersion: what came of fetching them.
        """
        if res.registry.has_copy(version):
            return
        key = (res.config.name, version)
        if key not in self._going:
            self._going[key] = self._pool.submit(res.registry.local_copy, version)
        going = self._going[key]
        if not going.done():
            raise BeingFetched(f"the files of version {version} are being fetched from MLflow")
        del self._going[key]
        going.result()

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
