"""Evidently's page and run show the drift verdict with the same statistic and threshold, and list the columns in which they differ."""

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
from tasks.drift.evidently_run import drift_by_column, evidently_threshold, run_evidently, sample_by_key
from tasks.drift.report import as_html, build_page, drift_table, drift_verdict
from tasks.drift.scores import ks_p_value
from tasks.drift.workspace import (
    COMPARED,
    REALISED,
    add_metrics,
    add_scores,
    add_skill,
    most_important,
    publish,
    task_label,
)
from tests.conftest import MODEL_YAML
from tests.hostile import HOSTILE, Elements, without_layout

pytestmark = pytest.mark.long

START = datetime(2024, 3, 5, tzinfo=UTC)
REF = PartitionRef("tiny", "2024-03-05", START, START.replace(day=6), START.replace(day=7), START.replace(day=7))
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


def verdict_of(*columns: ColumnDrift, **more) -> Drift:
    share = sum(c.drifted for c in columns) / 4
    return Drift(columns, share, 0.0, share > 0, rows=1500, alpha=0.05, **more)


def snapshot(shown: dict[str, ColumnDrift], current: pd.DataFrame, reference: pd.DataFrame):
    return run_evidently(current, reference, shown, ["city"], "tiny 2024-03-05", ABOUT, REF)


@pytest.mark.long
def test_evidently_detects_drift_in_the_same_columns_as_the_verdict():
    shown = {
        c.column: c for c in (column("weight", 0.7, 0.3), column("distance", 0.02, 0.3), column("city", 0.01, 0.2))
    }
    drifted = drift_by_column(snapshot(shown, side(1, 0.7), side(2)))
    assert drifted == {"weight": True, "distance": False, "city": False}


@pytest.mark.long
def test_evidently_compares_its_own_score_with_the_verdicts_threshold():
    shown = {"weight": column("weight", 0.7, 0.9)}
    result = snapshot(shown, side(1, 0.7), side(2)).dict()["metrics"][0]
    assert result["config"]["threshold"] == 0.9
    assert result["config"]["method"] == "wasserstein"
    assert result["value"] == pytest.approx(0.7, abs=0.1)
    assert drift_by_column(snapshot(shown, side(1, 0.7), side(2))) == {"weight": False}


def test_a_column_without_a_threshold_does_not_drift_on_the_page():
    for method in ("wasserstein", "ks", "psi"):
        shown = {
            "weight": column("weight", 5.0, None, method=method, note="no partition of a year earlier to compare with")
        }
        assert drift_by_column(snapshot(shown, side(1, 5), side(2))) == {"weight": False}


@pytest.mark.parametrize(("shift", "drifts"), [(0.0, False), (0.3, True)])
def test_a_threshold_of_ks_is_converted_to_evidentlys_p_value(shift, drifts):
    """For KS Evidently compares the p-value with the threshold, and detects drift if it is smaller."""
    shown = {"weight": column("weight", 0.12 if drifts else 0.02, 0.08, method="ks")}
    assert evidently_threshold(shown["weight"], 1500, 1500) == ks_p_value(0.08, 1500, 1500)
    assert drift_by_column(snapshot(shown, side(1, shift), side(2))) == {"weight": drifts}


def test_the_page_has_the_verdict_then_the_columns_that_differ_then_the_table(tmp_path):
    columns = (column("weight", 0.7, 0.3, importance=0.8, p_value=0.0005), column("city", 0.01, 0.2))
    drift = verdict_of(
        *columns, differs=("city",), note="distance: not calibrated", references={"weight, city": "3 partitions"}
    )
    page = build_page(
        snapshot({c.column: c for c in columns}, side(1, 0.7), side(2)), drift, "tiny 2024-03-05", ["of a sample"]
    )
    html = as_html(page)
    order = [
        "Drift: 25% of columns (weight)",
        "Differs from the verdict, because Evidently uses a sample: city",
        "distance: not calibrated",
    ]
    places = [html.index(text) for text in order]
    assert places == sorted(places)
    assert "80%" in html
    share = next(m for m in page.metric_results.values() if type(m).__name__ == "CountValue")
    assert (share.count.value, share.share.value) == (1, 0.25)


