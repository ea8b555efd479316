"""The gate's rules: each passes, fails or could not be judged, and a rule that could not be judged refuses."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from configs.gate import Budgets, Calibration, Fairness, Gain, Gate, Refresh, Segments
from configs.load import load_model
from configs.schema import ModelConfig
from tasks import contracts
from tasks.contracts import Comparison, Interval, Query, Scorecard, Segment
from tasks.lifecycle.evidence import decision_evidence
from tasks.lifecycle.gate import judge, judge_refit, judge_shadow, smallest_visible
from tasks.training.evaluation import NO_CHAMPION

START, END = datetime(2013, 4, 1, tzinfo=UTC), datetime(2013, 4, 15, tzinfo=UTC)
NAN = float("nan")
GATE = Gate(
    floor={"log_loss": 0.6, "roc_auc": 0.55},
    segments=Segments(columns=("origin",), min_rows=100, max_loss=0.02),
    calibration=Calibration(at_most=0.05),
    fairness=(Fairness(column="origin", at_most=0.1),),
    budgets=Budgets(one_row_ms=50, thousand_rows_ms=200, size_mb=5),
)
VALID_QUERY = Query("", 5.0, 20.0, 1_000_000, 0.2, 1000)


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return load_model("flights").config.model_copy(update={"gate": GATE})


def scorecard(version: str, loss: float = 0.5, **other: float) -> Scorecard:
    return Scorecard(version, 1000, {"log_loss": loss, "roc_auc": 0.7, "calibration_error": 0.01} | other)


def segment(value: str, upper: float, rows: int = 500) -> Segment:
    return Segment("origin", value, rows, 0.5, 0.5, Interval(0.0, -0.01, upper))


def gap(value: float) -> contracts.Fairness:
    return contracts.Fairness("origin", "equalized_odds_difference", value, {"EWR": 500, "JFK": 500})


def comparison(**change) -> Comparison:
    base = Comparison(
        challenger=scorecard("2"),
        champion=scorecard("1", 0.52),
        prior=scorecard("prior", 0.55),
        gain=Interval(0.02, 0.01, 0.03),
        blocks=14,
        start=START,
        end=END,
        segments=(segment("EWR", 0.01), segment("JFK", 0.02)),
        fairness=(gap(0.03),),
        query=VALID_QUERY,
    )
    return replace(base, **change)


def not_passed(decision) -> dict[str, str]:
    return {v.rule.split(",")[0]: v.outcome for v in decision.verdicts if not v.passed}


def test_a_better_challenger_passes_and_every_verdict_has_value_and_threshold(config):
    decision = judge(comparison(), config)
    assert decision.passed
    assert (decision.version, decision.against) == ("2", "1")
    assert {v.rule: (v.value, v.threshold) for v in decision.verdicts} == {
        "floor: log_loss": (0.5, 0.6),
        "floor: roc_auc": (0.7, 0.55),
        "better than the prior: log_loss": (0.5, 0.55),
        "calibration error": (0.01, 0.05),
        "gain over the champion (superiority), lower bound": (0.01, 0.0),
        "no segment worse off, upper bound of its gain": (0.01, -0.02),
        "fairness: equalized_odds_difference by origin": (0.03, 0.1),
        "load and query in a fresh process": (0.0, 0),
        "latency of one row, ms": (5.0, 50),
        "latency of a thousand rows, ms": (20.0, 200),
        "size, MB": (1.0, 5),
    }


def test_without_a_champion_only_the_rules_about_the_challenger_apply(config):
    first = comparison(champion=None, gain=None, impossible=NO_CHAMPION)
    decision = judge(first, config)
    assert decision.passed
    assert not any("champion" in v.rule or "segment" in v.rule for v in decision.verdicts)
    assert not_passed(judge(replace(first, challenger=scorecard("2", 0.56)), config)) == {
        "better than the prior: log_loss": "failed"
    }


@pytest.mark.parametrize(
    ("change", "rule", "outcome"),
    [
        ({"challenger": scorecard("2", 0.61), "prior": scorecard("prior", 0.7)}, "floor: log_loss", "failed"),
        ({"challenger": scorecard("2", roc_auc=0.5)}, "floor: roc_auc", "failed"),
        ({"challenger": scorecard("2", roc_auc=NAN)}, "floor: roc_auc", "could not be judged"),
        ({"prior": scorecard("prior", 0.5)}, "better than the prior: log_loss", "failed"),
        ({"prior": scorecard("prior", NAN)}, "better than the prior: log_loss", "could not be judged"),
        ({"challenger": scorecard("2", calibration_error=0.06)}, "calibration error", "failed"),
        ({"gain": Interval(0.02, 0.0, 0.03)}, "gain over the champion (superiority)", "failed"),
        ({"gain": Interval(NAN, NAN, NAN)}, "gain over the champion (superiority)", "could not be judged"),
        ({"gain": None, "impossible": "too few blocks"}, "gain over the champion (superiority)", "could not be judged"),
        ({"segments": (segment("EWR", 0.0), segment("JFK", -0.021))}, "no segment worse off", "failed"),
        ({"segments": (segment("EWR", 0.0), segment("JFK", NAN))}, "no segment worse off", "could not be judged"),
        ({"segments": (segment("EWR", 0.0, rows=99),)}, "no segment worse off", "could not be judged"),
        ({"fairness": (gap(0.11),)}, "fairness: equalized_odds_difference by origin", "failed"),
        ({"fairness": (gap(NAN),)}, "fairness: equalized_odds_difference by origin", "could not be judged"),
        ({"query": replace(VALID_QUERY, problem="it failed")}, "load and query in a fresh process", "failed"),
        ({"query": replace(VALID_QUERY, one_row_ms=51.0)}, "latency of one row", "failed"),
        ({"query": replace(VALID_QUERY, thousand_rows_ms=NAN)}, "latency of a thousand rows", "could not be judged"),
        ({"query": replace(VALID_QUERY, size=5_100_000)}, "size", "failed"),
        ({"query": None}, "load and query in a fresh process", "could not be judged"),
    ],
)  # fmt: skip
def test_one_rule_that_does_not_pass_refuses_and_is_named(config, change, rule, outcome):
    decision = judge(comparison(**change), config)
    assert not decision.passed
    assert not_passed(decision) == {rule: outcome}
    assert any(rule in reason for reason in decision.reasons)


def test_a_segment_with_too_few_rows_is_not_judged(config):
    small = segment("LGA", -1.0, rows=99)
    assert judge(comparison(segments=(segment("EWR", 0.0), small)), config).passed


def test_with_too_few_rows_the_rules_about_the_challenger_cannot_be_judged(config):
    ten = Scorecard("2", 10, scorecard("2").metrics)
    outcomes = not_passed(judge(comparison(challenger=ten, gain=None, impossible="10 labelled rows"), config))
    assert set(outcomes.values()) == {"could not be judged"}
    assert {"floor: log_loss", "better than the prior: log_loss", "gain over the champion (superiority)"} <= set(
        outcomes
    )


def test_a_rule_that_could_not_be_judged_passes_only_with_unjudged_pass(config):
    lenient = config.model_copy(update={"gate": GATE.model_copy(update={"gain": Gain(unjudged="pass")})})
    unknown = comparison(gain=None, impossible="too few blocks")
    decision = judge(unknown, lenient)
    assert decision.passed
    assert [v.outcome for v in decision.verdicts if "gain over" in v.rule] == ["could not be judged"]
    assert not judge(comparison(gain=Interval(0.0, -0.01, 0.01)), lenient).passed


def test_non_inferiority_passes_a_challenger_that_is_worse_by_less_than_the_margin(config):
    rule = Gain(test="non_inferiority", margin=0.01)
    lenient = config.model_copy(update={"gate": GATE.model_copy(update={"gain": rule})})
    assert judge(comparison(gain=Interval(0.0, -0.009, 0.01)), lenient).passed
    assert not judge(comparison(gain=Interval(0.0, -0.01, 0.01)), lenient).passed


def test_the_note_names_the_reference_the_differences_and_the_number_of_tests(config):
    change = comparison(
        tests=3, differences=("estimator", "features"), reference="version 7, as which champion 1 was judged"
    )
    note = next(v.note for v in judge(change, config).verdicts if v.rule.startswith("gain"))
    assert "test 3 of this change" in note
    assert "a change of estimator, features" in note
    assert "compared with version 7, as which champion 1 was judged" in note


def test_a_refresh_passes_unless_it_is_surely_worse(config):
    def verdicts(lower: float, upper: float) -> dict[str, str]:
        return not_passed(judge(comparison(burden="refresh", gain=Interval((lower + upper) / 2, lower, upper)), config))

    name = "gain over the champion (refresh)"
    assert verdicts(-0.05, 0.0) == {}
    assert verdicts(-0.05, 0.001) == {}, "its mean is worse, but that may be chance"
    assert verdicts(-0.05, -0.001) == {name: "failed"}
    assert verdicts(-0.05, NAN) == {name: "could not be judged"}
    unknown = comparison(burden="refresh", gain=None, impossible="6 blocks of labelled rows")
    assert not_passed(judge(unknown, config)) == {name: "could not be judged"}


def test_the_note_has_the_smallest_harm_that_these_blocks_can_show(config):
    """For normal gains with a known standard error, a true harm of that size is refused in 80 % of holdouts."""
    error, z = 0.004, 1.2815515655446004  # z of 90 %
    refresh = comparison(burden="refresh", gain=Interval(0.001, 0.001 - z * error, 0.001 + z * error))
    harm = smallest_visible(refresh, config)
    means = np.random.default_rng(0).normal(-harm, error, 20_000)
    assert np.mean(means + z * error < 0) == pytest.approx(0.8, abs=0.01)
    note = next(v.note for v in judge(refresh, config).verdicts if v.rule.startswith("gain"))
    assert f"a harm of {harm:.4g} is refused in 4 of 5 cases with these blocks" in note


def test_a_change_of_recipe_and_rows_must_also_not_be_surely_worse_than_the_champion_as_it_was_judged(config):
    mixed = comparison(anchor="1", anchor_gain=Interval(-0.01, -0.03, 0.001))
    assert judge(mixed, config).passed
    worse = replace(mixed, anchor_gain=Interval(-0.02, -0.03, -0.001))
    assert not_passed(judge(worse, config)) == {"gain over version 1": "failed"}


def test_a_refresh_that_cannot_be_judged_passes_only_if_model_yaml_says_so(config):
    unknown = comparison(burden="refresh", gain=None, impossible="6 blocks of labelled rows")
    lenient = config.model_copy(update={"gate": GATE.model_copy(update={"refresh": Refresh(unjudged="pass")})})
    assert not judge(unknown, config).passed
    assert judge(unknown, lenient).passed


def test_a_margin_allows_a_refresh_to_be_surely_worse_by_less(config):
    lenient = config.model_copy(update={"gate": GATE.model_copy(update={"refresh": Refresh(margin=0.01)})})
    worse = comparison(burden="refresh", gain=Interval(-0.01, -0.02, -0.005))
    assert judge(worse, lenient).passed
    assert not judge(worse, config).passed


def test_small_losses_of_refreshes_do_not_add_up(config):
    """A refresh that does not differ clearly from the champion is refused where it is surely worse than the last change."""
    refresh = comparison(burden="refresh", gain=Interval(-0.001, -0.01, 0.008), anchor="1")
    assert judge(refresh, config).passed, "the anchor has learned the rows, so there is no gain over it"
    assert judge(replace(refresh, anchor_gain=Interval(-0.01, -0.02, 0.001)), config).passed
    assert not_passed(judge(replace(refresh, anchor_gain=Interval(-0.02, -0.03, -0.001)), config)) == {
        "gain over version 1": "failed"
    }
    better = replace(refresh, gain=Interval(0.01, 0.001, 0.02), anchor_gain=Interval(-0.02, -0.03, -0.001))
    assert judge(better, config).passed, "a champion that is surely worse than the refresh must not stay"


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("floor: log_loss", {"challenger": scorecard("2", 0.61), "prior": scorecard("prior", 0.7)}),
        ("better than the prior: log_loss", {"prior": scorecard("prior", 0.5)}),
        ("calibration error", {"challenger": scorecard("2", calibration_error=0.06)}),
        ("fairness: equalized_odds_difference by origin", {"fairness": (gap(0.11),)}),
    ],
)
def test_a_limit_that_the_champion_breaks_too_refuses_only_what_is_worse_beyond_chance(config, rule, change):
    broken = comparison(**change)
    assert not_passed(judge(broken, config)) == {rule: "failed"}
    chance = replace(broken, excess={rule: Interval(0.01, -0.005, 0.02)})
    assert judge(chance, config).passed
    assert "the champion breaks this limit too" in next(
        v.note for v in judge(chance, config).verdicts if v.rule == rule
    )
    beyond = replace(broken, excess={rule: Interval(0.01, 0.002, 0.02)})
    assert not_passed(judge(beyond, config)) == {rule: "failed"}
    unknown = replace(broken, excess={rule: Interval(0.01, NAN, NAN)})
    assert not_passed(judge(unknown, config)) == {rule: "failed"}


def test_the_refit_must_pass_the_smoke_test_and_predict_like_the_judged_version(config):
    passed = judge(comparison(), config)
    assert judge_refit(VALID_QUERY, 0.09, passed, "3", config).passed
    assert judge_refit(VALID_QUERY, 0.09, passed, "3", config).version == "3"
    assert not_passed(judge_refit(VALID_QUERY, 0.11, passed, "3", config)) == {
        "refit: mean move of predictions": "failed"
    }
    assert not_passed(judge_refit(VALID_QUERY, NAN, passed, "3", config)) == {
        "refit: mean move of predictions": "could not be judged"
    }
    assert judge_refit(VALID_QUERY, 0.11, passed, "3", config, last_move=0.06).passed, "the champion's refit moved .06"
    assert not judge_refit(VALID_QUERY, 0.13, passed, "3", config, last_move=0.06).passed
    broken = judge_refit(replace(VALID_QUERY, problem="it failed"), 0.01, passed, "3", config)
    assert not_passed(broken) == {"refit: load and query in a fresh process": "failed"}


def test_the_shadow_test_applies_the_margin_and_the_floors(config):
    promotion = config.promotion.model_copy(
        update={"shadow": config.promotion.shadow.model_copy(update={"margin": 0.01})}
    )
    lenient = config.model_copy(update={"promotion": promotion})
    slightly_worse = comparison(gain=Interval(-0.001, -0.009, 0.01))
    assert judge_shadow(slightly_worse, 2, lenient).passed
    assert not judge_shadow(slightly_worse, 2, config).passed
    assert not judge_shadow(
        comparison(challenger=scorecard("2", 0.7), prior=scorecard("prior", 0.8)), 2, lenient
    ).passed
    assert not judge_shadow(comparison(gain=None, impossible="no rows"), 2, lenient).passed
    not_loadable = comparison(query=replace(VALID_QUERY, problem="it does not load any more"))
    assert "it does not load any more" in "; ".join(judge_shadow(not_loadable, 2, lenient).reasons)


def test_a_refresh_passes_the_shadow_test_unless_it_is_surely_worse(config):
    refresh = comparison(burden="refresh", gain=Interval(-0.001, -0.009, 0.01))
    assert judge_shadow(refresh, 2, config).passed
    assert not judge_shadow(replace(refresh, gain=Interval(-0.005, -0.009, -0.001)), 2, config).passed
    assert not judge_shadow(replace(refresh, gain=Interval(NAN, NAN, NAN)), 2, config).passed


def test_evidence_of_a_change_keeps_the_gains_for_its_next_test(config):
    change = comparison(differences=("features",), gains=((15, 10.0, 0.5),), change="abc")
    evidence = decision_evidence(judge(change, config), change)
    assert (evidence["burden"], evidence["change"], evidence["gains"]) == ("change", "abc", [[15, 10.0, 0.5]])
    unknown = replace(change, gains=((15, 10.0, NAN),))
    assert decision_evidence(judge(unknown, config), unknown)["gains"] == [], "the ledger stores no NaN"
    refresh = replace(change, burden="refresh", differences=(), change="")
    assert "gains" not in decision_evidence(judge(refresh, config), refresh)


def test_evidence_has_null_for_nan(config):
    unknown = comparison(challenger=scorecard("2", NAN), gain=Interval(NAN, NAN, NAN))
    evidence = decision_evidence(judge(unknown, config), unknown)
    assert evidence["verdicts"][0]["value"] is None
    assert evidence["gain"] == {"mean": None, "lower": None, "upper": None}
    assert (evidence["judged"], evidence["against"], evidence["passed"], evidence["blocks"]) == ("2", "1", False, 14)
