"""A change that is tested again and again: its evidence is pooled, and its error rate is spent over the tests."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from configs.gate import Gain
from configs.load import load_model
from configs.schema import ModelConfig
from tasks.contracts import Action, Comparison, Interval, Promotion, Scorecard
from tasks.ledger.history import earlier_gains, last_change, last_move, staged_as
from tasks.lifecycle.repeated_tests import confidence_of_test, pool_tests

MOMENT = datetime(2013, 4, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    config = load_model("flights").config
    gain = Gain(confidence=0.9, min_blocks=10, resamples=200)
    return config.model_copy(update={"gate": config.gate.model_copy(update={"gain": gain})})


def comparison(blocks: range, gains: np.ndarray, **change) -> Comparison:
    card = Scorecard("2", 1000, {})
    per_block = tuple((block, 100.0, float(gain)) for block, gain in zip(blocks, gains, strict=True))
    base = Comparison(card, card, card, Interval(0, -1, 1), len(blocks), MOMENT, MOMENT, gains=per_block, change="k")
    return replace(base, **change)


def row(sequence: int, action: Action, **evidence) -> Promotion:
    return Promotion(
        "flights", sequence, action, str(sequence), None, MOMENT, MOMENT, "automation", "", evidence, "", "", 0,
        to_stage="refused" if action == "refuse" else "champion",
    )  # fmt: skip


def refusal(sequence: int, tested: Comparison, key: str = "k") -> Promotion:
    return row(sequence, "refuse", change=key, gains=[list(gain) for gain in tested.gains])


def test_the_error_rate_is_spent_over_all_tests():
    spent = [1 - confidence_of_test(0.9, test) for test in range(1, 10_000)]
    assert spent[0] == pytest.approx(0.05)
    assert sum(spent) == pytest.approx(0.1, abs=1e-4)
    assert sum(spent) < 0.1


def test_the_days_of_all_tests_are_pooled_and_each_counts_once(config):
    rng = np.random.default_rng(0)
    first, second = comparison(range(14), rng.normal(1, 1, 14)), comparison(range(7, 21), rng.normal(1, 1, 14))
    pooled = pool_tests(second, [refusal(1, first)], config, MOMENT)
    assert (pooled.tests, pooled.blocks) == (2, 21)
    expected = [*(g for _, _, g in first.gains), *(g for _, _, g in second.gains[7:])]
    assert pooled.gain is not None
    assert pooled.gain.value == pytest.approx(np.sum(expected) / 2100)
    alone = pool_tests(second, [refusal(1, first, "another change")], config, MOMENT)
    assert (alone.tests, alone.blocks) == (1, 14)


def test_a_test_that_was_recorded_by_a_run_that_died_is_not_counted_twice(config):
    first = comparison(range(14), np.ones(14))
    assert pool_tests(first, [refusal(1, first)], config, MOMENT).tests == 1


def test_few_days_become_enough_with_those_of_earlier_tests(config):
    first = comparison(
        range(7), np.array([1.0, 1.2, 0.9, 1.1, 1.0, 0.8, 1.1]), gain=None, impossible="7 blocks of labelled rows"
    )
    assert pool_tests(first, [], config, MOMENT).gain is None
    second = comparison(
        range(7, 14), np.array([1.0, 1.2, 0.9, 1.1, 1.0, 0.8, 1.1]), gain=None, impossible="7 blocks of labelled rows"
    )
    pooled = pool_tests(second, [refusal(1, first)], config, MOMENT)
    assert pooled.impossible == ""
    assert pooled.gain is not None
    assert pooled.gain.lower > 0


def test_a_promoted_change_begins_a_new_count():
    old = refusal(2, comparison(range(14), np.ones(14)))
    rows = [row(1, "promote"), old, row(3, "promote", burden="refresh")]
    assert len(earlier_gains("k", rows, MOMENT)) == 1
    assert earlier_gains("k", rows, MOMENT - timedelta(days=1)) == [], "a test as of a later moment is not known yet"
    assert earlier_gains("k", [*rows, row(4, "promote", burden="change")], MOMENT) == []


def test_the_last_change_is_the_first_champion_until_a_change_or_a_rollback():
    rows = [row(1, "promote"), row(2, "promote", burden="refresh"), row(3, "restore")]
    assert last_change([]) is None
    assert last_change(rows).version == "1"
    assert last_change([*rows, row(4, "promote", burden="change")]).version == "4"
    assert last_change([*rows, row(5, "rollback")]).version == "5"


def test_the_last_move_is_that_of_the_champion():
    moved = {"verdicts": [{"rule": "refit: mean move of predictions", "value": 0.07}]}
    rule = "refit: mean move of predictions"
    assert last_move([row(1, "promote", **moved), row(2, "refuse", verdicts=[])], rule) == 0.07
    assert last_move([row(1, "promote", **moved), row(2, "promote", burden="refresh")], rule) == 0.0
    staged = replace(row(1, "stage", **moved), version="2", to_stage="challenger")
    assert last_move([staged, row(2, "promote", verdicts=[])], rule) == 0.07, "promoted after shadow mode"
    assert last_move([], rule) == 0.0


def test_a_version_has_its_burden_only_against_the_champion_that_it_was_staged_against():
    champion = row(3, "promote")
    staged = replace(row(4, "stage", burden="refresh"), against=3)
    assert staged_as("4", champion, [champion, staged])["burden"] == "refresh"
    assert staged_as("4", row(5, "rollback"), [champion, staged]) == {}
    assert staged_as("9", champion, [champion, staged]) == {}


def test_a_test_with_gains_that_are_not_finite_counts_and_has_no_days(config):
    unknown = row(1, "refuse", change="k", gains=[])
    tested = comparison(range(14), np.linspace(0.9, 1.1, 14))
    pooled = pool_tests(tested, [unknown], config, MOMENT)
    assert (pooled.tests, pooled.blocks) == (2, 14)


def test_an_equal_change_passes_one_of_many_tests_with_at_most_the_declared_probability(config):
    """Twelve monthly tests of 14 new days each, with equal models: 10 % is declared. Without spending it would be about 40 %."""
    rng, passed, runs = np.random.default_rng(1), 0, 150
    for _ in range(runs):
        rows: list[Promotion] = []
        for month in range(12):
            tested = comparison(range(14 * month, 14 * month + 14), rng.normal(0, 1, 14))
            pooled = pool_tests(tested, rows, config, MOMENT)
            assert pooled.gain is not None
            rows.append(refusal(month + 1, tested))
            if pooled.gain.lower > 0:
                passed += 1
                break
    assert passed / runs < 0.1 + 2 * (0.1 * 0.9 / runs) ** 0.5
