"""Generated tables as a newcomer brings them: three kinds of target, with columns that must not become features."""

from pathlib import Path

import numpy as np
import pandas as pd

START = pd.Timestamp("2024-01-01")


def orders(kind: str, rows: int = 3_000, days: int = 120, seed: int = 0) -> pd.DataFrame:
    """Return rows in random order, with `price`, `weight`, `colour`, `flag` and `sometimes` as the features.

    The others: an identifier, one of customers, the time of ingestion, a number of the row, a constant, an empty column, a date as
    text, a copy of the target with noise (`copied`), and an amount that is known only after the outcome (`settled`).
    """
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.uniform(0, days * 86400, rows)).astype(int)
    happened = START + pd.to_timedelta(seconds, unit="s")
    price, weight = rng.normal(size=rows), rng.normal(size=rows)
    colour = rng.choice(["red", "green", "blue"], rows)
    score = price + 0.7 * weight + 0.5 * (colour == "red") + rng.normal(size=rows)
    target, number = outcome(kind, score)
    frame = pd.DataFrame(
        {
            "order_id": [f"o{n:06d}" for n in rng.permutation(rows)],
            "ordered_at": happened,
            "customer_id": rng.integers(1, 4_000, rows),
            "loaded_at": happened.ceil("D") + pd.Timedelta(hours=3),
            "line": np.arange(rows),
            "price": price,
            "weight": weight,
            "colour": colour,
            "flag": rng.uniform(size=rows) > 0.3,
            "sometimes": np.where(rng.uniform(size=rows) < 0.2, np.nan, rng.normal(size=rows)),
            "constant": 7,
            "nothing": np.full(rows, np.nan),
            "day": happened.strftime("%d/%m/%Y"),
            "copied": number + rng.normal(scale=0.05 * number.std(), size=rows),
            "settled": settled(kind, number, rng),
            "target": target,
        }
    )
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


def outcome(kind: str, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the outcomes of a kind of target, and a number for each."""
    if kind == "binary":
        late = (score > 1).astype(int)
        return late, late.astype(float)
    if kind == "multiclass":
        levels = np.digitize(score, [-0.6, 0.8])
        return np.array(["low", "middle", "high"])[levels], levels.astype(float)
    amount = 50 + 10 * score
    return amount, amount


def settled(kind: str, number: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an amount that exists only after the outcome: paid for positive ones, or nearly the outcome itself."""
    if kind == "binary":
        return np.where(number == 1, rng.uniform(1, 9, len(number)), np.nan)
    return number * 1.1 + rng.normal(scale=0.05 * number.std(), size=len(number))


NOT_USED = ("customer_id", "loaded_at", "line", "constant", "nothing", "day", "copied", "settled")
NUMERIC, CATEGORICAL = ("price", "weight", "flag", "sometimes"), ("colour",)


def write(frame: pd.DataFrame, path: Path) -> str:
    """Write rows as Parquet or CSV, by the name of the file, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return str(path)
