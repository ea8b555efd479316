"""The profile page of `make model FROM=`: every column with role and reason, charts, no personal values, and text that is escaped."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from configs.settings import load_settings
from ops.profiling.distributions import is_personal
from ops.profiling.page import render_page, write_page
from ops.profiling.plan import Options, Plan, make_plan
from tests.unseen import NOT_USED, orders, write


def plan_of(folder: Path, kind: str = "binary", **columns: object) -> Plan:
    return make_plan(Options(write(orders(kind).assign(**columns), folder / "orders.parquet")))


def rows_of(html: str) -> dict[str, str]:
    """Return the text of each row of the table of columns, by the column's name as it is escaped."""
    table = html.partition('aria-label="columns"')[2]
    parts = table.split('<th scope="row">')[1:]
    return {part.partition("</th>")[0]: re.sub(r"<title>.*?</title>|<[^>]+>", " ", part) for part in parts}


def test_every_column_has_its_role_type_and_reason(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    rows = rows_of(render_page("unseen", plan, ["gate.min_rows: 100: a warning of lint"]))
    assert set(rows) == set(orders("binary").columns)
    assert "key" in rows["order_id"]
    assert "time" in rows["ordered_at"]
    assert "feature (number)" in rows["price"]
    assert "feature (category)" in rows["colour"]
    for name in NOT_USED:
        assert "not used" in rows[name]
        assert plan.features.excluded[name].replace("'", "&#39;") in rows[name]
    missing = orders("binary")["sometimes"].isna().mean()
    assert f"{100 * missing:.0f} %" in rows["sometimes"]
    assert "100 %" in rows["nothing"]


def test_the_values_of_a_category_have_their_numbers_of_rows(tmp_path: Path) -> None:
    html = render_page("unseen", plan_of(tmp_path))
    for value, count in orders("binary")["colour"].value_counts().items():
        assert re.search(rf"<span>{value}</span>.*?<span>{count:,}</span>", html)


def test_a_histogram_counts_all_rows_within_its_range(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    bars, price = plan.distributions.values["price"], orders("binary")["price"]
    low, high = plan.columns["price"].numbers[1], plan.columns["price"].numbers[5]
    expected, _ = np.histogram(price[(price >= low) & (price <= high)], bins=20, range=(low, high))
    assert [count for _, count in bars] == expected.tolist()


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_rows_and_outcomes_by_partition_are_those_of_pandas(tmp_path: Path, kind: str) -> None:
    frame = orders(kind)
    frame.loc[frame["ordered_at"] > "2024-04-20", "target"] = None
    plan = make_plan(Options(write(frame, tmp_path / "orders.parquet")))
    weeks = frame.groupby(frame["ordered_at"].dt.strftime("%G-W%V"))
    assert {p.key: (p.rows, p.known) for p in plan.distributions.partitions} == {
        key: (len(part), int(part["target"].notna().sum())) for key, part in weeks
    }
    for p in plan.distributions.partitions:
        own = weeks.get_group(p.key)["target"].dropna()
        if kind == "multiclass":
            assert p.outcomes == pytest.approx({n: (own == n).mean() for n in plan.target.classes} if len(own) else {})
        elif len(own):
            assert list(p.outcomes.values()) == pytest.approx([own.astype(float).mean()])
    html = render_page("unseen", plan)
    week, part = list(weeks)[5]
    assert f"<title>{week}: {len(part):,} rows, {part['target'].notna().sum():,} with an outcome</title>" in html


def test_columns_that_may_be_personal_have_no_values_on_the_page(tmp_path: Path) -> None:
    rows = len(orders("binary"))
    mails = [f"person{n % 40}@example.org" for n in range(rows)]
    born = 1900 + np.arange(rows) % 77 + 0.25
    plan = plan_of(tmp_path, email=mails, birth_year=born, customer_name=["Ann Example", "Bob Example"] * (rows // 2))
    html = render_page("unseen", plan)
    assert not re.search(r"example\.org|Example|19\d\d\.25", html)
    for name in ("email", "birth_year", "customer_name"):
        assert "not shown: its name suggests personal data" in rows_of(html)[name]
    assert "Do values of birth_year, email, customer_name belong to people? Then list them in `personal`" in html


@pytest.mark.parametrize(
    ("name", "personal"),
    [("email", True), ("userEmail", True), ("customer_id", True), ("Last Name", True), ("date_of_birth", True), ("client-ip", True),
     ("price", False), ("shipment", False), ("origin", False), ("description", False), ("namespace", False), ("latency", False)],
)  # fmt: skip
def test_a_personal_column_is_recognised_by_its_name(name: str, personal: bool) -> None:
    assert is_personal(name) == personal


def test_text_of_the_data_is_escaped_and_the_page_loads_nothing(tmp_path: Path) -> None:
    odd = np.where(np.arange(3_000) % 2, "<script>alert(1)</script>", "a & b")
    frame = orders("binary").assign(**{"<b>odd</b>": odd})
    html = render_page("unseen", make_plan(Options(write(frame, tmp_path / "orders.parquet"))))
    assert "<script>" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in html
    assert not re.search(r'(src|href)="https?:', html)


def test_the_page_is_written_beside_the_other_pages(tiny: Path) -> None:
    settings = load_settings()
    path = write_page("unseen", plan_of(tiny), [], settings)
    assert path == settings.pages / "unseen-profile.html"
    assert path.read_text().startswith("<!doctype html>")


def test_a_long_history_shows_its_newest_partitions(tmp_path: Path) -> None:
    frame = orders("binary", rows=20_000, days=200)
    plan = make_plan(Options(write(frame, tmp_path / "orders.parquet"), by="D"))
    keys = [p.key for p in plan.distributions.partitions]
    assert len(keys) == 120
    assert keys[-1] == pd.Timestamp(frame["ordered_at"].max()).strftime("%Y-%m-%d")
