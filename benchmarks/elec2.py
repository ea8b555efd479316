"""Elec2 in batches of 1,000 rows, as in publications on batch learners: train on batch 0, test on batch i before learning from it.

    python -m benchmarks elec2

Replays the `electricity` model's config on a copy of its file in which each batch is a day, so the replay's own code is measured.
The time within a day is the row's position in its batch. The remaining 312 rows are left out. The gate judges for all policies;
"every, ungated" is each training's model on the next batch. Each learns from all batches so far, or from the newest alone.
Published figures with batches of about 1,000 rows: train once .61 to .62, detect and retrain .71 to .75, detect and increment .74 to .77.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
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
    """Write the file in which each batch is a day, and return its path."""
    import numpy as np
    import pandas as pd

    rows = pd.read_parquet(ROOT / "data" / "electricity" / "electricity.parquet")
    rows = rows.iloc[: len(rows) // ROWS * ROWS]
    at = np.arange(len(rows))
    rows["at"] = pd.Timestamp("2000-01-01", tz="UTC") + pd.to_timedelta(at / ROWS, "D")
    rows.to_parquet(folder / "batches.parquet", index=False)
    return folder / "batches.parquet"


def configure(folder: Path, file: Path) -> None:
    """Write the electricity model with another file. An override cannot replace the source."""
    path = ROOT / "configs" / "electricity" / "model.yaml"
    content = yaml.safe_load(path.read_text()) | {"source": {"file": {"path": str(file)}}}
    (folder / "electricity").mkdir(parents=True)
    (folder / "electricity" / "model.yaml").write_text(yaml.safe_dump(content))


def override(newest: int | None) -> dict[str, Any]:
    """Return the override of the electricity model."""
    return {
        "partition": {"every": "D", "timezone": "UTC"},
        "target": {"delay": "1min"},
        "expectations": [],
        "training": {
            "window": {"partitions": newest, "min_partitions": 1, "min_rows": 250, "holdout": "6h"},
            "splits": 1,
        },
        "gate": GATE,
        "monitoring": {"block": "H", "decay": {"partitions": 1}},
    }


def replay_batches(newest: int | None) -> tuple[dict[str, tuple[float, int]], float, float]:
    """Return accuracy and retrainings of each policy over all batches but the first, the accuracy without the gate, and persistence's."""
    import numpy as np

    from tasks.replay.oracle import measure_all
    from tasks.replay.persistence_baseline import persistence
    from tasks.replay.policies import BUILT_IN
    from tasks.replay.setup import open_replayed_model, prepare_replay
    from tasks.replay.simulate import simulate_policy
    from tasks.replay.standings import counted_retrainings, mean_loss

    live = open_replayed_model("electricity", override(newest))
    setup = prepare_replay("2000-01-02", "2000-02-14", live)
    table = measure_all(setup.begin, setup.refs, live)
    results: dict[str, tuple[float, int]] = {}
    for name in SHOWN:
        one = simulate_policy(name, BUILT_IN[name], setup.begin, setup.refs, live)
        results[name] = 1 - mean_loss(one, "accuracy"), len(counted_retrainings(one))
    last = persistence(setup.refs, live)
    ungated = float(np.nanmean(np.diag(table.values("accuracy"))))
    return results, ungated, last.before if last else float("nan")


def report(console: Console) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ |= {
            "EVERGREEN_LAKE": str(home / "lake"),
            "EVERGREEN_HOME": str(home / "home"),
            "EVERGREEN_CONFIGS": str(home / "configs"),
            "EVERGREEN_DATABASE_URL": f"sqlite:///{home}/ledger.db",
        }
        configure(home / "configs", batches(home))
        table = Table("Elec2, batches of 1,000 rows", "learns from", "accuracy", "retrainings", box=None)
        windows: Mapping[str, int | None] = {"all so far": None, "the newest batch": 1}
        for name, newest in windows.items():
            results, ungated, last = replay_batches(newest)
            for policy, (accuracy, count) in results.items():
                table.add_row(policy, name, f"{accuracy:.3f}", str(count))
            table.add_row("every, ungated", name, f"{ungated:.3f}", "43")
        table.add_row("persistence", "the row before", f"{last:.3f}", "")
        console.print(table)
