"""A comparison of challenger and champion on rows that neither has learned, with stub models whose losses are known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from configs.gate import Calibration, Gain, Gate
from configs.load import load_model
from configs.schema import ModelConfig
from tasks.contracts import Promotion, Query, Recipe, Version
from tasks.lifecycle.gate import judge
from tasks.training.evaluation import compare
from tasks.training.reference import Reference

START, DAYS = datetime(2024, 3, 1, tzinfo=UTC), 20
END = START + timedelta(days=DAYS)


class Constant:
    """A model that predicts the same probability for each row."""

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def predict_proba(self, inputs: pd.DataFrame) -> np.ndarray:
        p = np.full(len(inputs), self.probability)
        return np.column_stack([1 - p, p])


@pytest.fixture
def config(tiny) -> ModelConfig:
    gate = Gate(
        floor={"log_loss": 0.9}, gain=Gain(block="D", min_blocks=5, resamples=200), calibration=Calibration(at_most=0.1)
    )
    return load_model("tiny").config.model_copy(update={"gate": gate})


def rows(late_at_end: float = 0.3) -> pd.DataFrame:
    """Return 100 parcels a day. Three in ten are late, in the second half `late_at_end`."""
    rng = np.random.default_rng(0)
    day = np.repeat(np.arange(DAYS), 100)
    share = np.where(day < DAYS // 2, 0.3, late_at_end)
    return pd.DataFrame(
        {
            "parcel": np.arange(len(day)).astype(str),
            "sent": pd.Timestamp(START)
            + pd.to_timedelta(day, "D")
            + pd.to_timedelta(rng.integers(0, 23, len(day)), "h"),
            "weight": rng.normal(size=len(day)),
            "distance": 1.0,
            "city": "Bonn",
            "late": (rng.random(len(day)) < share).astype(int),
        }
    ).sort_values("sent", ignore_index=True)


def version(number: str, end: datetime = START) -> Version:
    return Version("tiny", number, "run", "", START, end, START, Recipe("x", "xgboost", {}), (0.3,), 10)


def row(number: str, end: datetime = START) -> Promotion:
    return Promotion("tiny", 1, "promote", number, None, START, end, "a", "r", {}, to_stage="champion")


def resources(config: ModelConfig, **models: float) -> Any:
    """Return resources whose version 1 and so on predict these probabilities; the keys are `v1` and so on."""
    registry = SimpleNamespace(query=lambda *args: Query("", 1.0, 1.0, 1, 0.1, 10))
    return SimpleNamespace(config=config, registry=registry, load=lambda number: Constant(models[f"v{number}"]))


def of(burden: Any, **more: Any) -> Reference:
    return Reference(row("1"), version("1"), "champion 1", burden, **more)


def test_the_gain_is_that_of_the_two_losses_and_its_days_are_kept(config):
    data = rows()
    comparison = compare(version("2"), of("change", key="k"), data, (START, END), resources(config, v1=0.5, v2=0.3))
    late = data["late"].mean()
    expected = np.log(2) + late * np.log(0.3) + (1 - late) * np.log(0.7)
    assert comparison.gain is not None
    assert comparison.gain.value == pytest.approx(expected)
    assert sum(gain for _, _, gain in comparison.gains) == pytest.approx(expected * len(data))
    assert [count for _, count, _ in comparison.gains] == [100.0] * DAYS
    assert (comparison.burden, comparison.change, comparison.reference) == ("change", "k", "champion 1")


def test_the_gain_over_the_last_change_is_measured_on_rows_that_it_has_not_learned(config):
    """It learned the first half. In the second half, of which 60 % are late, a version that predicts 60 % is right."""
    data, half = rows(late_at_end=0.6), START + timedelta(days=DAYS // 2)
    res = resources(config, v1=0.5, v2=0.5, v9=0.6)
    comparison = compare(version("2"), of("refresh", anchor=row("9", half)), data, (START, END), res)
    new = data[data["sent"] >= half]["late"].mean()
    right = -(new * np.log(0.6) + (1 - new) * np.log(0.4))
    assert comparison.anchor_gain is not None
    assert comparison.anchor_gain.value == pytest.approx(right - np.log(2))
    assert comparison.anchor_gain.value < 0
    late = compare(version("2"), of("refresh", anchor=row("9", END)), data, (START, END), res)
    assert (late.anchor, late.anchor_gain) == ("9", None), "it has learned every row"


def test_a_limit_that_both_break_is_judged_by_how_much_more_the_challenger_breaks_it(config):
    """A calibration error of .2 (champion) and of .15, .2 or .3, where .1 is allowed."""
    data = rows()
    mean = data["late"].mean()

    def decision(challenger: float) -> Any:
        res = resources(config, v1=mean + 0.2, v2=mean + challenger)
        comparison = compare(version("2"), of("refresh"), data, (START, END), res)
        return {v.rule: v for v in judge(comparison, config).verdicts}["calibration error"]

    assert decision(0.15).passed
    assert "the champion breaks this limit too" in decision(0.15).note
    assert decision(0.2).passed
    assert not decision(0.3).passed
    assert decision(0.05).passed
    assert decision(0.05).note == ""
    strict = compare(version("2"), of("refresh"), data, (START, END), resources(config, v1=mean, v2=mean + 0.15))
    assert strict.excess == {}, "the champion keeps the limit"
    assert not judge(replace(strict, gain=None, champion=strict.champion), config).passed
