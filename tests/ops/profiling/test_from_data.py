"""`make model FROM=`: what is inferred from generated data with traps, and that the written model works on them."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from configs.errors import ConfigError
from configs.load import load_model
from configs.schema import ModelConfig
from configs.settings import ROOT
from ops.check import find_problems, read_deployments
from ops.new_model import model_from_data
from ops.profiling.plan import Options, Plan
from ops.profiling.values import UnusableData
from ops.workable import warnings
from tasks.resources import open_resources
from tests.unseen import CATEGORICAL, NOT_USED, NUMERIC, START, orders, write

KINDS = ("binary", "multiclass", "regression")


def made(root: Path, source: str, **given: Any) -> tuple[Plan, ModelConfig]:
    """Return the plan and the config of a model from data."""
    shutil.rmtree(root / "configs" / "unseen", ignore_errors=True)
    shutil.copy(ROOT / "prefect.yaml", root)
    plan, _ = model_from_data("unseen", Options(source, **given), root)
    return plan, load_model("unseen", root / "configs").config


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("kind", KINDS)
def test_roles_features_and_rules_are_inferred_and_work(root: Path, kind: str, suffix: str) -> None:
    plan, config = made(root, write(orders(kind), root / f"orders.{suffix}"))
    assert (config.key, config.time, config.target.column, config.target.kind) == (
        "order_id",
        "ordered_at",
        "target",
        kind,
    )
    assert (set(config.features.numeric), set(config.features.categorical)) == ({*NUMERIC}, {*CATEGORICAL})
    assert set(plan.features.excluded) == {*NOT_USED}
    assert config.source.file, "a flat file needs no SQL"
    assert sorted(config.target.classes) == (["high", "low", "middle"] if kind == "multiclass" else [])
    assert list(warnings(open_resources("unseen"))) == []
    assert (
        find_problems(["unseen"], [d for d in read_deployments(root / "prefect.yaml") if d["name"] == "unseen"]) == []
    )


@pytest.mark.parametrize(
    ("column", "reason"),
    {
        "customer_id": "different values, too many",
        "loaded_at": "a time",
        "line": "numbers the rows",
        "constant": "constant",
        "nothing": "no row has a value",
        "day": "a time",
        "copied": "has the outcome in it: alone it predicts target with ROC AUC",
        "settled": "has the outcome in it",
    }.items(),
)
def test_each_excluded_column_has_its_reason_in_the_file(root: Path, column: str, reason: str) -> None:
    plan, _ = made(root, write(orders("binary"), root / "orders.parquet"))
    assert reason in plan.features.excluded[column]
    assert f"# not used: {column}: " in (root / "configs" / "unseen" / "model.yaml").read_text()


def test_every_inferred_line_has_a_comment(root: Path) -> None:
    made(root, write(orders("binary"), root / "orders.parquet"))
    lines = (root / "configs" / "unseen" / "model.yaml").read_text().splitlines()
    sections = ("window:", "xgboost:", "estimator:", "trials:", "space:", "name:", "kind: {")
    values = [line for line in lines if line.startswith(" ") and not line.strip().startswith(("#", *sections))]
    assert [line for line in values if " # " not in line] == []


def test_the_same_data_give_the_same_files_in_any_order_of_rows(root: Path) -> None:
    frame = orders("binary")
    texts = []
    for part in (frame, frame, frame.sort_values("ordered_at"), frame.sample(frac=1, random_state=9)):
        made(root, write(part, root / "orders.parquet"))
        text = (root / "configs" / "unseen" / "model.yaml").read_text()
        texts.append([line for line in text.splitlines() if "has the outcome in it" not in line])
    assert texts[0] == texts[1] == texts[2] == texts[3]


@pytest.mark.parametrize(
    "form", ["%d/%m/%Y %H:%M", "%m/%d/%Y %I:%M %p", "%d.%m.%Y %H:%M:%S", "%Y/%m/%d %H:%M", "%d %b %Y %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y%m%d"]
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_times_as_text_are_read_in_their_format(root: Path, form: str, suffix: str) -> None:
    frame = orders("binary").drop(columns=["day", "loaded_at"])
    expected = pd.to_datetime(frame["ordered_at"].dt.strftime(form), format=form)
    plan, config = made(
        root, write(frame.assign(ordered_at=frame["ordered_at"].dt.strftime(form)), root / f"orders.{suffix}")
    )
    assert config.time == "ordered_at"
    assert plan.span.first.replace(tzinfo=None) == expected.min()
    assert plan.span.last.replace(tzinfo=None) == expected.max()


def test_times_in_several_formats_of_one_column_are_read(root: Path) -> None:
    frame = orders("binary").drop(columns=["day", "loaded_at"])
    at = frame["ordered_at"]
    mixed = at.dt.strftime("%Y-%m-%d %H:%M").where(frame.index % 3 > 0, at.dt.strftime("%d/%m/%Y %H:%M"))
    plan, config = made(root, write(frame.assign(ordered_at=mixed), root / "orders.parquet"))
    assert config.source.tables
    assert plan.span.first.replace(tzinfo=None) == at.min().floor("min")
    assert plan.columns["ordered_at"].nulls == 0


@pytest.mark.parametrize(("unit", "divisor"), [("seconds", 10**9), ("milliseconds", 10**6), ("microseconds", 10**3)])
def test_times_since_1970_are_read(root: Path, unit: str, divisor: int) -> None:
    frame = orders("binary").drop(columns=["day", "loaded_at"])
    numbers = frame["ordered_at"].astype("datetime64[ns]").astype("int64") // divisor
    plan, _ = made(root, write(frame.assign(ordered_at=numbers), root / "orders.parquet"))
    assert plan.span.first.replace(tzinfo=None) == frame["ordered_at"].min()


def test_a_zone_of_the_files_is_that_of_the_partitions(root: Path) -> None:
    frame = orders("binary")
    local = frame.assign(ordered_at=frame["ordered_at"].dt.tz_localize("UTC").dt.tz_convert("America/New_York"))
    _, config = made(root, write(local, root / "orders.parquet"))
    assert config.partition.timezone == "America/New_York"
    assert list(warnings(open_resources("unseen"))) == []


def test_numbers_with_other_text_are_numbers_and_codes_are_not(root: Path) -> None:
    frame = orders("binary")
    texts = frame["price"].round(3).astype(str).where(frame.index % 100 > 0, "n/a")
    codes = pd.Series(np.random.default_rng(0).integers(0, 30, len(frame))).map("{:05d}".format)
    _, config = made(root, write(frame.assign(price=texts, area=codes), root / "orders.parquet"))
    assert "price" in config.features.numeric
    assert "area" in config.features.categorical
    assert config.source.tables, "the text must be converted"


def test_a_key_with_duplicates_keeps_the_row_that_was_loaded_last(root: Path) -> None:
    frame = orders("binary")
    again = frame.head(50).assign(loaded_at=frame["loaded_at"].head(50) + pd.Timedelta(days=2), weight=99.0)
    plan, config = made(root, write(pd.concat([frame, again]), root / "orders.parquet"))
    assert config.key == "order_id"
    assert plan.key.duplicates == 50
    rows = all_rows(config, plan)
    assert rows["order_id"].is_unique
    assert len(rows) == rows_of(frame, plan)
    assert set(rows.loc[rows["weight"] == 99.0, "order_id"]) <= set(again["order_id"])
    assert (rows["weight"] == 99.0).sum() == rows_of(frame.head(50), plan)


def all_rows(config: ModelConfig, plan: Plan) -> pd.DataFrame:
    from tasks.source.rows import read_source

    res = open_resources("unseen")
    return pd.concat([read_source(res.model, res.ref(key)).to_pandas() for key in plan.periods.keys])


def rows_of(frame: pd.DataFrame, plan: Plan) -> int:
    """Rows of the complete partitions, by pandas' weeks."""
    weeks = frame["ordered_at"].dt.strftime("%G-W%V")
    return int(weeks.isin(plan.periods.keys).sum())


