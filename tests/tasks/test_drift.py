"""Evidently through our eyes: the scores are its own, nothing drops out unsaid, page and verdict agree."""

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from configs.schema import ModelConfig
from tasks.contracts import ColumnDrift, Drift
from tasks.drift.reference import learned_sample
from tasks.drift.report import compare, rows, sample, tidy
from tasks.errors import NotEnoughData

NUMBERS, WORDS = ("wind_speed", "distance", "load"), ("carrier", "origin")


def config(**monitoring: object) -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "name": "flights",
            "description": "late arrivals",
            "partition": {"every": "M"},
            "source": {"tables": {"flights": {"path": "flights.parquet"}}},
            "key": "id",
            "time": "at",
            "target": {"column": "late", "delay": "1D"},
            "features": {"numeric": NUMBERS, "categorical": WORDS},
            "training": {"window": {"holdout": "14D"}, "candidates": {"one": {"estimator": "logistic_regression"}}},
            "gate": {"floor": {"log_loss": 0.6}},
            "monitoring": monitoring,
        }
    )


def month(seed: int = 0, count: int = 1500) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({c: rng.normal(10, 3, count) for c in NUMBERS})
    frame["carrier"] = pd.Series(rng.choice(["UA", "AA", "B6"], count), dtype="str")
    frame["origin"] = pd.Series(rng.choice(["JFK", "EWR"], count), dtype="str")
    return frame.assign(prediction=rng.beta(2, 5, count))


def drift(current: pd.DataFrame, reference: pd.DataFrame | None = None, **given: object) -> Drift:
    settings = {k: given.pop(k) for k in ("html", "workspace", "at") if k in given}
    metadata = {"partition": str(given.pop("partition", "2013-05")), "version": "3"}
    held = month() if reference is None else reference
    places: dict = {"html": None, "workspace": None} | settings
    return compare(
        current, held, config(**given), title="flights 2013-05 against version 3", metadata=metadata, **places
    )


def of(found: Drift, column: str) -> dict[str, ColumnDrift]:
    return {c.method: c for c in found.columns if c.column == column}


def test_a_frame_does_not_drift_from_itself() -> None:
    found = drift(month())
    assert not found.detected
    assert found.share == 0
    assert {c.column for c in found.columns} == {*NUMBERS, *WORDS, "prediction"}
    assert all(c.score == pytest.approx(0) for c in found.columns)


def test_a_shifted_column_drifts_and_the_share_counts_columns() -> None:
    found = drift(month(1).assign(load=month().load + 2), share=0.1)
    assert [c.column for c in found.columns if c.drifted] == ["load"]
    assert found.share == pytest.approx(1 / 6)
    assert found.detected
    assert not drift(month(1).assign(load=month().load + 2), share=0.2).detected
    assert drift(month(1).assign(load=month().load + 2), share=1 / 6).detected


def test_scores_are_those_of_scipy_and_the_reference_norms_them() -> None:
    current, reference = month(1).assign(load=lambda f: f.load * 2 + 1), month(2)
    current.loc[::7, "load"] = math.nan
    current["carrier"] = ["UA", "XX"] * 750
    found = drift(current, reference, numeric={"method": "wasserstein", "threshold": 0.1})
    for column in (*NUMBERS, "prediction"):
        expected = wasserstein_distance(reference[column], current[column].dropna()) / np.std(reference[column])
        assert of(found, column)["wasserstein"].score == pytest.approx(expected)
    for column in WORDS:
        share = pd.concat([side[column].value_counts(normalize=True) for side in (reference, current)], axis=1).fillna(
            0
        )
        assert of(found, column)["jensenshannon"].score == pytest.approx(jensenshannon(*share.to_numpy().T))
    scores = [c for c in found.columns if c.method != "missing"]
    assert all(c.drifted == (c.score >= c.threshold) for c in scores)


def test_other_statistics_of_evidently_keep_their_own_sense_of_drift() -> None:
    """A p-value drifts when it is small."""
    found = drift(month().assign(load=month().load + 2), numeric={"method": "ks", "threshold": 0.01})
    assert of(found, "load")["ks"].drifted
    assert of(found, "load")["ks"].score < 0.01
    assert not of(found, "distance")["ks"].drifted


def test_new_nulls_are_drift_though_the_statistic_does_not_see_them() -> None:
    current = month(1)
    current.loc[:599, ["wind_speed", "carrier"]] = None
    found = drift(current)
    for column in ("wind_speed", "carrier"):
        assert of(found, column)["missing"].score == pytest.approx(0.4)
        assert of(found, column)["missing"].drifted
    assert not of(found, "wind_speed")["wasserstein"].drifted
    assert found.share == pytest.approx(2 / 6)
    assert "missing" not in of(found, "load")


