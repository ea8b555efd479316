"""Load a registered version in a fresh process and let it predict: real rows, rows with nulls or unknown categories, and single rows.

    python -m tasks.models.smoke_test <model> <folder of the version> <rows.parquet> <predictions.npy>

The process prints a `Query` as JSON. It detects a version that cannot be loaded elsewhere, is too slow or is too large, before
the version is promoted.
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
from tasks.models.features import input_features, predict
from tasks.storage.personal import error_text

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS, ONE_ROW_REPEATS, THOUSAND_ROWS_REPEATS = 1000, 30, 7
"""Number of rows that are predicted, and how often predictions of one row and of a thousand rows are timed."""
TIMEOUT = 600
"""Seconds after which the process is stopped and counts as failed."""


def query_version(config: ModelConfig, folder: Path, rows: "pd.DataFrame", expected: np.ndarray) -> Query:
    """Let a version predict rows in a fresh process and compare with the predictions of this process.

    Args:
        folder: The version's files, with `model.skops`.
        rows: Rows with all features; the first `MAX_ROWS` are used.
        expected: This process's prediction of each row.

    Returns:
        Measurements, and a description of the problem if there is one.
    """
    rows = rows.head(MAX_ROWS)
    with tempfile.TemporaryDirectory() as draft:
        inputs, output = Path(draft) / "rows.parquet", Path(draft) / "predictions.npy"
        rows[[name for name in config.columns if name in rows]].to_parquet(inputs, index=False)
        command = [sys.executable, "-m", "tasks.models.smoke_test", config.name, str(folder), str(inputs), str(output)]
        try:
            run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            return _failed_query(f"no answer within {TIMEOUT} s")
        if run.returncode:
            text = "" if config.personal else run.stderr.strip()  # it may quote any value
            return _failed_query((text.splitlines() or [f"exit code {run.returncode}"])[-1])
        query = Query(**json.loads(run.stdout.splitlines()[-1]))
        prediction = np.load(output, allow_pickle=False)
    if not query.problem and prediction.tobytes() != expected[: len(rows)].tobytes():
        return Query(**(vars(query) | {"problem": "a fresh process predicts other values for the same rows"}))
    return query


def _failed_query(problem: str) -> Query:
    nan = float("nan")
    return Query(problem, nan, nan, 0, nan, 0)


def query_model(folder: Path, rows: "pd.DataFrame", config: ModelConfig) -> tuple[Query, np.ndarray]:
    """Load a version, predict every variant of the rows, and measure the times.

    Returns:
        Measurements with all problems, and the prediction of each row.
    """
    started = time.monotonic()
    model = read_model(folder / "model.skops")
    load_seconds = time.monotonic() - started
    prediction = predict(model, rows, config)
    problems = [
        f"{name}: {problem}"
        for name, part in row_variants(rows, input_features(model, config)).items()
        if (problem := prediction_problem(model, part, config))
    ]
    problems += _batch_dependence(model, rows, prediction, config)
    thousand = rows.iloc[np.arange(MAX_ROWS) % len(rows)].reset_index(drop=True)
    return Query(
        problem="; ".join(problems),
        one_row_ms=_median_ms(lambda: predict(model, rows.head(1), config), ONE_ROW_REPEATS),
        thousand_rows_ms=_median_ms(lambda: predict(model, thousand, config), THOUSAND_ROWS_REPEATS),
        size=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        load_seconds=load_seconds,
        rows=len(rows),
    ), prediction


def row_variants(rows: "pd.DataFrame", features: Features) -> "dict[str, pd.DataFrame]":
    """Return variants of rows as production may send them: unchanged, half of the values null, all null, unknown categories, one row."""
    is_null = np.random.default_rng(0).random((len(rows), len(features.all))) < 0.5
    inputs = rows[list(features.all)]
    return {
        "real rows": rows,
        "rows with nulls": inputs.mask(is_null),
        "rows of nothing but nulls": inputs.head(3).mask(np.ones((min(3, len(rows)), len(features.all)), dtype=bool)),
        "rows of unseen categories": inputs.assign(**dict.fromkeys(features.categorical, "never seen before")),
        "one row": rows.head(1),
    }


def prediction_problem(model: Any, rows: "pd.DataFrame", config: ModelConfig) -> str:
    """Describe what is wrong with a model's predictions of some rows; empty if nothing is."""
    try:
        prediction = predict(model, rows, config)
    except Exception as error:  # noqa: BLE001  (any error is a problem to report)
        return error_text(config, error)
    if len(prediction) != len(rows):
        return f"{len(prediction)} predictions for {len(rows)} rows"
    if not np.isfinite(prediction).all():
        return f"{int((~np.isfinite(prediction)).sum())} predictions are NaN or infinite"
    if config.target.kind != "regression" and (prediction.min() < 0 or prediction.max() > 1):
        return f"probabilities from {prediction.min():.3g} to {prediction.max():.3g}"
    return ""


def _batch_dependence(model: Any, rows: "pd.DataFrame", prediction: np.ndarray, config: ModelConfig) -> list[str]:
    """Report if single rows are predicted otherwise than in a batch, by more than rounding."""
    singles = [predict(model, rows.iloc[[at]], config)[0] for at in range(min(5, len(rows)))]
    if np.allclose(singles, prediction[: len(singles)], rtol=1e-5, atol=1e-7):
        return []
    return ["the prediction of a row depends on the other rows of its batch"]


def _median_ms(call: Callable[[], Any], times: int) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds) * 1000)


def main() -> int:
    """Run the smoke test in this process; see the module's docstring for the arguments."""
    import pandas as pd

    name, folder, inputs, output = sys.argv[1:]
    query, prediction = query_model(Path(folder), pd.read_parquet(inputs), load_model(name).config)
    np.save(output, prediction, allow_pickle=False)
    print(json.dumps(asdict(query)))  # read by the parent process
    return 0


if __name__ == "__main__":
    sys.exit(main())