@pytest.mark.parametrize("repeated", [False, True])
def test_rows_without_a_key_get_one(root: Path, repeated: bool) -> None:
    frame = orders("binary").drop(columns=["order_id", "line", "customer_id", "loaded_at", "day"])
    frame["ordered_at"] = (
        frame["ordered_at"].dt.floor("D") if repeated else START + pd.to_timedelta(np.arange(len(frame)), unit="h")
    )
    plan, config = made(root, write(frame, root / "orders.parquet"))
    if repeated:
        assert config.key == "row_key"
        assert all_rows(config, plan)["row_key"].is_unique
    else:
        assert config.key == "time_as_text"


def test_a_time_of_the_label_gives_the_delay(root: Path) -> None:
    frame = orders("binary")
    frame["target_known_at"] = frame["ordered_at"] + pd.to_timedelta(np.linspace(1, 6, len(frame)), unit="D")
    plan, config = made(root, write(frame, root / "orders.parquet"))
    assert plan.label_time is not None
    assert plan.label_time.name == "target_known_at"
    assert config.target.delay == timedelta(days=6)
    assert "target_known_at" not in config.features.all


def test_outcomes_that_are_still_open_give_the_delay_and_hide_what_comes_with_them(root: Path) -> None:
    frame = orders("regression")
    still_open = frame["ordered_at"] > START + pd.Timedelta(days=110)
    frame["paid_days"] = np.random.default_rng(0).normal(size=len(frame))
    frame.loc[still_open, ["target", "copied", "settled", "paid_days"]] = np.nan
    plan, config = made(root, write(frame, root / "orders.parquet"))
    assert timedelta(days=10) <= config.target.delay <= timedelta(days=11), "rounded up to days"
    assert "known only with the outcome" in plan.features.excluded["paid_days"]


