"""The persistence baseline by rows and by partitions, and kappa against it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from configs.load import load_model
from tasks.replay.persistence_baseline import kappa, repeat_last
from tasks.storage.partitions import partition


@pytest.fixture
def config(tiny):
    return load_model("tiny").config


def rows(outcomes: list[float], city: list[str] | None = None) -> pd.DataFrame:
    """Return six rows a day from 1 March on; each outcome is known one day later."""
    sent = pd.Timestamp("2024-03-01", tz="UTC") + pd.to_timedelta(np.arange(len(outcomes)) * 4, "h")
    frame = pd.DataFrame({"sent": sent, "late": outcomes, "known_at": sent + pd.Timedelta(1, "D")})
    return frame.assign(city=city or "Bonn")


def test_the_previous_rows_outcome_and_the_last_outcome_known_at_the_partitions_start(config):
    """On the third day the newest known outcome is the first row of the second, which is 1."""
    frame = rows([0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 1, 1, 1])
    baseline = repeat_last(frame, [partition(config, "2024-03-03")], with_series(config, ()))
    third = frame["late"].to_numpy()[12:]
    assert baseline.before == pytest.approx((third == frame["late"].to_numpy()[11:17]).mean())
    assert baseline.known == pytest.approx((third == 1).mean())
    assert baseline.by_partition == {"2024-03-03": (baseline.before, baseline.known)}


def test_each_series_repeats_its_own_outcomes(config):
    frame = rows([0, 1] * 9, ["Bonn", "Kiel"] * 9)
    baseline = repeat_last(frame, [partition(config, "2024-03-03")], with_series(config, ("city",)))
    assert (baseline.before, baseline.known) == (1.0, 1.0)
    mixed = repeat_last(frame, [partition(config, "2024-03-03")], with_series(config, ()))
    assert mixed.before == 0.0


def test_without_known_outcomes_there_is_no_prediction(config):
    baseline = repeat_last(rows([1, 1, 1, 1, 1, 1]), [partition(config, "2024-03-01")], with_series(config, ()))
    assert baseline.before == 1.0, "of the five rows that have a previous row"
    assert np.isnan(baseline.known)


def test_kappa_is_cohens_kappa_with_persistence_as_the_reference():
    """Against a reference with an accuracy of one half, it equals Cohen's kappa."""
    outcome, prediction = np.array([0, 1] * 50), np.array([0, 1, 0, 0] * 25)
    assert kappa((outcome == prediction).mean(), 0.5) == pytest.approx(cohen_kappa_score(outcome, prediction))
    assert kappa(0.853, 0.853) == 0.0
    assert kappa(0.7, 0.85) < 0


def with_series(config, series):
    return config.model_copy(update={"replay": config.replay.model_copy(update={"series": series})})
