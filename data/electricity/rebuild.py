"""Rebuild the committed parquet file from the wheel of scikit-multiflow 0.4.1 on PyPI (BSD-3), which is unpacked and not installed.

    python -m data.electricity.rebuild                  download, verify, write
    python -m data.electricity.rebuild --archive PATH   the same from a local copy
    python -m data.electricity.rebuild --check          write nothing; exit 1 if the committed file differs

The wheel's `elec.csv` has an order and no times. Its rows are the half-hours from 7 May 1996 on without a gap (its first
column counts the half-hours of each day), so the time is derived from the position. Names and the key are ours, values the source's.
"""

import io
import sys
import zipfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

# Runs import vendors late; this is a script.
import pyarrow as pa  # noqa: TID253
import pyarrow.csv  # noqa: TID253

from data.archive import Archive, run

HERE = Path(__file__).resolve().parent
ARCHIVE = Archive(
    "scikit_multiflow-0.4.1-cp37-cp37m-manylinux1_x86_64.whl",
    "17842a0719992871f66f2edd475c3cf947be73d16595cb28d9ec26a79cfc58de",
    (
        "scikit-multiflow==0.4.1",
        *("--only-binary", ":all:", "--python-version", "37", "--implementation", "cp", "--abi", "cp37m"),
        *("--platform", "manylinux1_x86_64"),
    ),
)
NAMES = {
    "feat_1": "period",
    "feat_2": "nsw_price",
    "feat_3": "nsw_demand",
    "feat_4": "vic_price",
    "feat_5": "vic_demand",
    "feat_6": "transfer",
    "target": "up",
}
FIRST = datetime(1996, 5, 7, tzinfo=timezone(timedelta(hours=10)))
"""Midnight of the market's time, UTC+10 all year."""
HALF_HOUR = timedelta(minutes=30)


class WrongOrder(ValueError):
    """The rows are not consecutive half-hours of whole days, so their position does not give a time."""


def build_tables(archive: bytes) -> dict[str, pa.Table]:
    """Return the rows of the committed file by its name.

    Raises:
        WrongOrder: the rows are not consecutive half-hours.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as wheel:
        csv = wheel.read("skmultiflow/data/datasets/elec.csv")
    types = dict.fromkeys(NAMES, pa.float64()) | {"target": pa.int8()}
    table = pa.csv.read_csv(io.BytesIO(csv), convert_options=pa.csv.ConvertOptions(column_types=types))
    for at, share in enumerate(table.column("feat_1").to_pylist()):
        if abs(share - at % 48 / 47) > 1e-5:
            raise WrongOrder(f"row {at} is at {share} of its day, expected {at % 48 / 47:.6f}")
    times = [FIRST + at * HALF_HOUR for at in range(len(table))]
    key = pa.array([f"{time:%Y-%m-%dT%H:%M}" for time in times])
    columns = {"half_hour": key, "at": pa.array(times, pa.timestamp("us", tz="UTC"))}
    columns |= {name: table.column(source) for source, name in NAMES.items()}
    return {"electricity.parquet": pa.table(columns)}


if __name__ == "__main__":
    sys.exit(run(ARCHIVE, build_tables, HERE, __doc__))