def test_a_given_delay_counts(root: Path) -> None:
    _, config = made(root, write(orders("binary"), root / "orders.parquet"), delay="3D")
    assert config.target.delay == timedelta(days=3)


@pytest.mark.parametrize(
    ("values", "positive"), [(("no", "yes"), "yes"), (("good", "bad"), "bad"), ((1, 2), "2"), ((-1, 1), "1")]
)
def test_a_binary_target_of_any_two_values(root: Path, values: tuple[Any, Any], positive: str) -> None:
    frame = orders("binary")
    plan, config = made(
        root, write(frame.assign(target=frame["target"].map(dict(enumerate(values)))), root / "orders.parquet")
    )
    assert (config.target.kind, plan.target.positive) == ("binary", positive)
    assert label_mean(plan) == pytest.approx(frame["target"].mean(), abs=0.05)


def label_mean(plan: Plan) -> float:
    from tasks.source.rows import read_labels

    res = open_resources("unseen")
    return float(
        pd.concat([read_labels(res.model, res.ref(key)).to_pandas() for key in plan.periods.keys])["target"].mean()
    )


def test_a_target_with_few_positives_has_a_longer_holdout(root: Path) -> None:
    frame = orders("binary", rows=8_000, days=365)
    frame["target"] = (frame["price"] > 2.0).astype(int)
    frame = frame.drop(columns=["copied", "settled"]).assign(
        price=frame["price"] + np.random.default_rng(1).normal(size=len(frame))
    )
    plan, config = made(root, write(frame, root / "orders.parquet"))
    share = frame["target"].mean()
    assert share < 0.03
    assert plan.periods.held * share >= 20
    assert config.training.window.holdout > timedelta(days=14)


def test_names_that_a_model_cannot_have_are_changed(root: Path) -> None:
    frame = orders("binary").rename(columns={"target": "Is Late?", "price": "prediction", "weight": "role"})
    _, config = made(root, write(frame, root / "orders.parquet"), target="Is Late?")
    assert config.target.column == "is_late"
    assert {"prediction_", "role_"} <= set(config.features.numeric)


