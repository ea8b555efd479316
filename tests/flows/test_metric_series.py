"""The loss of each partition is a line on the MLflow run of the version that scored it: sent once, repaired, never in a run's way."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.assess import assess
from tasks.contracts import Stage
from tasks.lifecycle.metric_series import FILE, copy_performance
from tasks.registry import Registry
from tasks.resources import LiveResources, Variant, open_resources
from tests.conftest import free_port
from tests.flows.conftest import SHIFTED

EPOCH_DAY = 19_799
"""Days from 1970-01-01 to the shifted day, 2024-03-17."""


@pytest.fixture
def res(processed: Path) -> Iterator[LiveResources]:
    """The resources of the model, with a note of what was sent as the flows left it."""
    note = processed / "lake" / "tiny" / FILE
    before = note.read_text()
    opened = open_resources("tiny")
    yield opened
    note.write_text(before)


def history(res: LiveResources, name: str) -> list[tuple[int, int, float]]:
    run = res.registry.cached_version(res.champion().version).run_id
    return [(m.step, m.timestamp, m.value) for m in res.registry.client.get_metric_history(run, f"partition/{name}")]


def test_every_assessed_partition_is_a_point_at_its_end(res: LiveResources) -> None:
    records = [res.lake.done(Stage.PERFORMANCE, key) for key in res.lake.keys(Stage.PERFORMANCE)]
    assert len(records) == 7
    losses, skills = history(res, "log_loss"), history(res, "skill")
    assert [value for *_, value in losses] == pytest.approx([r.data["metrics"]["log_loss"] for r in records])
    assert [value for *_, value in skills] == pytest.approx([r.data["skill"] for r in records])
    assert [step for step, *_ in losses] == list(range(EPOCH_DAY - 6, EPOCH_DAY + 1))
    assert losses[-1][1] == res.ref(SHIFTED).end.timestamp() * 1000


def test_an_assessment_without_changes_sends_nothing(res: LiveResources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry, "log_points", lambda *_: pytest.fail("it was sent again"))
    assert assess(model="tiny", return_state=True).is_completed()


def test_a_corrected_loss_becomes_the_current_value(res: LiveResources) -> None:
    note = res.lake.root / FILE
    sent = json.loads(note.read_text())
    newest = sent[SHIFTED]
    newest["values"] = {"log_loss": 0.1}
    note.write_text(json.dumps(sent))
    count, true = len(history(res, "log_loss")), res.lake.done(Stage.PERFORMANCE, SHIFTED).data["metrics"]["log_loss"]
    copy_performance(res)
    assert len(history(res, "log_loss")) == count + 1
    run = res.registry.client.get_run(res.registry.cached_version(res.champion().version).run_id)
    assert run.data.metrics["partition/log_loss"] == pytest.approx(true)
    assert json.loads(note.read_text())[SHIFTED]["sent"] == 2


def test_while_mlflow_does_not_respond_nothing_fails_and_the_next_run_sends_it(
    res: LiveResources, monkeypatch: pytest.MonkeyPatch
) -> None:
    (res.lake.root / FILE).write_text("{}")
    version = res.registry.cached_version(res.champion().version)  # scoring has read it before
    up = res.registry
    res.registry = Registry(f"http://127.0.0.1:{free_port()}", "tiny", up.cache.parent)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    copy_performance(res)
    assert json.loads((res.lake.root / FILE).read_text()) == {}
    res.registry = up
    copy_performance(res)
    noted = json.loads((res.lake.root / FILE).read_text())
    assert {entry["version"] for entry in noted.values()} == {version.version}
    assert len(noted) == 7


def test_a_version_that_mlflow_no_longer_has_is_passed_over(res: LiveResources) -> None:
    sent = json.loads((res.lake.root / FILE).read_text())
    sent[SHIFTED]["version"] = "99"
    (res.lake.root / FILE).write_text(json.dumps(sent))
    copy_performance(res)
    assert json.loads((res.lake.root / FILE).read_text())[SHIFTED]["version"] != "99"


def test_a_variant_is_not_copied(res: LiveResources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry, "log_points", lambda *_: pytest.fail("a variant is no production"))
    variant = open_resources("tiny", variant=Variant(champion=res.champion().version))
    copy_performance(variant)
    assert not (variant.lake.root / FILE).exists()
