"""SQLite and PostgreSQL accept and refuse the same values, and what was refused left nothing behind."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tasks.contracts import Decision, Hindsight, Interval
from tasks.errors import NotStorable, UnknownFact
from tasks.ledger.claims import Claims
from tasks.ledger.fact_ids import make_fact
from tests.tasks.ledger.test_store import at, change, fact, ledger, retrain

__all__ = ["ledger"]  # the fixture
NAN, INF = float("nan"), float("inf")
ROW = change("register", "1", at(4))
EARLIEST, LATEST = (
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"by": "a" * 201}, "promotions.by has 201 characters, and at most 200 can be stored"),
        ({"version": "1" * 17}, "promotions.version has 17 characters, and at most 16"),
        ({"run_id": "r" * 65}, "promotions.run_id has 65 characters"),
        ({"flow_run": "r" * 65}, "promotions.flow_run has 65 characters"),
        ({"previous": "1" * 17}, "promotions.previous has 17 characters"),
        ({"reason": "a\0b"}, "promotions.reason has the character U\\+0000, which cannot be stored, at position 1"),
        ({"reason": "a\ud800"}, "promotions.reason has the character U\\+D800"),
        ({"by": "\udfff"}, "promotions.by has the character U\\+DFFF"),
        ({"reason": None}, "promotions.reason has no value"),
        ({"version": 2}, "promotions.version is 2, not a text"),
        ({"against": 2**31}, "promotions.against is 2147483648, and at most 2147483647"),
        ({"evidence": {"gain": {"lower": NAN}}}, "promotions.evidence.gain.lower is nan, which JSON does not have"),
        ({"evidence": {"a": [1.0, INF]}}, r"promotions.evidence.a\[1\] is inf"),
        ({"evidence": {"a": -INF}}, "promotions.evidence.a is -inf"),
        ({"evidence": {"a": "x\0"}}, "promotions.evidence.a has the character U\\+0000"),
        ({"evidence": {"a": ("x", "\udc00")}}, r"promotions.evidence.a\[1\] has the character U\+DC00"),
        ({"evidence": {"a\0": 1}}, "promotions.evidence has a key that has the character U\\+0000"),
        ({"as_of": datetime(2024, 1, 1)}, "promotions.as_of is 2024-01-01 00:00:00 has no time zone"),  # noqa: DTZ001
        ({"as_of": EARLIEST}, "promotions.as_of is 0001-01-01T00:00:00.* not within the years 1700 to 2250"),
        ({"window_end": LATEST}, "promotions.window_end is 9999-12-31T23:59:59.* not within the years 1700 to 2250"),
    ],
)
def test_a_stage_change_that_cannot_be_stored_is_refused_by_name(ledger, values, message):
    with pytest.raises(NotStorable, match=message):
        ledger.append(replace(ROW, **values))
    assert ledger.promotions() == []
    assert ledger.append(ROW).sequence == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"id": "i" * 37}, "facts.id has 37 characters"),
        ({"partition": "2013-05-14T10:00Z"}, "facts.partition has 17 characters"),
        ({"payload": {"score": NAN}}, "facts.payload.score is nan"),
        ({"payload": {"told": "\0"}}, "facts.payload.told has the character U\\+0000"),
        ({"payload": {"since": at(4)}}, "facts.payload.since is a datetime, which JSON does not have"),
        ({"kind": None}, "facts.kind has no value"),
    ],
)
def test_a_fact_that_cannot_be_stored_is_refused_and_not_taken_for_a_known_one(ledger, values, message):
    with pytest.raises(NotStorable, match=message):
        ledger.record_fact(replace(fact("a"), **values))
    assert ledger.facts() == []
    assert ledger.record_fact(fact("a"))


def test_a_decision_that_cannot_be_stored_is_refused(ledger):
    ledger.record_fact(fact("a"))
    for values, message in (
        ({"rule": "r" * 41}, "decisions.rule has 41 characters"),
        ({"signals": {"loss": INF}}, "decisions.signals.loss is inf"),
        ({"seconds": NAN}, "decisions.seconds is nan, which is no number"),
        ({"gate": ("floor\0",)}, r"decisions.gate\[0\] has the character"),
    ):
        with pytest.raises(NotStorable, match=message):
            ledger.record_decision(replace(retrain("a"), **values))
    assert ledger.decisions() == []
    ledger.record_decision(retrain("a"))
    with pytest.raises(NotStorable, match=r"decisions.detail has the character U\+0000"):
        ledger.close_decision("a", "failed", "ValueError: \0")
    assert ledger.in_flight(), "what could not be stored has not closed it"


def test_a_decision_about_a_fact_that_does_not_exist_is_refused(ledger):
    """SQLite accepted it, and on PostgreSQL it was taken for a second retraining in flight, forever."""
    for decision in (retrain("unknown"), Decision("unknown", "m", at(6), "decline", "r", "because")):
        with pytest.raises(UnknownFact):
            ledger.record_decision(decision)


def test_a_measured_effect_that_cannot_be_stored_is_refused(ledger):
    effect = Hindsight("m", 3, "5", "2", at(6), "neutral", Interval(0.01, NAN, 0.02), ("2013-04",), 900)
    with pytest.raises(NotStorable, match=r"hindsights.gain.lower is nan"):
        ledger.record_hindsight(effect)
    with pytest.raises(NotStorable, match=r"hindsights.rows is 3000000000"):
        ledger.record_hindsight(replace(effect, gain=None, rows=3_000_000_000))
    assert ledger.hindsights() == []


def test_an_id_that_no_fact_can_have_is_refused_by_name(ledger):
    with pytest.raises(NotStorable, match=r"facts.id has the character"):
        ledger.fact("a\0")
    assert ledger.facts() == []


def test_a_claim_that_cannot_be_stored_is_refused(ledger):
    with pytest.raises(NotStorable, match=r"claims.partition has 17 characters"):
        Claims(ledger.url, "m").acquire("2013-05-14T10:00Z")


def test_the_longest_values_and_any_character_are_stored_as_they_are(ledger):
    text = "".join(map(chr, [*range(1, 0x300), 0x200D, 0xFFFF, 0x1F600, 0x10FFFF]))
    row = replace(
        ROW, by="é" * 200, version="1" * 16, reason=text, evidence={text: [text, 1e308, 5e-324, -0.0, 2**70, None]}
    )
    written = ledger.append(row)
    assert ledger.promotions() == [written]
    assert (written.by, written.reason, written.evidence) == (row.by, text, row.evidence)


def test_what_was_measured_is_made_storable_before_it_becomes_a_fact(ledger):
    payload = {"told": "carrier = A\0", "signals": [{"score": INF, "rows": 3}]}
    drift = make_fact("drift", "m", "2013-05", at(6), ["a"], payload)
    assert ledger.record_fact(drift)
    stored = ledger.fact(drift.id).payload
    assert stored == {
        "model": "m",
        "partition": "2013-05",
        "as_of": at(6).isoformat(),
        "told": "carrier = A\\x00",
        "signals": [{"score": None, "rows": 3}],
    }
    assert datetime.fromisoformat(stored["as_of"]).tzinfo == UTC
