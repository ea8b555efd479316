"""The message of a run states what it found out, with numbers that people read."""

from datetime import UTC, datetime

import pytest

from tasks.contracts import Fact, PartitionRun
from tasks.contracts.words import counted, value_text
from tasks.reports.artifacts.outcomes import outcome_text, run_tags
from tasks.reports.artifacts.partitions import process_headline

AT = datetime(2013, 7, 2, tzinfo=UTC)
DRIFT = "drift in 7 of 30 columns (carrier_late_7d first)"


def fact(kind, partition: str = "2013-12", told: str = "7 columns drifted", **payload: object) -> Fact:
    return Fact("f", "flights", kind, partition, AT, {"told": told, **payload})


def run(partition: str, state: str = "made", blocked: str = "") -> PartitionRun:
    return PartitionRun(partition, (("watch", state, ""),), blocked)


def test_the_message_of_a_drifted_partition_names_its_columns_and_the_fact() -> None:
    line = process_headline("flights", [run("2013-12")], {"2013-12": DRIFT}, [fact("drift")])
    assert line == f"flights: 2013-12 processed, {DRIFT}, fact emitted."


def test_drift_without_a_fact_is_in_the_message_too() -> None:
    line = process_headline("flights", [run("2013-12")], {"2013-12": DRIFT}, [])
    assert line == f"flights: 2013-12 processed, {DRIFT}."


def test_the_message_of_several_partitions_names_the_first_that_drifted() -> None:
    runs = [run("2013-10", "fresh"), run("2013-11"), run("2013-12")]
    line = process_headline("flights", runs, {"2013-12": DRIFT}, [fact("drift"), fact("estimate", told="loss 0.6")])
    assert line == (
        f"flights: 2 partitions processed, 1 already fresh, drift in 1 partition, first 2013-12: {DRIFT}, "
        "estimated decay in 2013-12: loss 0.6, 2 facts emitted."
    )


def test_decay_and_drifted_outcomes_are_named() -> None:
    text = outcome_text({}, [fact("decay", told="skill 4.1%, expected 9.8%")], single=True)
    assert text == ", decay: skill 4.1%, expected 9.8%, fact emitted"
    told = "outcomes drifted, jensenshannon 0.210"
    assert outcome_text({}, [fact("drift", told=told, of="outcomes")], single=True) == f", {told}, fact emitted"


def test_a_run_without_findings_has_only_its_partitions_as_tags() -> None:
    assert run_tags([run("2013-11"), run("2013-12", "fresh")], {}, []) == ["2013-11"]


def test_each_outcome_is_a_tag() -> None:
    runs = [run("2013-11"), run("2013-12", "blocked", "distance is null")]
    assert run_tags(runs, {"2013-11": DRIFT}, [fact("estimate")]) == ["2013-11", "2013-12", "drift", "blocked", "decay"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.23333333333333334, "0.233"),
        ([True, True, False], "yes, yes, no"),
        ({"share": 1 / 3, "detected": True, "partition": "2013-06"}, "share 0.333, detected yes, partition 2013-06"),
        (123456, "123,456"),
        (98765.4321, "98,765"),
        (None, "-"),
        ([], "-"),
        ([[0, 0.5]], "0, 0.5"),
        ("2013-07-02T04:00:00+00:00", "2013-07-02 04:00 UTC"),
        (0, "0"),
    ],
)
def test_a_value_of_a_document_is_shown_as_people_read_it(value: object, text: str) -> None:
    assert value_text(value) == text


def test_a_number_agrees_with_its_noun() -> None:
    assert [counted(n, "partition") for n in (0, 1, 2, 1200)] == [
        "0 partitions", "1 partition", "2 partitions", "1,200 partitions",
    ]  # fmt: skip
