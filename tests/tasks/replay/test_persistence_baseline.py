"""Persistence: the last outcome repeated, by rows and by partitions, and kappa against it."""

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
    """Six rows a day from the first of March on; each outcome is known a day later."""
    sent = pd.Timestamp("2024-03-01", tz="UTC") + pd.to_timedelta(np.arange(len(outcomes)) * 4, "h")
    frame = pd.DataFrame({"sent": sent, "late": outcomes, "known_at": sent + pd.Timedelta(1, "D")})
    return frame.assign(city=city or "Bonn")


def test_the_row_before_and_the_last_outcome_that_was_known_at_the_partitions_start(config):
    """On the third day the newest known outcome is the first row of the second, which is 1."""
    told = rows([0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 1, 1, 1])
    found = repeat_last(told, [partition(config, "2024-03-03")], with_series(config, ()))
    third = told["late"].to_numpy()[12:]
    assert found.before == pytest.approx((third == told["late"].to_numpy()[11:17]).mean())
    assert found.known == pytest.approx((third == 1).mean())
    assert found.by_partition == {"2024-03-03": (found.before, found.known)}


def test_each_entity_repeats_its_own(config):
    told = rows([0, 1] * 9, ["Bonn", "Kiel"] * 9)
    found = repeat_last(told, [partition(config, "2024-03-03")], with_series(config, ("city",)))
    assert (found.before, found.known) == (1.0, 1.0)
    mixed = repeat_last(told, [partition(config, "2024-03-03")], with_series(config, ()))
    assert mixed.before == 0.0


def test_where_nothing_was_known_yet_nothing_is_repeated(config):
    found = repeat_last(rows([1, 1, 1, 1, 1, 1]), [partition(config, "2024-03-01")], with_series(config, ()))
    assert found.before == 1.0, "of the five that have a row before"
    assert np.isnan(found.known)


def test_kappa_is_cohens_with_persistence_in_the_place_of_chance():
    """Of a coin that is right half the time kappa against chance is scikit-learn's kappa."""
    truth, said = np.array([0, 1] * 50), np.array([0, 1, 0, 0] * 25)
    assert kappa((truth == said).mean(), 0.5) == pytest.approx(cohen_kappa_score(truth, said))
    assert kappa(0.853, 0.853) == 0.0
    assert kappa(0.7, 0.85) < 0


def with_series(config, series):
    return config.model_copy(update={"replay": config.replay.model_copy(update={"series": series})})
