"""Atomic writes to a folder or a bucket, and digests of contents."""

import glob
import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from upath import UPath

from tasks.storage.folders import make_folder

MAX_WRITE_SECONDS = 3600
"""Age from which on a temporary file counts as left behind."""
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci"}
"""Protocols of stores whose uploads are atomic."""


def digest_bytes(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return digest_of(file)


def digest_of(file: IO[bytes]) -> str:
    """SHA-256 of the rest of a file, which need not fit into memory."""
    sha256 = hashlib.sha256()
    while chunk := file.read(1 << 20):
        sha256.update(chunk)
    return sha256.hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON: sorted keys, no spaces, times and paths as text."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode())


def open_root(address: str, base: Path) -> UPath:
    """A folder, or an address that fsspec supports, such as s3://bucket/lake. Relative folders start at `base`.

    Listings are not cached, because other processes write there.
    """
    if "://" not in address or address.startswith("file://"):
        return UPath(base / address.removeprefix("file://"))
    return UPath(address, use_listings_cache=False)


@contextmanager
def replacing(path: UPath | Path) -> Iterator[Path]:
    """Write a file atomically: yield a temporary local path, which replaces `path` on success and is deleted on failure.

    In a folder it is a file beside `path` and is renamed. Elsewhere it is uploaded: to object stores directly, since their uploads are
    atomic, to others beside `path` and then moved.
    """
    if not isinstance(path, Path):
        with tempfile.TemporaryDirectory(prefix="evergreen-") as folder:
            draft = Path(folder) / path.name
            yield draft
            _upload(draft, path)
        return
    make_folder(path.parent)
    _remove_old_drafts(path)
    draft = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def open_file(path: UPath | Path) -> IO[bytes]:
    """Open a file for reading. Remote files are read into memory. A file that does not exist is empty."""
    if not path.is_file():
        return io.BytesIO()
    return path.open("rb") if isinstance(path, Path) else io.BytesIO(path.read_bytes())


def _upload(draft: Path, path: UPath) -> None:
    if path.protocol in OBJECT_STORES:
        path.fs.put_file(str(draft), path.path)
        return
    path.fs.makedirs(path.parent.path, exist_ok=True)
    beside = f"{path.path}.{uuid4().hex[:8]}.part"
    path.fs.put_file(str(draft), beside)
    path.fs.mv(beside, path.path)


def _remove_old_drafts(path: Path) -> None:
    """Remove temporary files of killed writers of `path`. Younger ones may belong to a running writer."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(FileNotFoundError):
            if time.time() - draft.stat().st_mtime > MAX_WRITE_SECONDS:
                draft.unlink()
