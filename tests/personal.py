"""The tiny model with markers in personal columns: as key, category, group and number."""

from pathlib import Path

import pandas as pd

from tests.conftest import day_file, parcels

TEXT, NUMBER = 'O\'Zyxmarker "x" \\', 7073182.0731
"""The text has an apostrophe, quotes and a backslash, as names may. The number has more digits than the microseconds of a time."""
MARKERS = ("Zyxmarker", "7073182", "7.07318e")
ROWS = ("raw", "valid", "quarantine", "predictions", "labels", "shadow", "former", "served", "reference")
"""Folders of the lake whose Parquet files have rows of the data."""


def marked(day: int) -> pd.DataFrame:
    """A day with markers: valid rows with the marked category, group and number, and rows that fail an expectation for each of them."""
    rows = parcels(day).assign(owner="somebody")
    rows.loc[:39, "parcel"] = [f"{TEXT} key {i} of {day}" for i in range(40)]
    rows.loc[:39, "city"] = f"{TEXT} town"
    rows.loc[:39, "owner"] = f"{TEXT} owner"
    rows.loc[5:30, "distance"] = NUMBER + rows.index[5:31]
    rows.loc[:1, "weight"] = 999.5
    rows.loc[2, "city"] = f"{TEXT} forbidden"
    rows.loc[3, "distance"] = NUMBER * 100
    rows.loc[4, "owner"] = f"{TEXT} forbidden"
    return rows


EXPECTATIONS = """expectations:
  - {type: expect_column_values_to_not_match_regex, kwargs: {column: city, regex: forbidden, mostly: 0.5}}
  - {type: expect_column_values_to_not_match_regex, kwargs: {column: owner, regex: forbidden, mostly: 0.5}}
  - {type: expect_column_values_to_be_between, kwargs: {column: distance, max_value: 10000000, mostly: 0.5}}
  - {type: expect_column_max_to_be_between, kwargs: {column: distance, max_value: 10}, severity: info}
  - {type: expect_column_distinct_values_to_be_in_set, kwargs: {column: city, value_set: [Bonn]}, severity: info}
"""
GATE = """  segments: {columns: [city, owner], min_rows: 10, max_loss: 1}
  fairness: [{column: owner, metric: accuracy_difference, at_most: 1, min_rows: 1}]
"""


def set_up_personal(folder: Path, days: int) -> None:
    """Make the tiny model in a folder one with personal columns, and mark some of its days."""
    path = folder / "configs" / "tiny"
    text = (path / "model.yaml").read_text().replace("expectations:\n", EXPECTATIONS)
    text = text.replace("  gain:", f"{GATE}  gain:")
    (path / "model.yaml").write_text(text + "groups: [owner]\npersonal: [parcel, city, owner, distance]\n")
    (path / "source.sql").write_text((path / "source.sql").read_text().replace("city", "city, owner"))
    for day in range(days):
        marked(day).to_parquet(day_file(folder, day), index=False)
