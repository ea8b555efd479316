"""How long `make model FROM=` takes on 1,000,000 rows with 30 columns, as Parquet and as CSV: wall time of a new process.

It looks at the data, and writes, loads and tries the model. The command then also checks it for warnings, as `make lint` does, which is
not included: that takes some eight seconds more, most of them for imports.

The data are generated: numbers (some with missing values), categories, identifiers, a constant, times and the target.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from benchmarks.harness import in_new_process, machine
from configs.settings import ROOT

ROWS, AIM = 1_000_000, 20.0
CODE = """
import shutil, tempfile
from pathlib import Path
from ops.new_model import model_from_data
from ops.profiling.plan import Options
with tempfile.TemporaryDirectory() as folder:
    root = Path(folder)
    (root / "configs").mkdir()
    shutil.copy("ROOT/prefect.yaml", root)
    model_from_data("bench", Options("FILE"), root)
"""


def report(console: Console) -> None:
    """Print wall seconds, CPU seconds and memory, and whether the aim for Parquet is met."""
    console.print(machine())
    with tempfile.TemporaryDirectory() as folder:
        frame = generated(ROWS)
        files = Path(folder) / "rows.parquet", Path(folder) / "rows.csv"
        frame.to_parquet(files[0])
        frame.to_csv(files[1], index=False)
        for file in files:
            spent = in_new_process(CODE.replace("ROOT", str(ROOT)).replace("FILE", str(file)))()
            verdict = f"; aim {AIM:.0f} s: {'met' if spent.wall <= AIM else 'MISSED'}"
            size = f"{len(frame):,} rows x {frame.shape[1]} columns"
            console.print(
                f"{size}, {file.suffix[1:]}: {spent.wall:.1f} s, {spent.cpu:.1f} CPU s, {spent.mb:.0f} MB{verdict}"
            )


def generated(rows: int) -> pd.DataFrame:
    """Return rows of two years with a binary target."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(rows, 19))
    frame = pd.DataFrame(numbers, columns=[f"x{at}" for at in range(19)])
    frame.loc[rng.uniform(size=rows) < 0.1, ["x3", "x4", "x5"]] = np.nan
    seconds = np.sort(rng.integers(0, 730 * 86400, rows))
    frame.insert(0, "id", np.char.add("r", rng.permutation(rows).astype(str)))
    frame.insert(1, "happened", pd.Timestamp("2023-01-01") + pd.to_timedelta(seconds, unit="s"))
    frame["loaded_at"] = frame["happened"].dt.ceil("D")
    for at, count in enumerate((3, 10, 50, 300)):
        frame[f"kind{at}"] = np.char.add("k", rng.integers(0, count, rows).astype(str))
    frame["customer_id"] = rng.integers(0, 200_000, rows)
    frame["day"] = frame["happened"].dt.strftime("%d/%m/%Y")
    frame["constant"] = 1
    frame["target"] = (numbers[:, 0] + numbers[:, 1] + rng.normal(size=rows) > 1).astype(int)
    return frame