def html_of(city: str, name: str) -> str:
    """Return the page of a report with this text as a category, as the name of its column, as a note and as the title."""
    current, reference = [
        side(seed).rename(columns={"city": name}).assign(**{name: [city, "Kiel"] * 750}) for seed in (1, 2)
    ]
    shown = {name: ColumnDrift(name, "jensenshannon", 0.3, 0.2, True, 0.1, reference=city)}
    drift = verdict_of(*shown.values(), note=city, references={name: city}, differs=(name,))
    snapshot = run_evidently(current, reference, shown, [name], city, ABOUT | {"model": city}, REF)
    return as_html(build_page(snapshot, drift, city, ["n"]))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_of_the_data_adds_no_element_and_no_comment_to_the_page(text: str) -> None:
    page, plain = Elements(html_of(text, f"city {text}")), Elements(html_of("Bonn", "city"))
    assert (page.tags, page.attributes, page.comments) == (plain.tags, plain.attributes, plain.comments)
    (data,) = (part for part in page.texts if part.lstrip().startswith("var metric_"))
    assert without_layout(json.dumps(text)[1:-1]) in without_layout(data.replace("\\u2060", "")), (
        "the text is on the page"
    )


def test_the_text_of_a_verdict():
    drifted, stable = column("weight", 0.7, 0.3), column("city", 0.01, 0.2)
    assert drift_verdict(verdict_of(drifted, stable)) == "Drift: 25% of columns (weight)"
    assert drift_verdict(verdict_of(stable)) == "No drift"
    below_share = replace(verdict_of(drifted, stable), threshold=0.5, detected=False)
    assert drift_verdict(below_share) == "No drift: 25% of columns, 50% needed (weight)"


def test_the_table_has_references_and_columns_that_do_not_count():
    table = drift_table(
        verdict_of(
            column("weight", 0.7, 0.3, p_value=0.001, importance=0.25, reference="v2"),
            column("city", 0.5, None, note="why"),
        )
    )
    assert [(r["column"], r["verdict"], r["threshold"]) for r in table] == [
        ("weight", "drifted", "0.3000"),
        ("city", "does not count", ""),
    ]
    assert (table[0]["p-value"], table[0]["importance"], table[0]["against"]) == ("0.0010", "25%", "v2")


def test_the_sample_is_fixed_and_does_not_depend_on_the_order_of_rows():
    frame = side(0, count=5000).set_index(pd.Index([f"UA{i}" for i in range(5000)], dtype="object"))
    sampled = sample_by_key(frame, 500)
    assert len(sampled) == 500
    assert set(sample_by_key(frame.sample(frac=1, random_state=1), 500).index) == set(sampled.index)
    assert set(sample_by_key(frame, 100).index) < set(sampled.index)
    pd.testing.assert_frame_equal(sample_by_key(frame, 5000), frame)


def page_of(config: ModelConfig, value: float = 0.5, threshold: float = 0.3):
    shown = {"weight": column("weight", 0.7, threshold)}
    page = build_page(snapshot(shown, side(1, 0.7, 200), side(2, 0, 200)), verdict_of(*shown.values()), "t", ["n"])
    add_metrics(page, {"log_loss": value, "roc_auc": None, "brier": 0.2}, task_label(config, REALISED))
    add_metrics(page, {"log_loss": 0.4}, task_label(config, COMPARED))
    add_scores(page, shown)
    add_skill(page, value / 2)
    return page


IMPORTANCE = {"weight": 0.3, "city": 0.1, "distance": 0.6, "x1": 0.0, "prediction": None, "x2": 0.0, "x3": 0.0}


def test_writing_a_partition_again_replaces_its_run_and_keeps_an_edited_dashboard(tmp_path, config):
    from evidently.ui.workspace import Workspace

    folder = tmp_path / "w"
    first = publish(page_of(config), folder, config, "tiny", "2024-03-05")
    dashboard = folder / first[0] / "dashboard.json"
    titles = [panel["title"] for panel in json.loads(dashboard.read_text())["panels"]]
    assert titles[:5] == ["Share of drifted columns", "log loss", "roc auc", "accuracy", "log loss, estimated"]
    dashboard.write_text('{"tabs": [], "panels": []}')
    again, other = (
        publish(page_of(config), folder, config, "tiny", "2024-03-05"),
        publish(page_of(config), folder, config, "tiny", "2024-03-06"),
    )
    assert again == first
    assert other[1] != first[1]
    workspace = Workspace(str(folder))
    assert [(str(p.id), p.name) for p in workspace.list_projects()] == [(first[0], "tiny")]
    assert {str(r) for r in workspace.list_runs(first[0])} == {first[1], other[1]}
    stored = workspace.get_run(first[0], first[1])
    assert stored.metadata == ABOUT
    assert stored.timestamp == datetime(2024, 3, 5)  # noqa: DTZ001 - Evidently's times are naive
    assert dashboard.read_text() == '{"tabs": [], "panels": []}'


