"""Parameters of flows: ids are written in one way, and what cannot be stored is refused before a run begins."""

from typing import Any, get_type_hints

import pytest
from pydantic import TypeAdapter, ValidationError

from configs.choices import RESERVED_NAMES, AsOf, FactId, NonEmpty, PartitionKey, PersonName, VersionNumber
from tasks.contracts import AUTOMATION, SERVING

FACT = "1f0c2a9b-77de-5d0c-8b52-1d1c4f7e9f3e"


def parse(kind: Any, value: Any) -> Any:
    return TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize("value", ["2", "02", "0002", " 2", "2\n", 2])
def test_a_version_is_written_in_one_way(value):
    assert parse(VersionNumber, value) == "2"
    assert parse(VersionNumber | None, value) == "2"


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "0", "00", "-2", "+2", "2.0", 2.0, 2.5, "v2", "2 3", "0x2", "1e1", "\u0662", "\u00b2", "2\0", True, [2], "../2", "9" * 30,
    ],
)  # fmt: skip
def test_what_is_no_version_is_refused(value):
    with pytest.raises(ValidationError, match=r"is no version; write its number in MLflow, such as 3"):
        parse(VersionNumber, value)


def test_the_id_of_a_fact_is_written_in_one_way():
    for value in (FACT, f" {FACT}\n", FACT.upper(), FACT.replace("-", "")):
        assert parse(FactId, value) == FACT
    assert parse(FactId, "unknown") == "unknown", "the ledger names it in its error"


def test_the_name_of_a_partition_has_no_blanks_around_it():
    assert parse(PartitionKey, " 2013-05\n") == "2013-05"


@pytest.mark.parametrize("kind", [NonEmpty, PersonName, FactId])
@pytest.mark.parametrize("text", ["a\0b", "a\ud800", "\udfff"])
def test_a_text_that_the_ledger_cannot_store_is_refused(kind, text):
    with pytest.raises(
        ValidationError,
        match=r"the character U\+0000 at position 1 cannot be stored|as a unicode string|the character U\+D[8F]",
    ):
        parse(kind, text)


def test_a_name_is_at_most_as_long_as_its_column():
    assert parse(PersonName, "é" * 200) == "é" * 200
    with pytest.raises(ValidationError, match="at most 200 characters"):
        parse(PersonName, "é" * 201)


@pytest.mark.parametrize("name", ["evergreen", " Evergreen ", "EVERGREEN SERVING"])
def test_nobody_acts_in_the_name_of_the_automation(name):
    assert RESERVED_NAMES == (AUTOMATION, SERVING)
    with pytest.raises(ValidationError, match="is the name of what runs without a person"):
        parse(PersonName, name)


@pytest.mark.parametrize("moment", ["2024-03-01T00:00:00", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+14:00"])
def test_a_moment_has_a_zone_and_a_year_in_range(moment):
    assert parse(AsOf, "2024-03-01T00:00:00-04:00").isoformat() == "2024-03-01T00:00:00-04:00"
    with pytest.raises(ValidationError, match=r"has no time zone|is not within the years 1700 to 2250"):
        parse(AsOf, moment)


def test_every_flow_checks_its_ids():
    """A new flow with an unchecked parameter of these names fails here."""
    from flows import assess, audit, backfill, process, promote, replay, reproduce, retrain, rollback, train

    kinds = {"version": VersionNumber, "against": VersionNumber, "partition": PartitionKey, "start": PartitionKey, "end": PartitionKey,
             "fact": FactId, "by": PersonName, "reason": NonEmpty, "as_of": AsOf, "at": AsOf}  # fmt: skip
    for module in (assess, audit, backfill, process, promote, replay, reproduce, retrain, rollback, train):
        function = getattr(module, module.__name__.rpartition(".")[2]).fn
        for name, kind in get_type_hints(function, include_extras=True).items():
            if name in kinds:
                assert kind in (kinds[name], kinds[name] | None), f"{module.__name__}: {name}"
