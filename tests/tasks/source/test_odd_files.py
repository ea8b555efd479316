"""Every row of a source file is read with its own values, quarantined, or refused by an error that names the file and the column."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from configs.errors import ConfigError
from configs.load import load_model
from tasks.errors import EvergreenError, MissingSource
from tasks.source.extent import available_partitions, fingerprint
from tasks.source.rows import read_labels, read_source
from tasks.storage.partitions import partition
from tasks.validation.expectations import structural_expectations, validate_frame
from tests.odd_files import NO_NUMBER, Case, cases, expected_rows, refusal_reasons, write

THEMES: dict[str, dict[str, Any]] = {
    "numbers": {"vary": ("number",)},
    "keys and texts": {"vary": ("key", "text")},
    "times": {"vary": ("time",)},
    "outcomes": {"vary": ("outcome",)},
    "names": {"odd_names": True},
    "faults": {"faults": True},
    "everything": {"vary": ("key", "time", "number", "text", "outcome"), "odd_names": True, "faults": True},
}


def check(case: Case) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(case, folder)
        rows = expected_rows(case, folder)
        try:
            read, labels = read_all(folder, rows)
        except (EvergreenError, ConfigError) as error:
            reasons, message = refusal_reasons(case, rows), str(error)
            assert reasons, f"refused without a reason: {message}"
            places = [*(part.name for part in case.files), "part-*.", "rows-%Y-%m-%d.", "source.sql", "labels.sql"]
            assert any(place in message for place in places), message
            if reasons == {"a value that is no number"}:
                of_table = (
                    case.layout == "tables" and "is VARCHAR, but must be a number" in message
                )  # SQL may convert it
                assert NO_NUMBER in message or of_table, message
            columns = (*case.names.values(), *case.header.values())
            assert any(column.lower() in message.lower() for column in columns), message
            return
    assert_same(case, read, rows)
    known = {row["key"]: row["outcome"] for row in rows if row["outcome"] is not None}
    keys = Counter(row["key"] for row in rows)
    assert {k: v for k, v in labels if keys[k] == 1} == {k: v for k, v in known.items() if keys[k] == 1}


def read_all(folder: Path, rows: list[dict]) -> tuple[list[dict], list[tuple]]:
    """The rows and labels of all partitions, in which a partition without rows may have no file."""
    model = load_model("odd", folder / "configs")
    names, read, labels = model.config, [], []
    for key in available_partitions(model):
        ref = partition(model.config, key)
        try:
            assert fingerprint(model, ref)
            frame = read_source(model, ref).to_pandas()
            outcomes = read_labels(model, ref).to_pandas()
        except MissingSource:
            assert not any(ref.start <= min(row["time"]) < ref.end for row in rows if row["time"])
            continue
        assert ((frame[names.time] >= ref.start) & (frame[names.time] < ref.end)).all()
        number, text = names.features.numeric[0], names.features.categorical[0]
        columns = {"key": names.key, "time": names.time, "number": number, "text": text}
        read += [{role: none(row[column]) for role, column in columns.items()} for row in frame.to_dict("records")]
        labels += [
            (none(k), v)
            for k, v in outcomes[[names.key, names.target.column]].itertuples(index=False)
            if none(v) is not None
        ]
        require_quarantine(frame, model.config)
    return read, labels


def none(value):
    return None if value is None or value != value else value


def require_quarantine(frame, config) -> None:
    """Rows without a key, with a key that occurs twice, or with a number beyond float32 are quarantined, and no others."""
    counts = frame[config.key].value_counts()
    number = frame[config.features.numeric[0]]
    bad = frame[config.key].isna() | (frame[config.key].map(counts) > 1) | (number.abs() > 3.4028234663852886e38)
    if bad.any():  # Great Expectations takes most of the time of a test
        found = validate_frame(frame, structural_expectations(config), config.key).bad
        assert sorted(found) == [at for at, is_bad in enumerate(bad) if is_bad]


def assert_same(case: Case, read: list[dict], rows: list[dict]) -> None:
    left = list(rows)
    for row in read:
        matches = [other for other in left if is_same(row, other)]
        assert matches, f"{row} is in no file: {left}"
        left.remove(matches[0])
    assert not left, f"neither read nor refused: {left}"


def is_same(row: dict, other: dict) -> bool:
    moments = {moment.timestamp() for moment in other["time"]}
    numbers = row["number"], other["number"]
    return (
        numbers[0] == numbers[1]
        and row["time"].timestamp() in moments
        and (row["key"], row["text"]) == (other["key"], other["text"])
    )


@pytest.mark.long
@pytest.mark.parametrize("theme", THEMES)
def test_every_row_is_read_or_quarantined_or_refused(theme):
    run(theme, 10)


@pytest.mark.slow
@pytest.mark.parametrize("theme", THEMES)
def test_every_row_is_read_or_quarantined_or_refused_in_thousands_of_files(theme):
    run(theme, 300)


def run(theme: str, examples: int) -> None:
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    options = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        suppress_health_check=slow,
    )
    options(given(cases(**THEMES[theme]))(check))()
