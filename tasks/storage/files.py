"""Files that are there as a whole or not at all, in a folder or in a bucket, and digests of what is in them."""

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

ABANDONED = 3600
"""Seconds after which a temporary file has no writer any more."""
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci"}
"""Protocols of stores that show an object as a whole or not at all."""


def digest_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return digest_of(file)


def digest_of(file: IO[bytes]) -> str:
    """Digest of what is left of a file, which need not fit into memory."""
    found = hashlib.sha256()
    while chunk := file.read(1 << 20):
        found.update(chunk)
    return found.hexdigest()


def digest_json(value: Any) -> str:
    """Digest of a value's canonical JSON: sorted keys, no spaces, times and paths as text."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode())


def open_root(address: str, base: Path) -> UPath:
    """A folder, relative ones from `base`, or any address that fsspec knows, such as s3://bucket/lake.

    Lists are not remembered: other processes write there too.
    """
    if "://" not in address or address.startswith("file://"):
        return UPath(base / address.removeprefix("file://"))
    return UPath(address, use_listings_cache=False)


@contextmanager
def replacing(path: UPath | Path) -> Iterator[Path]:
    """Yield a temporary local path; on success it becomes `path` as a whole, on failure it goes.

    In a folder it lies beside `path` and is renamed. Elsewhere it is uploaded: object stores show whole objects only, in
    others it is uploaded beside `path` and moved.
    """
    if not isinstance(path, Path):
        with tempfile.TemporaryDirectory(prefix="evergreen-") as folder:
            draft = Path(folder) / path.name
            yield draft
            _upload(draft, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    draft = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def opened(path: UPath | Path) -> IO[bytes]:
    """A file of this machine as it is, any other as a whole; empty where there is none."""
    if not path.is_file():
        return io.BytesIO()
    return path.open("rb") if isinstance(path, Path) else io.BytesIO(path.read_bytes())


def _upload(draft: Path, path: UPath) -> None:
    """Put a file into a file system that is none of this machine's, as a whole."""
    if path.protocol in OBJECT_STORES:
        path.fs.put_file(str(draft), path.path)
        return
    path.fs.makedirs(path.parent.path, exist_ok=True)
    beside = f"{path.path}.{uuid4().hex[:8]}.part"
    path.fs.put_file(str(draft), beside)
    path.fs.mv(beside, path.path)


def _sweep(path: Path) -> None:
    """Remove what writers of `path` left behind that were killed; who began within the hour may still be at it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()
