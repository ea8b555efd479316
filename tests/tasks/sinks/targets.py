"""A tiny model with `publish`, predictions in its lake without a training, and what each kind of target has."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from configs.settings import ROOT
from tasks.contracts import RunInfo, Stage
from tasks.resources import LiveResources, open_resources
from tests.tasks.source.databases import connect

DAY, NEXT = "2024-03-02", "2024-03-03"


def configure(tiny: Path, **keys: Any) -> LiveResources:
    """Change keys of the tiny model's model.yaml, and open it."""
    path = tiny / "configs" / "tiny" / "model.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))
    return open_resources("tiny")


def predict(res: LiveResources, key: str, rows: int, version: str = "1") -> pd.DataFrame:
    """Write predictions of a partition into the lake, as `score` does."""
    ref = res.ref(key)
    frame = pd.DataFrame(
        {
            "parcel": [f"{key}-{n}" for n in range(rows)],
            "sent": pd.Series([ref.start] * rows, dtype="datetime64[us, UTC]"),
            "prediction": np.linspace(0, 1, rows) + int(version),
            "model_version": pd.Series([version] * rows, dtype="str"),
            "as_of": pd.Series([ref.as_of] * rows, dtype="datetime64[us, UTC]"),
        }
    )
    digest = res.lake.write_frame(Stage.PREDICTIONS, key, frame)
    record(res, Stage.PREDICTIONS, key, {"version": version}, rows=rows, digest=digest)
    return frame


def record(res: LiveResources, stage: Stage, key: str, data: dict[str, Any], **values: Any) -> None:
    """Write the record of an output."""
    run = RunInfo(datetime.now().astimezone(), 0.0)
    res.lake.write_record(res.ref(key), stage, version=1, inputs={}, data=data, run=run, **values)


def query(address: str, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a database, as any SQL client has them."""
    with connect(address) as con, con.cursor() as cursor:
        cursor.execute(sql)
        return [tuple(row) for row in cursor.fetchall()]


def send_all(res: LiveResources) -> list[Any]:
    """Send what the sinks do not have."""
    from tasks.sinks.send import find_unsent, send

    return [send(item, res) for item in find_unsent(res)]


SENDER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.tasks.sinks.targets import send_all
from tasks.resources import open_resources
print("start", flush=True)
print(sum(sent is not None for sent in send_all(open_resources("tiny"))), flush=True)
"""
"""A program that sends what the sinks do not have."""
