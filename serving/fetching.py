"""Download and load versions in background threads, so that a slow registry blocks nothing else."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from tasks.errors import EvergreenError
from tasks.resources import LiveResources

LOAD_SECONDS = 1.0
"""Seconds to wait for a version. One whose files are on the local disk is loaded in less."""


class DownloadPending(EvergreenError):
    """The files of a version are not on the local disk yet. Try again in a moment."""


class Fetcher:
    """The downloads in progress, by model and version, and by digest if the model is loaded too."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(4, "fetch")
        self._downloads: dict[tuple[str, ...], Future[Any]] = {}

    def ensure_local(self, res: LiveResources, version: str) -> None:
        """Start the download of a version, unless its files are on the local disk.

        Raises:
            DownloadPending: The download is in progress.
            RegistryUnavailable, UnknownVersion: The download failed.
        """
        if not res.registry.has_copy(version):
            self._result((res.config.name, version), lambda: res.registry.local_copy(version))

    def load(self, res: LiveResources, version: str, digest: str) -> Any:
        """Return a version's fitted model, see `Registry.load`.

        Raises:
            DownloadPending: Its files are being downloaded, for the first time or because the local ones are damaged.
            RegistryUnavailable, UnknownVersion, ForgedVersion: It cannot be loaded.
        """
        self.ensure_local(res, version)
        key = (res.config.name, version, digest)
        return self._result(key, lambda: res.registry.load(version, digest), LOAD_SECONDS)

    def _result(self, key: tuple[str, ...], work: Callable[[], Any], seconds: float = 0) -> Any:
        """Return the result of work in a thread. If it is not done within some seconds, a later call with the same key returns it."""
        if key not in self._downloads:
            self._downloads[key] = self._pool.submit(work)
        download = self._downloads[key]
        wait([download], seconds)
        if not download.done():
            raise DownloadPending(f"the files of version {key[1]} are being downloaded from MLflow")
        del self._downloads[key]
        return download.result()

    def stop(self) -> None:
        """Drop waiting downloads. One that runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