def test_the_dashboards_lines_have_metrics_and_scores_by_partition_for_any_threshold(tmp_path, config):
    """Reads the series as Evidently's server does, with the filters of the dashboard's panels."""
    from evidently.ui.service.base import SeriesFilter
    from evidently.ui.service.storage.local.base import InMemoryDataStorage

    folder = tmp_path / "w"
    for day, value, threshold in ((5, 0.5, 0.3), (6, 0.25, 0.4)):
        page = page_of(config, value, threshold)
        page.timestamp = datetime(2024, 3, day)  # noqa: DTZ001
        project, _ = publish(page, folder, config, "tiny", f"2024-03-0{day}")
    panels = json.loads((folder / project / "dashboard.json").read_text())["panels"]
    lines = [v for panel in panels for v in panel["values"]]
    filters = [SeriesFilter(**{k: v[k] for k in ("tags", "metadata", "metric", "metric_labels")}) for v in lines]
    series = asyncio.run(InMemoryDataStorage(str(folder)).get_data_series(UUID(project), filters, None, None))
    named = [(panel["title"], value["legend"]) for panel in panels for value in panel["values"]]
    drawn_lines = {named[s.filter_index]: s.values for s in series.series}
    assert drawn_lines["log loss", "realised"] == [0.5, 0.25]
    assert drawn_lines["skill", "realised"] == [0.25, 0.125]
    assert drawn_lines["drift of weight", "score"] == [0.7, 0.7]
    assert drawn_lines["drift of weight", "threshold"] == [0.3, 0.4]
    assert drawn_lines["Share of drifted columns", "share"] == [0.25, 0.25]
    assert drawn_lines["log loss", "estimated before"] == [0.4, 0.4]
    assert ("log loss, estimated", "estimated") not in drawn_lines


def test_the_dashboard_shows_the_prediction_and_the_most_important_columns(tmp_path, config):
    shown = {name: replace(column(name, 0.7, 0.3), importance=share) for name, share in IMPORTANCE.items()}
    top = most_important(shown)
    assert top[:3] == ["prediction", "distance", "weight"]
    project, _ = publish(page_of(config), tmp_path / "w", config, "tiny", "2024-03-05", top)
    panels = json.loads((tmp_path / "w" / project / "dashboard.json").read_text())["panels"]
    titles = [panel["title"] for panel in panels if panel["title"].startswith("drift of")]
    assert titles == [f"drift of {name}" for name in ("prediction", "distance", "weight", "city", "x1", "x2")]
    description = json.loads((tmp_path / "w" / project / "metadata.json").read_text())["description"]
    assert description.endswith("Drift and performance by partition.")


def test_concurrent_writers_share_one_project(tmp_path, config):
    from evidently.ui.workspace import Workspace

    page = page_of(config)
    with ThreadPoolExecutor(4) as pool:
        ids = set(pool.map(lambda n: publish(page, tmp_path / "w", config, "tiny", f"2013-{n % 3}"), range(12)))
    assert len(ids) == 3
    workspace = Workspace(str(tmp_path / "w"))
    assert len(workspace.list_projects()) == 1
    assert len(workspace.list_runs(next(iter(ids))[0])) == 3


# Behaviour of Evidently that the code relies on. If one of these fails, a new version has changed it.


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_evidently_drops_nulls_and_infinities_before_scoring() -> None:
    """Missing values are therefore a separate signal, and a shorter reference may end in nulls."""
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
    """Such a column is therefore left out of the report."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    definition = DataDefinition(numerical_columns=["x"])
    sides = [
        Dataset.from_pandas(pd.DataFrame({"x": v}), data_definition=definition) for v in ([np.nan] * 3, [1.0, 2.0, 3.0])
    ]
    with pytest.raises(ValueError, match="empty column"):
        Report([ValueDrift(column="x", method="wasserstein", threshold=0.1)]).run(*sides)
