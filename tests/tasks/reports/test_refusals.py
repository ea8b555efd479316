"""The reasons of the last refusal name rule, value and limit in words."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest

from tasks.contracts import Action, GateDecision, Promotion, Recipe, Selection, Training, Trial, Verdict, Window
from tasks.lifecycle.gate import NAN
from tasks.models.metrics import finite
from tasks.orchestration.prefect_tasks import simulation
from tasks.reports.card.unfitted import publish_unfitted
from tasks.reports.pages.model import describe, render
from tasks.reports.pages.publish import refresh_pages
from tasks.reports.pages.versions import unfitted
from tasks.reports.refusals import last_refusal, limit_word, record_refusal, rule_text
from tasks.resources import Resources, open_resources

MOMENT, RECIPE = datetime(2024, 3, 12, tzinfo=UTC), Recipe("trees", "xgboost", {})


def evidence(verdict: Verdict) -> dict[str, Any]:
    return asdict(verdict) | finite({"value": verdict.value, "threshold": verdict.threshold})


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (Verdict("floor: log_loss", "failed", False, 0.7012, 0.69), "the value is 0.7012, and must be at most 0.69"),
        (Verdict("floor: roc_auc", "failed", False, 0.6, 0.7), "the value is 0.6, and must be at least 0.7"),
        (Verdict("shadow: floor: roc_auc", "failed", False, 0.6, 0.7), "and must be at least 0.7"),
        (
            Verdict("gain over the champion (superiority), lower bound", "failed", False, -0.001, 0.0),
            "the value is -0.001, and must be above 0",
        ),
        (
            Verdict("no segment worse off, upper bound of its gain", "failed", False, -0.05, -0.02, "worst of 3"),
            "the value is -0.05, and must be at least -0.02 (worst of 3)",
        ),
        (Verdict("better than the prior: log_loss", "failed", False, 0.7, 0.69), "and must be below 0.69"),
        (
            Verdict("trees beats the prior on the validation splits", "failed", False, 0.7, 0.69),
            "the value is 0.7, and must be below 0.69",
        ),
        (Verdict("refit: size, MB", "failed", False, 120, 100), "the value is 120, and must be at most 100"),
        (
            Verdict(
                "floor: log_loss", "could not be judged", False, NAN, 0.69, "12 labelled rows, gate.min_rows is 100"
            ),
            "could not be judged (12 labelled rows, gate.min_rows is 100)",
        ),
    ],
)
def test_a_rule_that_did_not_pass_is_a_sentence_with_value_and_limit(verdict: Verdict, text: str) -> None:
    described = rule_text(evidence(verdict))
    assert described.startswith(f"{verdict.rule}: ")
    assert described.endswith(text)


def append(action: Action, version: str, verdict: Verdict | None, res: Resources) -> None:
    found = {"verdicts": [evidence(verdict)]} if verdict else {}
    res.ledger.append(Promotion("tiny", 0, action, version, None, MOMENT, MOMENT, "ann", "a test", found, "", "", 0))


def test_the_last_refusal_is_that_of_the_newest_training_and_ends_with_one_that_passes(tiny) -> None:
    res = open_resources("tiny")
    failed, passed = (
        Verdict("floor: log_loss", "failed", False, 0.8, 0.69),
        Verdict("floor: log_loss", "passed", True, 0.5, 0.69),
    )
    assert last_refusal(res) is None
    append("refuse", "1", failed, res)
    refusal = last_refusal(res)
    assert refusal is not None
    assert (
        refusal.headline
        == "the last training, as of 2024-03-12, was refused: version 1 did not pass 1 rule of the gate"
    )
    assert refusal.rules == ("floor: log_loss: the value is 0.8, and must be at most 0.69",)
    html = render(describe(res))
    assert "The last training, as of 2024-03-12, was refused" in html
    assert "floor: log_loss: the value is 0.8, and must be at most 0.69" in html

    window = Window("tiny", ("2024-03-01",), (), MOMENT, MOMENT, MOMENT, MOMENT)
    beaten = Verdict("trees beats the prior on the validation splits", "failed", False, 0.7, 0.69)
    record_refusal(Training(window, Selection("", (), None), GateDecision("", None, (beaten,))), res)
    later = last_refusal(res)
    assert later is not None
    assert later.headline.endswith("was refused: nothing beat the prior")
    append("stage", "2", passed, res)
    assert last_refusal(res) is None
    append("refuse", "2", None, res)
    assert last_refusal(res) is None, "a person refused it, and not the gate"


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ("gain over the champion (refresh), upper bound", "at least"),
        ("gain over version 2, the last change, upper bound", "at least"),
        ("no segment worse off, upper bound of its gain", "at least"),
        ("gain over the champion, lower bound", "above"),
        ("floor: roc_auc", "at least"),
        ("floor: log_loss", "at most"),
        ("better than the prior: log_loss", "below"),
        ("latency of one row, ms", "at most"),
    ],
)
def test_each_rule_names_the_side_of_its_limit_on_which_it_passes(rule, word):
    assert limit_word(rule) == word


def test_a_training_in_which_nothing_beat_the_prior_has_a_card_to_which_the_versions_page_links(tiny) -> None:
    res = open_resources("tiny")
    window = Window("tiny", ("2024-03-01",), (), MOMENT, MOMENT, MOMENT, MOMENT)
    trials = (Trial("baseline: prior", RECIPE, 0.69, (0.69,)), Trial("trees <b>", RECIPE, 0.7, (0.7,)))
    beaten = Verdict("trees beats the prior on the validation splits", "failed", False, 0.7, 0.69)
    training = Training(window, Selection("", trials, None), GateDecision("", None, (beaten,)))
    with simulation():
        publish_unfitted(training, res)
    (link,) = unfitted(res)
    assert link["text"] == "2024-03-12"
    card = (res.settings.pages / link["href"]).read_text()
    assert "trees beats the prior on the validation splits: the value is 0.7, and must be below 0.69" in card
    assert "<td>0.70000</td>" in card.replace(' class="n"', "")
    assert "trees &lt;b&gt;" in card
    refresh_pages(res)
    assert f'<a href="{link["href"]}">as of 2024-03-12</a>' in (res.settings.pages / "tiny-versions.html").read_text()
