"""Elec2 in batches of 1,000 rows, as publications on batch learners have it: train on batch 0, test on batch i before learning from it.

    python -m benchmarks elec2

Plays the `electricity` model's config on a copy of its file in which each batch is a day, so that the replay's own code is what is
measured; the time within a day is the row's place in its batch. The rest of 312 rows is left out. Policies are gated as
everywhere; "every, ungated" is each training's model on the next batch. Each learns from all batches so far, or from the newest alone.
Published figures with batches of about 1,000 rows: train once .61 to .62, detect and retrain .71 to .75, detect and increment .74 to .77.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from configs.settings import ROOT

ROWS = 1000
GATE = {
    "floor": {"log_loss": 10},
    "gain": {"block": "H", "min_blocks": 5},
    "calibration": {"at_most": 1},
    "refit": {"max_move": 1},
}
SHOWN = ("never", "decay", "drift", "every")


def batches(folder: Path) -> Path:
    """The file with a day for each batch."""
    import numpy as np
    import pandas as pd

    rows = pd.read_parquet(ROOT / "data" / "electricity" / "electricity.parquet")
    rows = rows.iloc[: len(rows) // ROWS * ROWS]
    at = np.arange(len(rows))
    rows["at"] = pd.Timestamp("2000-01-01", tz="UTC") + pd.to_timedelta(at / ROWS, "D")
    rows.to_parquet(folder / "batches.parquet", index=False)
    return folder / "batches.parquet"


def override(file: Path, newest: int | None) -> dict[str, Any]:
    """What is said over the electricity model."""
    return {
        "partition": {"every": "D", "timezone": "UTC"},
        "source": {"file": {"path": str(file)}},
        "target": {"delay": "1min"},
        "expectations": [],
        "training": {
            "window": {"partitions": newest, "min_partitions": 1, "min_rows": 250, "holdout": "6h"},
            "splits": 1,
        },
        "gate": GATE,
        "monitoring": {"block": "H", "decay": {"partitions": 1}},
    }


def play_batches(file: Path, newest: int | None) -> tuple[dict[str, tuple[float, int]], float, float]:
    """Accuracy and retrainings of each policy over all batches but the first, that of every training ungated, and persistence's."""
    import numpy as np

    from tasks.replay.oracle import measure_all
    from tasks.replay.persistence_baseline import persistence
    from tasks.replay.policies import BUILT_IN
    from tasks.replay.setup import lay_out, open_past
    from tasks.replay.simulate import simulate_policy
    from tasks.replay.standings import mean_of, serving

    live = open_past("electricity", override(file, newest))
    course = lay_out("2000-01-02", "2000-02-14", live)
    table = measure_all(course.begin, course.refs, live)
    found: dict[str, tuple[float, int]] = {}
    for name in SHOWN:
        one = simulate_policy(name, BUILT_IN[name], course.begin, course.refs, live)
        found[name] = 1 - mean_of(one, "accuracy"), len(serving(one))
    last = persistence(course.refs, live)
    ungated = float(np.nanmean(np.diag(table.values("accuracy"))))
    return found, ungated, last.before if last else float("nan")


def report(console: Console) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ |= {
            "EVERGREEN_LAKE": str(home / "lake"),
            "EVERGREEN_HOME": str(home / "home"),
            "EVERGREEN_DATABASE_URL": f"sqlite:///{home}/ledger.db",
        }
        file = batches(home)
        table = Table("Elec2, batches of 1,000 rows", "learns from", "accuracy", "retrainings", box=None)
        told: Mapping[str, int | None] = {"all so far": None, "the newest batch": 1}
        for name, newest in told.items():
            found, ungated, last = play_batches(file, newest)
            for policy, (accuracy, count) in found.items():
                table.add_row(policy, name, f"{accuracy:.3f}", str(count))
            table.add_row("every, ungated", name, f"{ungated:.3f}", "43")
        table.add_row("persistence", "the row before", f"{last:.3f}", "")
        console.print(table)