def test_values_of_the_data_do_not_become_yaml(root: Path) -> None:
    odd = "a: b # c\n- d {x} 'q' \"r\""
    frame = orders("binary").rename(columns={"price": odd})
    frame["colour"] = frame["colour"].replace({"red": "no", "green": "#1", "blue": "x\ny: z"})
    _, config = made(root, write(frame, root / "orders.parquet"))
    assert odd in config.features.numeric
    sets = [e.kwargs["value_set"] for e in config.expectations if "value_set" in e.kwargs]
    assert sorted(sets[0]) == ["#1", "no", "x\ny: z"]


@pytest.mark.parametrize("name", ["orders-%Y-%m-%d.parquet", "year=%Y/month=%m/day=%d/part.csv"])
def test_dated_files_have_a_dated_path(root: Path, name: str) -> None:
    rows = orders("binary", days=40)
    for day, part in rows.groupby(rows["ordered_at"].dt.floor("D")):
        write(part, root / "in" / day.strftime(name))
    plan, config = made(root, str(root / "in"))
    assert config.source.file
    assert (config.source.file.every, config.source.file.path) == ("D", str(root / "in" / name))
    assert len(plan.data.files) == 40


def test_files_whose_rows_are_of_other_days_than_their_names_have_no_dates(root: Path) -> None:
    frame = orders("binary", days=40)
    for at in range(4):
        write(frame.iloc[at::4], root / "in" / f"export-2025-01-0{at + 1}.parquet")
    _, config = made(root, str(root / "in" / "*.parquet"))
    assert config.source.file
    assert (config.source.file.every, config.source.file.path) == (None, str(root / "in" / "*.parquet"))


Change = Callable[[pd.DataFrame], pd.DataFrame]
MISSING: dict[str, tuple[Change, dict[str, str], str]] = {
    "no time": (lambda f: f.drop(columns=["ordered_at", "loaded_at", "day"]), {}, "no column is a time"),
    "too short a time": (
        lambda f: f.assign(ordered_at=START + pd.to_timedelta(np.arange(len(f)), unit="s")), {}, "at least 12 hours are needed"
    ),
    "too few rows": (lambda f: f.head(150), {}, "give at least 480 rows"),
    "too few positives": (lambda f: f.assign(target=(np.arange(len(f)) < 15).astype(int)), {}, "15 rows of its less frequent value"),
    "constant target": (lambda f: f.assign(target=1), {"target": "target"}, "nothing to predict"),
    "too many classes": (lambda f: f.assign(target=f["order_id"]), {"target": "target"}, "more than 50 classes"),
    "rare class": (lambda f: f.assign(target=np.where(np.arange(len(f)) < 19, "x", f["colour"])), {}, "class 'x' has 19 rows"),
    "unknown column": (lambda f: f, {"target": "Target"}, "did you mean 'target'?"),
    "unknown period": (lambda f: f, {"by": "decade"}, "M, W, D or H"),
    "no duration": (lambda f: f, {"delay": "soon"}, "is not a duration"),
    "a key with nulls": (
        lambda f: f.assign(order_id=f["order_id"].where(f.index > 3)), {"key": "order_id"}, "4 of 3,000 rows have no value"
    ),
    "too few partitions": (lambda f: f[f["ordered_at"] < START + pd.Timedelta(days=80)], {"by": "M"}, "a first champion needs"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISSING)
def test_data_that_do_not_suffice_are_refused_with_what_is_missing(root: Path, case: str) -> None:
    change, given, message = MISSING[case]
    with pytest.raises(UnusableData) as refused:
        made(root, write(change(orders("binary")), root / "orders.parquet"), **given)
    assert message in str(refused.value)
    assert not (root / "configs" / "unseen").exists()
    assert "unseen" not in (root / "prefect.yaml").read_text()


@pytest.mark.parametrize("given", ["nowhere.parquet", "https://user:password@host/rows.parquet", "."])
def test_a_source_that_is_none_is_refused(root: Path, given: str) -> None:
    (root / "empty").mkdir()
    with pytest.raises(ConfigError, match="FROM="):
        made(root, str(root / "empty") if given == "." else given)
