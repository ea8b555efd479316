"""Download the files of versions in background threads, so that a slow registry blocks nothing else."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tasks.errors import EvergreenError
from tasks.resources import LiveResources


class DownloadPending(EvergreenError):
    """The files of a version are not on the local disk yet. Try again in a moment."""


class Fetcher:
    """The downloads in progress, by model and version."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(4, "fetch")
        self._downloads: dict[tuple[str, str], Future[Path]] = {}

    def ensure_local(self, res: LiveResources, version: str) -> None:
        """Start the download of a version, unless its files are on the local disk.

        Raises:
            DownloadPending: The download is in progress.
            RegistryUnavailable, UnknownVersion: The download failed.
        """
        if res.registry.has_copy(version):
            return
        key = (res.config.name, version)
        if key not in self._downloads:
            self._downloads[key] = self._pool.submit(res.registry.local_copy, version)
        download = self._downloads[key]
        if not download.done():
            raise DownloadPending(f"the files of version {version} are being downloaded from MLflow")
        del self._downloads[key]
        download.result()

    def stop(self) -> None:
        """Drop waiting downloads. One that runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
