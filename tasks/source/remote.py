"""Files at an address that fsspec can read, such as S3, Google Cloud Storage, Azure or a web server. Their errors say what to do.

DuckDB gets local copies: so a lost connection is tried again before anything is computed, and CSV lines, the leakage check and messages
are the same as those of local files.
"""

import re
import threading
import time
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.source import Table
from tasks.errors import EvergreenError, SourceMismatch, SourceRefused, SourceUnavailable
from tasks.source import prefect_access
from tasks.source.extracts import new_extract, use
from tasks.source.origins import remember
from tasks.source.secret_values import storage_options
from tasks.source.storage_errors import storage_problem
from tasks.storage.files import replacing

LISTED_SECONDS = 5
"""How long a list of files is used, so that looking at all partitions of a model does not ask for it each time."""
STATES = (
    *("ETag", "etag", "md5Hash", "generation", "Content-MD5", "Digest", "version_aware_id"),
    *("Last-Modified", "LastModified", "last_modified", "mtime", "created"),
)
"""Fields in the description of a file that change with its content, the most reliable one first."""
GONE = 404
"""Status of a web server that has no such file."""
_LISTS: dict[tuple[str, str | None], tuple[float, "list[RemoteFile]"]] = {}
_COPIES: "dict[tuple[RemoteFile, str | None], Path]" = {}
_LOCK = threading.Lock()


@dataclass(frozen=True, order=True)
class RemoteFile:
    """A file at an address. `key` is its name in the storage, and `state` changes with its content, such as an ETag."""

    address: str
    key: str
    size: int
    state: str

    @property
    def name(self) -> str:
        """The last part of its address."""
        return self.address.rpartition("/")[2]


class RemoteFiles:
    """The files at the addresses of one table."""

    def __init__(self, table: Table, personal: bool) -> None:
        self.table, self.personal = table, personal

    def matches(self, pattern: str) -> list[RemoteFile]:
        """The files at addresses of a pattern, sorted. Only * and ? have a meaning in it.

        Raises:
            SourceUnavailable: the storage does not answer. SourceRefused: it does not accept us, or there is no such bucket.
        """
        key, began = (pattern, self.table.connection), time.monotonic()
        read, files = _LISTS.get(key, (0.0, []))
        if read and began - read <= LISTED_SECONDS:
            return files
        with self._errors(pattern), prefect_access.slot(self.table.connection):
            listed = self._listed(pattern)
        with _LOCK:  # a slow thread must not replace a newer list
            if _LISTS.get(key, (0.0, []))[0] <= began:
                _LISTS[key] = began, listed
            return _LISTS[key][1]

    def copy(self, file: RemoteFile) -> Path:
        """A local copy of a file. It is in folders such as `country=DE` if the file is.

        Raises:
            SourceUnavailable: the file changed meanwhile, or the connection was lost. There is no copy then.
        """
        key = file, self.table.connection
        if (copied := _COPIES.get(key)) and use(copied):
            return copied
        folders = [part for part in file.address.partition("://")[2].split("/")[1:-1] if "=" in part]
        path = new_extract("/".join([*folders, file.name]))
        with self._errors(file.address), prefect_access.slot(self.table.connection), replacing(path) as draft:
            system, _ = self._system(self.table.path)
            system.get_file(file.key, str(draft))
            copied_state = self._file(file.address, system.info(file.key) | {"name": file.key})
            if copied_state != file or (file.size and draft.stat().st_size != file.size):
                _LISTS.clear()
                raise SourceUnavailable(
                    f"{file.address} was written while it was read, or is incomplete. Run it again when it is complete"
                )
        remember(path, file.address)
        _COPIES[key] = path
        return path

    def _listed(self, pattern: str) -> list[RemoteFile]:
        system, name = self._system(pattern)
        if not re.search(r"[*?]", pattern):
            return self._one(system, pattern, name)
        from fsspec.utils import glob_translate

        is_match = re.compile(glob_translate(name.replace("[", "[[]"))).match
        listed = system.find(re.split(r"[*?]", name)[0].rpartition("/")[0], detail=True)
        files = [info for key, info in listed.items() if info["type"] == "file" and is_match(key)]
        if not listed:
            self._require_bucket(system, name)
        start = pattern[: len(pattern) - len(name)] if pattern.endswith(name) else f"{pattern.partition('://')[0]}://"
        return sorted(self._file(f"{start}{info['name']}", info) for info in files)

    def _one(self, system: Any, address: str, name: str) -> list[RemoteFile]:
        """The file of this name, if it exists. A web server that does not answer, or refuses us, is an error of its own."""
        try:
            return [self._file(address, system.info(name) | {"name": name})]
        except FileNotFoundError as error:
            cause = error.__cause__
            if cause is not None and not isinstance(cause, FileNotFoundError) and getattr(cause, "status", 0) != GONE:
                raise cause from None
        if "://" in address and not address.startswith("http"):
            self._require_bucket(system, name)
        return []

    def _require_bucket(self, system: Any, name: str) -> None:
        """Require that there is a bucket: the list of one that does not exist is empty. Who may not list the bucket skips the check."""
        with suppress(PermissionError):
            system.ls(name.partition("/")[0], refresh=True)

    def _file(self, address: str, info: dict[str, Any]) -> RemoteFile:
        state = next((str(info[name]) for name in STATES if info.get(name)), "")
        if not state:
            raise SourceMismatch(
                f"{address}: the server has neither ETag nor Last-Modified for it, so a change could not be seen; "
                f"configure the server, or copy the file"
            )
        return RemoteFile(address, str(info["name"]), int(info.get("size") or 0), state.removeprefix("W/").strip('"'))

    def _system(self, address: str) -> tuple[Any, str]:
        """The file system of an address, and the file's name in it."""
        from fsspec.core import url_to_fs

        scheme = address.partition("://")[0]
        options = _merged(_patience(scheme), storage_options(self.table.connection, self.table.path))
        system, name = url_to_fs(address, use_listings_cache=False, **options)
        return system, str(name)

    @contextmanager
    def _errors(self, address: str) -> Iterator[None]:
        """Translate the errors of a library."""
        try:
            yield
        except (EvergreenError, CancelledError, AssertionError):
            raise
        except Exception as error:  # noqa: BLE001  (each library has its own, without a common class)
            raise self._translated(
                error, address
            ) from None  # a traceback has the causes of an error, and their texts the options

    def _translated(self, error: Exception, address: str) -> EvergreenError:
        text = type(error).__name__ + ("" if self.personal else f": {error}")
        kind, shown, action = storage_problem(error, text, self.table.connection)
        raised = SourceUnavailable if kind == "unavailable" else SourceRefused
        return raised(f"{address}: {shown}. {action}")


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Options with those of the connection, which win. Mappings in both are merged."""
    nested = {k: {**base[k], **v} for k, v in own.items() if isinstance(v, dict) and isinstance(base.get(k), dict)}
    return {**base, **own, **nested}


def _patience(scheme: str) -> dict[str, Any]:
    """Options by which a storage that does not answer is an error after a minute, whatever the size of a file."""
    if scheme == "s3":
        return {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}}
    if scheme in ("http", "https"):
        from aiohttp import ClientTimeout

        return {"client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=10, sock_read=60)}}
    return {}