def test_nulls_that_were_always_there_are_no_drift() -> None:
    current, reference = month(1), month(2)
    for frame in (current, reference):
        frame.loc[:599, "wind_speed"] = math.nan
    assert set(of(drift(current, reference), "wind_speed")) == {"wasserstein"}
    reference["wind_speed"] = math.nan
    assert of(drift(current.assign(wind_speed=math.nan), reference), "wind_speed")["missing"].drifted is False


BROKEN: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "null throughout": lambda f: f.assign(load=math.nan),
    "not there": lambda f: f.drop(columns="load"),
    "infinite throughout": lambda f: f.assign(load=math.inf),
    "text in a number": lambda f: f.assign(load="many"),
    "half infinite": lambda f: f.assign(load=f.load.where(f.index % 2 == 0, -math.inf)),
    "mixed types": lambda f: f.assign(load=[1.0, "x"] * (len(f) // 2)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_column_that_cannot_be_scored_is_drift_on_either_side(name: str, tmp_path: Path) -> None:
    broken = BROKEN[name](month(1))
    for found in (drift(broken, html=tmp_path / "page.html"), drift(month(1), broken)):
        assert of(found, "load")["missing"].drifted
        assert found.share >= 1 / 6
        assert {c.column for c in found.columns} == {*NUMBERS, *WORDS, "prediction"}


@pytest.mark.parametrize(
    "change", [lambda f: f.assign(load=5.0), lambda f: f.assign(carrier="UA", load=5.0, prediction=0.5)]
)
def test_constant_columns_are_scored(change: Callable[[pd.DataFrame], pd.DataFrame], tmp_path: Path) -> None:
    constant = change(month())
    assert not drift(constant, constant, html=tmp_path / "page.html").detected
    assert of(drift(constant, month()), "load")["wasserstein"].drifted
    assert of(drift(month(), constant), "load")["wasserstein"].drifted


def test_types_that_evidently_would_leave_out_are_compared() -> None:
    """Nullable integers, booleans, categoricals and integers: it drops some and says nothing."""
    reference = month().assign(
        load=pd.array([1, 2, None] * 500, dtype="Int64"),
        distance=[True, False] * 750,
        origin=pd.Categorical(["a", "b"] * 750),
    )
    current = reference.assign(
        load=pd.array([8, 9, None] * 500, dtype="Int64"), distance=True, origin=pd.Categorical(["a"] * 1500)
    )
    assert {c.column for c in drift(current, reference).columns if c.drifted} == {"load", "distance", "origin"}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_tiny_partitions_do_not_crash(count: int, tmp_path: Path) -> None:
    found = drift(month(1, count), html=tmp_path / "page.html", workspace=tmp_path / "workspace")
    assert found.sampled_rows == count
    assert len({c.column for c in found.columns}) == 6
    assert found.detected or count


def test_a_reference_without_rows_is_an_error() -> None:
    with pytest.raises(NotEnoughData, match="reference"):
        drift(month(), month(0, 0))


def test_the_sample_is_fixed_and_does_not_depend_on_the_order_of_keyed_rows() -> None:
    frame = month(0, 5000).set_index(pd.Index([f"UA{i}" for i in range(5000)], dtype="object"))
    taken = sample(frame, 500)
    assert len(taken) == 500
    assert taken.index.is_monotonic_increasing == frame.loc[taken.index].index.is_monotonic_increasing
    shuffled = sample(frame.sample(frac=1, random_state=1), 500)
    assert set(shuffled.index) == set(taken.index)
    assert set(sample(frame, 100).index) < set(taken.index)
    pd.testing.assert_frame_equal(sample(frame, 5000), frame)
    positions = sample(frame.reset_index(drop=True), 500).index
    assert abs(positions.to_numpy().mean() / 2500 - 1) < 0.1


def test_the_same_data_gives_the_same_verdict_and_the_rows_are_said_on_the_page(tmp_path: Path) -> None:
    current = month(1, 4000)
    first, second = drift(current, sample_rows=1000), drift(current, sample_rows=1000)
    assert first == second
    assert first.sampled_rows == 1000
    found = drift(current, sample_rows=1000, html=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "a fixed sample of 1,000 of the 4,000 rows of the partition" in page
    assert "a fixed sample of 1,000 of the 1,500 rows of the reference" in page
    assert found.report == str(tmp_path / "page.html")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_page_run_and_verdict_say_the_same(tmp_path: Path) -> None:
    current = month(1).assign(load=lambda f: f.load + 2, distance=math.nan)
    found = drift(current, share=0.3, html=tmp_path / "page.html", workspace=tmp_path / "workspace")
    assert found.detected
    page = (tmp_path / "page.html").read_text()
    assert "Drift: 33.3% of columns (limit 30.0%)" in page
    run = json.loads((tmp_path / "workspace" / found.project / "snapshots" / f"{found.snapshot}.json").read_text())
    shown = {}
    for result in run["metric_results"].values():
        params = result["metric_value_location"]["metric"]["params"]
        if params["type"].endswith("ValueDrift"):
            shown[params["column"]] = (result["value"], params["threshold"], result["tests"][0]["status"] == "FAIL")
        else:
            assert result["share"]["value"] == pytest.approx(found.share)
            assert result["count"]["value"] == 2
    assert shown == {c.column: (c.score, c.threshold, c.drifted) for c in found.columns if c.method != "missing"}
    for column, (_, _, drifted) in shown.items():
        assert f"Drift in column '{column}'" in page.replace("\\u0027", "'")
        assert drifted == (column == "load")


def test_a_partition_again_replaces_its_run_and_people_may_change_the_dashboard(tmp_path: Path) -> None:
    from evidently.ui.workspace import Workspace

    first = drift(month(1), workspace=tmp_path / "w")
    dashboard = tmp_path / "w" / first.project / "dashboard.json"
    dashboard.write_text('{"tabs": [], "panels": []}')
    again = drift(month(2), workspace=tmp_path / "w", at=datetime(2013, 5, 1, tzinfo=UTC))
    other = drift(month(3), workspace=tmp_path / "w", partition="2013-06")
    assert (again.project, again.snapshot) == (first.project, first.snapshot)
    assert other.snapshot != first.snapshot
    workspace = Workspace(str(tmp_path / "w"))
    projects = workspace.list_projects()
    assert [(str(p.id), p.name) for p in projects] == [(first.project, "flights")]
    assert {str(r) for r in workspace.list_runs(first.project)} == {first.snapshot, other.snapshot}
    run = workspace.get_run(first.project, first.snapshot)
    assert run.metadata == {"partition": "2013-05", "version": "3"}
    assert run.timestamp == datetime(2013, 5, 1)  # noqa: DTZ001 - Evidently's times are naive
    assert dashboard.read_text() == '{"tabs": [], "panels": []}'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w"]


def test_writers_at_once_share_one_project(tmp_path: Path) -> None:
    from evidently.ui.workspace import Workspace

    from tasks.drift.report import _methods, _page, _run
    from tasks.drift.workspace import publish

    frame, model = tidy(month(), config()), config()
    snapshot = _run(frame, frame, _methods(model), model, "t", {}, None)
    page = _page(snapshot, Drift((), 0.0, 0.3, detected=False, sampled_rows=1), ["t", "n"])

    def put(number: int) -> tuple[str, str]:
        return publish(page, tmp_path / "w", "flights", f"2013-{number % 3}", ["load"])

    with ThreadPoolExecutor(4) as pool:
        ids = set(pool.map(put, range(12)))
    assert len(ids) == 3
    workspace = Workspace(str(tmp_path / "w"))
    assert len(workspace.list_projects()) == 1
    assert len(workspace.list_runs(next(iter(ids))[0])) == 3


def test_the_table_shows_what_drifted_first() -> None:
    table = rows(drift(month(1).assign(load=month().load + 2, origin=None)))
    assert [(r["column"], r["drifted"]) for r in table[:2]] == [("origin", "drifted"), ("load", "drifted")]
    assert all(r["drifted"] == "" for r in table[2:])


# What the code above relies on. When one of these fails, Evidently has changed its mind.


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_evidently_drops_nulls_and_infinities_before_scoring() -> None:
    """Why missingness is a signal of its own."""
    from evidently import Report
    from evidently.metrics import ValueDrift

    reference = pd.DataFrame({"x": np.arange(1000.0)})
    current = pd.DataFrame({"x": [*np.arange(1000.0), *[math.nan] * 4000, math.inf]})
    run = Report([ValueDrift(column="x", method="wasserstein", threshold=0.1)], include_tests=True).run(
        current, reference
    )
    assert run.dict()["metrics"][0]["value"] == 0
    assert "SUCCESS" in str(run.dict()["tests"][0]["status"])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_evidently_raises_on_a_column_without_values() -> None:
    """Why such a column is never given to it."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    definition = DataDefinition(numerical_columns=["x"])
    sides = [
        Dataset.from_pandas(pd.DataFrame({"x": v}), data_definition=definition)
        for v in ([math.nan] * 3, [1.0, 2.0, 3.0])
    ]
    with pytest.raises(ValueError, match="empty column"):
        Report([ValueDrift(column="x", method="wasserstein", threshold=0.1)]).run(*sides)


def test_a_reference_has_every_days_share_and_nothing_from_after_the_training() -> None:
    times = pd.date_range("2013-01-01", "2013-03-01", freq="h", tz="UTC", inclusive="left")
    frames = [pd.DataFrame({"t": times[:744]}), pd.DataFrame({"t": times[744:]})]
    end = datetime(2013, 2, 15, tzinfo=UTC)
    found = learned_sample(frames, "t", end, 45 * 4)["t"]
    assert found.max() < end
    assert set(found.dt.date.value_counts()) == {4}
    assert found.dt.date.nunique() == 45
