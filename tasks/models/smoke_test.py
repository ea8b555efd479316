"""Load a registered version in a fresh process and ask it: real rows, null-ridden, unseen and single ones.

    python -m tasks.models.smoke_test <model> <folder of the version> <rows.parquet> <predictions.npy>

The process prints a `Query` as JSON. What only works where it was fitted, is too slow or too big shows
here, before anybody depends on it.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.features import Features
from configs.load import load_model
from configs.schema import ModelConfig
from configs.settings import ROOT
from tasks.contracts import Query
from tasks.models.estimators import read_model
from tasks.models.features import inputs_wanted, predict

if TYPE_CHECKING:
    import pandas as pd

MOST, SINGLE, THOUSAND = 1000, 30, 7
"""Rows that are asked about, and how often one row and a thousand rows are timed."""
PATIENCE = 600
"""Seconds after which a process that has not answered is given up."""


def query_version(config: ModelConfig, folder: Path, rows: "pd.DataFrame", expected: np.ndarray) -> Query:
    """Ask a version in a fresh process about some rows, which here are predicted as `expected`."""
    asked = rows.head(MOST)
    with tempfile.TemporaryDirectory() as draft:
        given, answers = Path(draft) / "rows.parquet", Path(draft) / "predictions.npy"
        asked[[name for name in config.columns if name in asked]].to_parquet(given, index=False)
        command = [sys.executable, "-m", "tasks.models.smoke_test", config.name, str(folder), str(given), str(answers)]
        try:
            run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            return _broken(f"no answer within {PATIENCE} s")
        if run.returncode:
            return _broken((run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1])
        found = Query(**json.loads(run.stdout.splitlines()[-1]))
        said = np.load(answers, allow_pickle=False)
    if not found.problem and said.tobytes() != expected[: len(asked)].tobytes():
        return Query(**(vars(found) | {"problem": "a fresh process predicts other values for the same rows"}))
    return found


def _broken(why: str) -> Query:
    nan = float("nan")
    return Query(why, nan, nan, 0, nan, 0)


def query_model(folder: Path, rows: "pd.DataFrame", config: ModelConfig) -> tuple[Query, np.ndarray]:
    """Load, predict every sort of rows, and time it."""
    began = time.monotonic()
    model = read_model(folder / "model.skops")
    loaded = time.monotonic() - began
    said = predict(model, rows, config)
    problems = [
        f"{name}: {why}"
        for name, part in sorts_of(rows, inputs_wanted(model, config)).items()
        if (why := unsound(model, part, config))
    ]
    problems += _odd_singles(model, rows, said, config)
    thousand = rows.iloc[np.arange(MOST) % len(rows)].reset_index(drop=True)
    return Query(
        problem="; ".join(problems),
        one_row_ms=_median_ms(lambda: predict(model, rows.head(1), config), SINGLE),
        thousand_rows_ms=_median_ms(lambda: predict(model, thousand, config), THOUSAND),
        size=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        load_seconds=loaded,
        rows=len(rows),
    ), said


def sorts_of(rows: "pd.DataFrame", features: Features) -> "dict[str, pd.DataFrame]":
    """Rows of every sort that production sends: real, with half of the values null, all null, of unseen categories."""
    holes = np.random.default_rng(0).random((len(rows), len(features.all))) < 0.5
    inputs = rows[list(features.all)]
    return {
        "real rows": rows,
        "rows with nulls": inputs.mask(holes),
        "rows of nothing but nulls": inputs.head(3).mask(np.ones((min(3, len(rows)), len(features.all)), dtype=bool)),
        "rows of unseen categories": inputs.assign(**dict.fromkeys(features.categorical, "never seen before")),
        "one row": rows.head(1),
    }


def unsound(model: Any, rows: "pd.DataFrame", config: ModelConfig) -> str:
    """What is wrong with a model's answer to some rows; empty when nothing is."""
    try:
        said = predict(model, rows, config)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is what we wanted to know)
        return f"{type(error).__name__}: {error}"
    if len(said) != len(rows):
        return f"{len(said)} predictions for {len(rows)} rows"
    if not np.isfinite(said).all():
        return f"{int((~np.isfinite(said)).sum())} predictions are no numbers"
    if config.target.kind != "regression" and (said.min() < 0 or said.max() > 1):
        return f"probabilities from {said.min():.3g} to {said.max():.3g}"
    return ""


def _odd_singles(model: Any, rows: "pd.DataFrame", said: np.ndarray, config: ModelConfig) -> list[str]:
    """Rows that get another answer alone than among others, by more than rounding."""
    alone = [predict(model, rows.iloc[[at]], config)[0] for at in range(min(5, len(rows)))]
    if np.allclose(alone, said[: len(alone)], rtol=1e-5, atol=1e-7):
        return []
    return ["a row gets another prediction alone than among others"]


def _median_ms(call: Callable[[], Any], times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken) * 1000)


def main() -> int:
    import pandas as pd

    name, folder, given, answers = sys.argv[1:]
    found, said = query_model(Path(folder), pd.read_parquet(given), load_model(name).config)
    np.save(answers, said, allow_pickle=False)
    print(json.dumps(asdict(found)))  # the one place that prints: its reader is the process that started it
    return 0


if __name__ == "__main__":
    sys.exit(main())
