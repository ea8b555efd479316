"""Files at an address that fsspec can read, such as S3, Google Cloud Storage, Azure or a web server. Their errors say what to do.

DuckDB gets local copies: so a lost connection is tried again before anything is computed, and CSV lines, the leakage check and messages
are the same as those of local files.
"""

import re
import time
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.source import Table
from tasks.errors import EvergreenError, SourceMismatch, SourceRefused, SourceUnavailable
from tasks.source import prefect_access
from tasks.source.extracts import new_extract, use
from tasks.source.origins import remember
from tasks.source.secret_values import storage_options, variable, without_options
from tasks.storage.files import replacing

LISTED_SECONDS = 5
"""How long a list of files is used, so that looking at all partitions of a model does not ask for it each time."""
STATES = (
    *("ETag", "etag", "md5Hash", "generation", "Content-MD5", "Digest", "version_aware_id"),
    *("Last-Modified", "LastModified", "last_modified", "mtime", "created"),
)
"""What file systems tell about a file that changes with its content, the surest first."""
REFUSED = r"Access Denied|AccessDenied|Forbidden|Unauthorized|InvalidAccessKeyId|SignatureDoesNotMatch|[Cc]redentials|\b40[13]\b"
_LISTS: dict[tuple[str, str | None], tuple[float, "list[RemoteFile]"]] = {}
_COPIES: dict[tuple[str, str], Path] = {}
"""Local copies by address and state."""


@dataclass(frozen=True, order=True)
class RemoteFile:
    """A file at an address. `state` changes with its content, such as an ETag."""

    address: str
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
        self.scheme = table.path.partition("://")[0]

    def matches(self, pattern: str) -> list[RemoteFile]:
        """The files at addresses of a pattern, sorted.

        Raises:
            SourceUnavailable: the storage does not answer. SourceRefused: it does not accept us, or there is no such bucket.
        """
        key = pattern, self.table.connection
        read, files = _LISTS.get(key, (0.0, []))
        if time.monotonic() - read > LISTED_SECONDS or not read:
            began = time.monotonic()
            with self._errors(pattern), self._slot():
                files = self._listed(pattern)
            _LISTS[key] = began, files
        return files

    def copy(self, file: RemoteFile) -> Path:
        """A local copy of a file with this state or a newer one. It is in folders such as `country=DE` if the file is.

        Raises:
            SourceUnavailable: the file changed meanwhile, or the connection was lost. There is no copy then.
        """
        if (copied := _COPIES.get((file.address, file.state))) and use(copied):
            return copied
        folders = [part for part in file.address.split("/")[3:-1] if "=" in part]
        path = new_extract("/".join([*folders, file.name]))
        with self._errors(file.address), self._slot(), replacing(path) as draft:
            system, name = self._system(file.address)
            system.get_file(name, str(draft))
            found = self._file(file.address, system.info(name))
        if found != file:
            path.unlink(missing_ok=True)
            _LISTS.clear()
            raise SourceUnavailable(f"{file.address} was written while it was read. Run it again when it is complete")
        remember(path, file.address)
        _COPIES[file.address, file.state] = path
        return path

    def _listed(self, pattern: str) -> list[RemoteFile]:
        system, name = self._system(pattern)
        if not re.search(r"[*?\[]", pattern):
            try:
                return [self._file(pattern, system.info(name))]
            except FileNotFoundError:
                infos: dict[str, dict[str, Any]] = {}
        else:
            infos = system.glob(name, detail=True)
        if not infos and self.scheme not in ("http", "https"):
            system.ls(
                name.partition("/")[0], refresh=True
            )  # a bucket that does not exist is an error, and not an empty list
        files = [(f"{self.scheme}://{path}", info) for path, info in infos.items() if info["type"] == "file"]
        return sorted(self._file(address, info) for address, info in files)

    def _file(self, address: str, info: dict[str, Any]) -> RemoteFile:
        state = next((str(info[name]) for name in STATES if info.get(name)), "")
        if not state:
            raise SourceMismatch(
                f"{address}: the server has neither ETag nor Last-Modified for it, so a change could not be seen; "
                f"configure the server, or copy the file"
            )
        return RemoteFile(address, int(info.get("size") or 0), state)

    def _system(self, address: str) -> tuple[Any, str]:
        """The file system of an address, and the file's name in it."""
        from fsspec.core import url_to_fs

        options = storage_options(self.table.connection, self.table.path)
        system, name = url_to_fs(address, use_listings_cache=False, **_patience(self.scheme), **options)
        return system, str(name)

    def _slot(self) -> Any:
        return prefect_access.slot(self.table.connection) if self.table.connection else nullcontext()

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
        names = {type(e).__name__ for e in (error, error.__cause__, error.__context__) if e}
        text = "" if self.personal else f": {' '.join(str(error).split())[:300]}"
        problem = without_options(f"{address}: {type(error).__name__}{text}", self.table.connection).rstrip(".")
        own = (
            f"{variable(self.table.connection)} or the secret" if self.table.connection else "the worker's environment"
        )
        if isinstance(error, ImportError):
            return SourceRefused(
                f"{problem}. Add the package to pyproject.toml; of those of clouds, only s3fs is installed"
            )
        if isinstance(error, PermissionError) or names & {"NoCredentialsError"} or re.search(REFUSED, str(error)):
            return SourceRefused(f"{problem}. Correct the credentials in {own}, or grant the right to list and to read")
        if isinstance(error, FileNotFoundError):
            return SourceRefused(f"{problem}. Correct the address in model.yaml, or create the bucket")
        if isinstance(error, TypeError | ValueError) and "argument" in str(error):
            return SourceRefused(f"{problem}. Correct the options of the storage in {own}")
        return SourceUnavailable(f"{problem}. Run it again when the storage is available")


def _patience(scheme: str) -> dict[str, Any]:
    """Options by which a storage that does not answer is an error after a minute, whatever the size of a file."""
    if scheme == "s3":
        return {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}}
    if scheme in ("http", "https"):
        from aiohttp import ClientTimeout

        return {"client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=10, sock_read=60)}}
    return {}
