"""The gate's rules: each passes, fails, or could not be judged, and doubt fails."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from configs.gate import Budgets, Calibration, Fairness, Gain, Gate, Segments
from configs.load import load_model
from configs.schema import ModelConfig
from tasks import contracts
from tasks.contracts import Comparison, Interval, Query, Scorecard, Segment
from tasks.lifecycle.gate import evidence, judge, judge_refit, judge_shadow
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
SOUND = Query("", 5.0, 20.0, 1_000_000, 0.2, 1000)


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return load_model("flights").config.model_copy(update={"gate": GATE})


def card(version: str, loss: float = 0.5, **other: float) -> Scorecard:
    return Scorecard(version, 1000, {"log_loss": loss, "roc_auc": 0.7, "calibration_error": 0.01} | other)


def segment(value: str, upper: float, rows: int = 500) -> Segment:
    return Segment("origin", value, rows, 0.5, 0.5, Interval(0.0, -0.01, upper))


def gap(value: float) -> contracts.Fairness:
    return contracts.Fairness("origin", "equalized_odds_difference", value, {"EWR": 500, "JFK": 500})


def comparison(**change) -> Comparison:
    whole = Comparison(
        challenger=card("2"),
        champion=card("1", 0.52),
        prior=card("prior", 0.55),
        gain=Interval(0.02, 0.01, 0.03),
        blocks=14,
        start=START,
        end=END,
        segments=(segment("EWR", 0.01), segment("JFK", 0.02)),
        fairness=(gap(0.03),),
        query=SOUND,
    )
    return replace(whole, **change)


def not_passed(decision) -> dict[str, str]:
    return {v.rule.split(",")[0]: v.outcome for v in decision.verdicts if not v.passed}


def test_a_better_challenger_passes_and_every_rule_has_its_numbers(config):
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


def test_a_first_model_needs_only_the_rules_about_itself(config):
    first = comparison(champion=None, gain=None, impossible=NO_CHAMPION)
    decision = judge(first, config)
    assert decision.passed
    assert not any("champion" in v.rule or "segment" in v.rule for v in decision.verdicts)
    assert not_passed(judge(replace(first, challenger=card("2", 0.56)), config)) == {
        "better than the prior: log_loss": "failed"
    }


@pytest.mark.parametrize(
    ("change", "rule", "outcome"),
    [
        ({"challenger": card("2", 0.61), "prior": card("prior", 0.7)}, "floor: log_loss", "failed"),
        ({"challenger": card("2", roc_auc=0.5)}, "floor: roc_auc", "failed"),
        ({"challenger": card("2", roc_auc=NAN)}, "floor: roc_auc", "could not be judged"),
        ({"prior": card("prior", 0.5)}, "better than the prior: log_loss", "failed"),
        ({"prior": card("prior", NAN)}, "better than the prior: log_loss", "could not be judged"),
        ({"challenger": card("2", calibration_error=0.06)}, "calibration error", "failed"),
        ({"gain": Interval(0.02, 0.0, 0.03)}, "gain over the champion (superiority)", "failed"),
        ({"gain": Interval(NAN, NAN, NAN)}, "gain over the champion (superiority)", "could not be judged"),
        ({"gain": None, "impossible": "too few blocks"}, "gain over the champion (superiority)", "could not be judged"),
        ({"segments": (segment("EWR", 0.0), segment("JFK", -0.021))}, "no segment worse off", "failed"),
        ({"segments": (segment("EWR", 0.0), segment("JFK", NAN))}, "no segment worse off", "could not be judged"),
        ({"segments": (segment("EWR", 0.0, rows=99),)}, "no segment worse off", "could not be judged"),
        ({"fairness": (gap(0.11),)}, "fairness: equalized_odds_difference by origin", "failed"),
        ({"fairness": (gap(NAN),)}, "fairness: equalized_odds_difference by origin", "could not be judged"),
        ({"query": replace(SOUND, problem="it broke")}, "load and query in a fresh process", "failed"),
        ({"query": replace(SOUND, one_row_ms=51.0)}, "latency of one row", "failed"),
        ({"query": replace(SOUND, thousand_rows_ms=NAN)}, "latency of a thousand rows", "could not be judged"),
        ({"query": replace(SOUND, size=5_100_000)}, "size", "failed"),
        ({"query": None}, "load and query in a fresh process", "could not be judged"),
    ],
)  # fmt: skip
def test_one_failed_rule_refuses_and_is_named(config, change, rule, outcome):
    decision = judge(comparison(**change), config)
    assert not decision.passed
    assert not_passed(decision) == {rule: outcome}
    assert any(rule in reason for reason in decision.reasons)


def test_a_small_segment_is_shown_and_not_judged(config):
    small = segment("LGA", -1.0, rows=99)
    assert judge(comparison(segments=(segment("EWR", 0.0), small)), config).passed


def test_with_too_few_rows_nothing_about_itself_can_be_judged(config):
    ten = Scorecard("2", 10, card("2").metrics)
    found = not_passed(judge(comparison(challenger=ten, gain=None, impossible="10 labelled rows"), config))
    assert set(found.values()) == {"could not be judged"}
    assert {"floor: log_loss", "better than the prior: log_loss", "gain over the champion (superiority)"} <= set(found)


def test_only_a_rule_that_says_so_lets_through_what_could_not_be_judged(config):
    lenient = config.model_copy(update={"gate": GATE.model_copy(update={"gain": Gain(unjudged="pass")})})
    unknown = comparison(gain=None, impossible="too few blocks")
    decision = judge(unknown, lenient)
    assert decision.passed
    assert [v.outcome for v in decision.verdicts if "gain over" in v.rule] == ["could not be judged"]
    assert not judge(comparison(gain=Interval(0.0, -0.01, 0.01)), lenient).passed


def test_non_inferiority_lets_through_what_is_not_worse_by_the_margin(config):
    rule = Gain(test="non_inferiority", margin=0.01)
    lenient = config.model_copy(update={"gate": GATE.model_copy(update={"gain": rule})})
    assert judge(comparison(gain=Interval(0.0, -0.009, 0.01)), lenient).passed
    assert not judge(comparison(gain=Interval(0.0, -0.01, 0.01)), lenient).passed


def test_another_look_is_counted_and_told(config):
    """With one-sided 90 %, an equal challenger comes through one of three looks with 1 - 0.9^3 = 27 %."""
    told = next(v.note for v in judge(comparison(), config, looks=3).verdicts if v.rule.startswith("gain"))
    assert "look 3" in told
    assert "27%" in told


def test_the_refit_must_answer_and_stay_near_what_was_judged(config):
    passed = judge(comparison(), config)
    assert judge_refit(SOUND, 0.09, passed, "3", config).passed
    assert judge_refit(SOUND, 0.09, passed, "3", config).version == "3"
    assert not_passed(judge_refit(SOUND, 0.11, passed, "3", config)) == {"refit: mean move of predictions": "failed"}
    assert not_passed(judge_refit(SOUND, NAN, passed, "3", config)) == {
        "refit: mean move of predictions": "could not be judged"
    }
    broken = judge_refit(replace(SOUND, problem="it broke"), 0.01, passed, "3", config)
    assert not_passed(broken) == {"refit: load and query in a fresh process": "failed"}


def test_in_the_shadow_it_must_hold_up_by_the_margin_and_keep_its_floors(config):
    promotion = config.promotion.model_copy(
        update={"shadow": config.promotion.shadow.model_copy(update={"margin": 0.01})}
    )
    lenient = config.model_copy(update={"promotion": promotion})
    a_little_worse = comparison(gain=Interval(-0.001, -0.009, 0.01))
    assert judge_shadow(a_little_worse, 2, lenient).passed
    assert not judge_shadow(a_little_worse, 2, config).passed
    assert not judge_shadow(comparison(challenger=card("2", 0.7), prior=card("prior", 0.8)), 2, lenient).passed
    assert not judge_shadow(comparison(gain=None, impossible="no rows"), 2, lenient).passed
    gone = comparison(query=replace(SOUND, problem="it does not load any more"))
    assert "it does not load any more" in "; ".join(judge_shadow(gone, 2, lenient).reasons)


def test_evidence_has_no_nan_and_names_every_number(config):
    unknown = comparison(challenger=card("2", NAN), gain=Interval(NAN, NAN, NAN))
    found = evidence(judge(unknown, config), unknown)
    assert found["verdicts"][0]["value"] is None
    assert found["gain"] == {"mean": None, "lower": None, "upper": None}
    assert (found["judged"], found["against"], found["passed"], found["blocks"]) == ("2", "1", False, 14)
