"""Costs that can be counted without a clock: imports of a run, reads of data, and requests to servers."""

import os
import subprocess
import sys
import urllib.request
from collections import Counter

import httpx
import pandas as pd
import pytest
import requests
from prefect.settings import get_current_settings

from configs.settings import ROOT
from flows.assess import assess
from flows.backfill import backfill
from flows.process import process
from flows.train import train
from tasks.contracts import Stage
from tasks.resources import open_resources
from tasks.steps import watch
from tasks.steps.score import SCORE
from tasks.steps.step import advance
from tasks.storage.lake import Lake
from tasks.validation import expectations
from tests.conftest import set_up_copy

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]
SLOW = """
duckdb evidently fairlearn great_expectations jinja2 matplotlib mlflow optuna pandas
prefect.server pyarrow scipy skops sklearn xgboost
"""
"""Modules that take long to import."""
REQUESTS = 14
"""Requests of a run that finds everything fresh: its states, the number of its name, its tags, and its page with two tables."""


@pytest.fixture
def sent(monkeypatch):
    """Every HTTP request of this process, as method and path, without logs, which are sent in batches by time.

    Prefect's clients use httpx, MLflow's client requests, and an alias is read by urllib. Events use a websocket.
    """
    recorded = []
    real_open, real_send = urllib.request.OpenerDirector.open, requests.Session.send

    def opening(self, request, *args, **kwargs):
        recorded.append(f"GET {getattr(request, 'full_url', request)}")
        return real_open(self, request, *args, **kwargs)

    def sending(self, request, *args, **kwargs):
        recorded.append(f"{request.method} {request.url}")
        return real_send(self, request, *args, **kwargs)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", opening)
    monkeypatch.setattr(requests.Session, "send", sending)
    for client in (httpx.Client, httpx.AsyncClient):
        real = client.send

        def send(self, request, *args, real=real, **kwargs):
            if "/logs" not in request.url.path:
                recorded.append(f"{request.method} {request.url.path}")
            return real(self, request, *args, **kwargs)

        monkeypatch.setattr(client, "send", send)
    return recorded


@pytest.fixture(scope="module")
def champion(with_champion, tmp_path_factory):
    """The tiny model with ten days, and a champion that has scored two more. The tests share it and do not change these days."""
    folder = tmp_path_factory.mktemp("champion")
    with pytest.MonkeyPatch.context() as patch:
        set_up_copy(with_champion, folder, patch)
        backfill(model="tiny", start="2024-03-01", end="2024-03-10", mode="stale")  # the source's paths have changed
        for key in ("2024-03-11", "2024-03-12"):
            process(model="tiny", partition=key)
            assess(model="tiny", partition=key)
        yield folder


def test_a_run_that_finds_everything_fresh_imports_nothing_that_it_does_not_use(champion):
    code = (
        "import sys; from flows.process import process\n"
        "state = process(model='tiny', partition='2024-03-12', return_state=True)\n"
        "assert 'everything is fresh' in state.message, state.message\n"
        f"print(*[name for name in {SLOW.split()} if name in sys.modules])"
    )
    no_server = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}  # for the alias; it need not answer
    env = os.environ | no_server | get_current_settings().to_environment_variables(exclude_unset=True)
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=env)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.splitlines()[-1].split() == []


def test_a_fresh_partition_costs_no_request(champion, sent):
    counts = []
    for options in (
        {"partition": "2024-03-12"},
        {"partition": "2024-03-12"},
        {"as_of": open_resources("tiny").ref("2024-03-12").as_of},
    ):
        sent.clear()
        state = process(model="tiny", **options, return_state=True)
        counts.append(len(sent))
    assert "everything is fresh (12 partitions)" in state.message
    assert counts[2] == counts[1] <= REQUESTS, f"twelve partitions as one, after there is a session: {sent}"


def test_a_processed_partition_costs_few_requests(champion, sent):
    """Requests for a partition's artifact and its events, not for each step. Updates of the progress come by time and do not count."""
    res = open_resources("tiny")
    counts = []
    for first, last in ((13, 13), (14, 16)):
        sent.clear()
        backfill(model="tiny", start=f"2024-03-{first}", end=f"2024-03-{last}", concurrency=1)
        counts.append(len([request for request in sent if not request.startswith("PATCH")]))
    assert len(res.lake.keys(Stage.MONITORING)) == 6
    assert counts[1] - counts[0] <= 2 * 4, sent


def test_rows_are_validated_once_if_all_pass_and_again_only_for_failed_expectations(champion, monkeypatch):
    runs = []
    real = expectations._run

    def run(batch, frame, checks, form):
        runs.append((form, len(checks)))
        return real(batch, frame, checks, form)

    monkeypatch.setattr(expectations, "_run", run)
    frame = open_resources("tiny").lake.read(Stage.RAW, "2024-03-12")
    rules = (
        *expectations.structural_expectations(open_resources("tiny").config),
        *open_resources("tiny").config.expectations,
    )
    expectations.validate_frame(frame, rules, "parcel")
    assert runs == [("BASIC", 8)]
    runs.clear()
    expectations.validate_frame(frame.assign(weight=frame["weight"].where(frame.index > 2, 99.0)), rules, "parcel")
    assert runs == [("BASIC", 8), ("COMPLETE", 1)]


def test_a_drift_check_reads_no_rows_of_its_reference(champion, monkeypatch):
    res = open_resources("tiny")
    res.pages = False
    read = []
    real = Lake.read

    def reading(self, stage, key, columns=None):
        read.append((stage, key))
        return real(self, stage, key, columns)

    monkeypatch.setattr(Lake, "read", reading)
    watch.watch(res.ref("2024-03-12"), res)
    assert {key for stage, key in read if stage is not Stage.SKETCHES} == {"2024-03-12"}
    assert not [key for stage, key in read if stage in (Stage.RAW, Stage.VALID)]


@pytest.mark.slow
def test_a_run_reads_each_file_no_more_often_than_needed(champion, monkeypatch):
    """Every read of rows, whole or in batches: a step reads its inputs once, and the page its own rows."""
    read = []
    real = Lake._open_verified

    def opened(self, stage, key):
        read.append((str(stage), key))
        return real(self, stage, key)

    monkeypatch.setattr(Lake, "_open_verified", opened)
    process(model="tiny", partition="2024-03-17")
    own = Counter(stage for stage, key in read if key == "2024-03-17")
    assert own["raw"] == 1, "validate"
    assert own["valid"] <= 4, f"sketch, score, estimate and the page: {own}"
    assert own["predictions"] <= 3, f"estimate, watch and the page: {own}"
    read.clear()
    train(model="tiny", reason="to count reads")
    most = Counter(read).most_common(1)[0]
    assert most[1] <= 6, f"to choose, to fit, to compare, to check the refit, to refit and for the card: {most}"


def test_scoring_in_batches_gives_the_same_predictions(champion, monkeypatch):
    """Every row once, in order."""
    res = open_resources("tiny")
    ref = res.ref("2024-03-12")
    whole = res.lake.read(Stage.PREDICTIONS, ref.key)
    with monkeypatch.context() as patch:
        patch.setattr("tasks.storage.lake.BATCH_ROWS", 40)
        assert advance(SCORE, ref, res, again=True).rows == 150
        pd.testing.assert_frame_equal(res.lake.read(Stage.PREDICTIONS, ref.key), whole)
    digest = advance(SCORE, ref, res, again=True).digest
    pd.testing.assert_frame_equal(res.lake.read(Stage.PREDICTIONS, ref.key), whole)
    assert advance(SCORE, ref, res).digest == digest
