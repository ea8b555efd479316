"""Evidently through our eyes: its page and run show our verdict with the same statistic and threshold, or say where they differ."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from configs.load import parse_config
from configs.schema import ModelConfig
from tasks.contracts import ColumnDrift, Drift, PartitionRef
from tasks.drift.report import (
    add_figures,
    add_scores,
    as_html,
    build,
    evidently_threshold,
    rows,
    run,
    sample,
    statuses,
    verdict,
)
from tasks.drift.scores import ks_p_value
from tasks.drift.workspace import REALISED, publish, task_label
from tests.conftest import MODEL_YAML

START = datetime(2024, 3, 5, tzinfo=UTC)
REF = PartitionRef("tiny", "2024-03-05", START, START.replace(day=6), START.replace(day=7))
ABOUT = {"model": "tiny", "partition": "2024-03-05", "version": "3", "as_of": "2024-03-07"}


@pytest.fixture
def config(tmp_path: Path) -> ModelConfig:
    path = tmp_path / "model.yaml"
    path.write_text(MODEL_YAML)
    return parse_config(path)


def side(seed: int, shift: float = 0.0, count: int = 1500) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "weight": rng.normal(shift, 1, count),
            "distance": rng.exponential(10, count),
            "city": rng.choice(["Bonn", "Kiel"], count).astype(object),
        }
    )


def column(name: str, score: float | None, threshold: float | None, **more) -> ColumnDrift:
    method = more.pop("method", "jensenshannon" if name == "city" else "wasserstein")
    drifted = score is not None and threshold is not None and score >= threshold
    return ColumnDrift(name, method, score, threshold, drifted, 0.1, **more)


def found(*columns: ColumnDrift, **more) -> Drift:
    share = sum(c.drifted for c in columns) / 4
    return Drift(columns, share, 0.0, share > 0, rows=1500, alpha=0.05, **more)


def snapshot(shown: dict[str, ColumnDrift], now: pd.DataFrame, then: pd.DataFrame):
    return run(now, then, shown, ["city"], "tiny 2024-03-05", ABOUT, REF)


def test_evidently_says_drift_where_and_only_where_the_verdict_does():
    shown = {
        c.column: c for c in (column("weight", 0.7, 0.3), column("distance", 0.02, 0.3), column("city", 0.01, 0.2))
    }
    said = statuses(snapshot(shown, side(1, 0.7), side(2)))
    assert said == {"weight": True, "distance": False, "city": False}


def test_a_threshold_above_the_score_is_what_evidently_holds_its_own_score_against():
    shown = {"weight": column("weight", 0.7, 0.9)}
    result = snapshot(shown, side(1, 0.7), side(2)).dict()["metrics"][0]
    assert result["config"]["threshold"] == 0.9
    assert result["config"]["method"] == "wasserstein"
    assert result["value"] == pytest.approx(0.7, abs=0.1)
    assert statuses(snapshot(shown, side(1, 0.7), side(2))) == {"weight": False}


def test_a_column_that_does_not_count_never_drifts_on_the_page():
    for method in ("wasserstein", "ks", "psi"):
        shown = {
            "weight": column("weight", 5.0, None, method=method, note="no partition of a year earlier to compare with")
        }
        assert statuses(snapshot(shown, side(1, 5), side(2))) == {"weight": False}


@pytest.mark.parametrize(("shift", "drifts"), [(0.0, False), (0.3, True)])
def test_a_distance_of_ks_is_given_to_evidently_as_the_p_value_that_it_has(shift, drifts):
    """Evidently tells KS by its p-value, and drift is where that is small."""
    shown = {"weight": column("weight", 0.12 if drifts else 0.02, 0.08, method="ks")}
    assert evidently_threshold(shown["weight"], 1500, 1500) == ks_p_value(0.08, 1500, 1500)
    assert statuses(snapshot(shown, side(1, shift), side(2))) == {"weight": drifts}


def test_the_page_has_the_verdict_first_then_where_the_sample_differs_then_every_column(tmp_path):
    columns = (column("weight", 0.7, 0.3, importance=0.8, p_value=0.0005), column("city", 0.01, 0.2))
    drift = found(
        *columns, differs=("city",), note="distance: not calibrated", references={"weight, city": "3 partitions"}
    )
    page = build(
        snapshot({c.column: c for c in columns}, side(1, 0.7), side(2)), drift, "tiny 2024-03-05", ["of a sample"]
    )
    html = as_html(page)
    order = [
        "Drift: 25% of columns (weight)",
        "Differs from the verdict, because it is of a sample: city",
        "distance: not calibrated",
    ]
    places = [html.index(text) for text in order]
    assert places == sorted(places)
    assert "80%" in html
    share = next(m for m in page.metric_results.values() if type(m).__name__ == "CountValue")
    assert (share.count.value, share.share.value) == (1, 0.25)


def test_a_verdict_in_words():
    drifted, calm = column("weight", 0.7, 0.3), column("city", 0.01, 0.2)
    assert verdict(found(drifted, calm)) == "Drift: 25% of columns (weight)"
    assert verdict(found(calm)) == "No drift"
    few = replace(found(drifted, calm), threshold=0.5, detected=False)
    assert verdict(few) == "No drift: 25% of columns, 50% needed (weight)"


def test_the_table_says_what_was_compared_with_what_and_what_does_not_count():
    table = rows(
        found(
            column("weight", 0.7, 0.3, p_value=0.001, importance=0.25, reference="v2"),
            column("city", 0.5, None, note="why"),
        )
    )
    assert [(r["column"], r["verdict"], r["threshold"]) for r in table] == [
        ("weight", "drifted", "0.3000"),
        ("city", "does not count", ""),
    ]
    assert (table[0]["p-value"], table[0]["importance"], table[0]["against"]) == ("0.0010", "25%", "v2")


def test_the_sample_is_fixed_and_does_not_depend_on_the_order_of_keyed_rows():
    frame = side(0, count=5000).set_index(pd.Index([f"UA{i}" for i in range(5000)], dtype="object"))
    taken = sample(frame, 500)
    assert len(taken) == 500
    assert set(sample(frame.sample(frac=1, random_state=1), 500).index) == set(taken.index)
    assert set(sample(frame, 100).index) < set(taken.index)
    pd.testing.assert_frame_equal(sample(frame, 5000), frame)


def page_of(config: ModelConfig, value: float = 0.5, threshold: float = 0.3):
    shown = {"weight": column("weight", 0.7, threshold)}
    page = build(snapshot(shown, side(1, 0.7, 200), side(2, 0, 200)), found(*shown.values()), "t", ["n"])
    add_figures(page, {"log_loss": value, "roc_auc": None, "brier": 0.2}, task_label(config, REALISED))
    add_scores(page, shown)
    return page


def test_a_partition_again_replaces_its_run_and_people_may_change_the_dashboard(tmp_path, config):
    from evidently.ui.workspace import Workspace

    place = tmp_path / "w"
    first = publish(page_of(config), place, config, "tiny", "2024-03-05")
    dashboard = place / first[0] / "dashboard.json"
    titles = [panel["title"] for panel in json.loads(dashboard.read_text())["panels"]]
    assert titles[:3] == ["Share of drifted columns", "Score of the predictions", "Performance, realised and estimated"]
    dashboard.write_text('{"tabs": [], "panels": []}')
    again, other = (
        publish(page_of(config), place, config, "tiny", "2024-03-05"),
        publish(page_of(config), place, config, "tiny", "2024-03-06"),
    )
    assert again == first
    assert other[1] != first[1]
    workspace = Workspace(str(place))
    assert [(str(p.id), p.name) for p in workspace.list_projects()] == [(first[0], "tiny")]
    assert {str(r) for r in workspace.list_runs(first[0])} == {first[1], other[1]}
    found_run = workspace.get_run(first[0], first[1])
    assert found_run.metadata == ABOUT
    assert found_run.timestamp == datetime(2024, 3, 5)  # noqa: DTZ001 - Evidently's times are naive
    assert dashboard.read_text() == '{"tabs": [], "panels": []}'


def test_the_dashboards_lines_have_our_figures_by_partition_whatever_the_threshold(tmp_path, config):
    """Asked as Evidently's own server asks, with the filters that the dashboard's panels carry."""
    from evidently.ui.service.base import SeriesFilter
    from evidently.ui.service.storage.local.base import InMemoryDataStorage

    place = tmp_path / "w"
    for day, value, threshold in ((5, 0.5, 0.3), (6, 0.25, 0.4)):
        page = page_of(config, value, threshold)
        page.timestamp = datetime(2024, 3, day)  # noqa: DTZ001
        project, _ = publish(page, place, config, "tiny", f"2024-03-0{day}")
    panels = json.loads((place / project / "dashboard.json").read_text())["panels"]
    lines = [v for panel in panels for v in panel["values"]]
    filters = [SeriesFilter(**{k: v[k] for k in ("tags", "metadata", "metric", "metric_labels")}) for v in lines]
    answer = asyncio.run(InMemoryDataStorage(str(place)).get_data_series(UUID(project), filters, None, None))
    drawn = {lines[s.filter_index]["legend"]: s.values for s in answer.series}
    assert drawn["log_loss, realised"] == [0.5, 0.25]
    assert drawn["weight"] == [0.7, 0.7]
    assert drawn["share"] == [0.25, 0.25]
    assert "log_loss, estimated" not in drawn


def test_writers_at_once_share_one_project(tmp_path, config):
    from evidently.ui.workspace import Workspace

    page = page_of(config)
    with ThreadPoolExecutor(4) as pool:
        ids = set(pool.map(lambda n: publish(page, tmp_path / "w", config, "tiny", f"2013-{n % 3}"), range(12)))
    assert len(ids) == 3
    workspace = Workspace(str(tmp_path / "w"))
    assert len(workspace.list_projects()) == 1
    assert len(workspace.list_runs(next(iter(ids))[0])) == 3


# What the code above relies on. When one of these fails, Evidently has changed its mind.


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_evidently_drops_nulls_and_infinities_before_scoring() -> None:
    """Why missingness is a signal of its own, and why a shorter reference may end in nulls."""
    from evidently import Report
    from evidently.metrics import ValueDrift

    reference = pd.DataFrame({"x": np.arange(1000.0)})
    current = pd.DataFrame({"x": [*np.arange(1000.0), *[np.nan] * 4000, np.inf]})
    report = Report([ValueDrift(column="x", method="wasserstein", threshold=0.1)], include_tests=True)
    result = report.run(current, reference).dict()
    assert result["metrics"][0]["value"] == 0
    assert "SUCCESS" in str(result["tests"][0]["status"])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_evidently_raises_on_a_column_without_values() -> None:
    """Why such a column is never given to it."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    definition = DataDefinition(numerical_columns=["x"])
    sides = [
        Dataset.from_pandas(pd.DataFrame({"x": v}), data_definition=definition) for v in ([np.nan] * 3, [1.0, 2.0, 3.0])
    ]
    with pytest.raises(ValueError, match="empty column"):
        Report([ValueDrift(column="x", method="wasserstein", threshold=0.1)]).run(*sides)
