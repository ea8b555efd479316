"""What speed rests on, without a clock: what a run imports, how often data are read, and how often servers are asked."""

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
from tests.conftest import settle_copy

pytestmark = pytest.mark.usefixtures("prefect_server")
SLOW = """
duckdb evidently fairlearn great_expectations jinja2 matplotlib mlflow optuna pandas
prefect.server pyarrow scipy skops sklearn xgboost
"""
"""What takes time to import."""
REQUESTS = 12
"""That a run sends which finds everything fresh: its own states, and its page with two tables."""


@pytest.fixture
def asked(monkeypatch):
    """Every request that this process sends by HTTP, by method and path. Logs are left out: they go in batches, by the clock.

    Prefect's clients use httpx, MLflow's requests, and an alias is asked for by urllib. Events go by a websocket.
    """
    found = []
    real_open, real_send = urllib.request.OpenerDirector.open, requests.Session.send

    def opening(self, asked, *args, **kwargs):
        found.append(f"GET {getattr(asked, 'full_url', asked)}")
        return real_open(self, asked, *args, **kwargs)

    def sending(self, request, *args, **kwargs):
        found.append(f"{request.method} {request.url}")
        return real_send(self, request, *args, **kwargs)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", opening)
    monkeypatch.setattr(requests.Session, "send", sending)
    for client in (httpx.Client, httpx.AsyncClient):
        real = client.send

        def send(self, request, *args, real=real, **kwargs):
            if "/logs" not in request.url.path:
                found.append(f"{request.method} {request.url.path}")
            return real(self, request, *args, **kwargs)

        monkeypatch.setattr(client, "send", send)
    return found


@pytest.fixture(scope="module")
def champion(begun, tmp_path_factory):
    """The tiny model with ten days, and a champion that has scored two more. The tests share it, and leave these days as they are."""
    folder = tmp_path_factory.mktemp("champion")
    with pytest.MonkeyPatch.context() as patch:
        settle_copy(begun, folder, patch)
        backfill(model="tiny", start="2024-03-01", end="2024-03-10", mode="stale")  # a copy's source lies elsewhere
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
    nobody = {
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"
    }  # asked for the alias; whether it answers does not matter here
    env = os.environ | nobody | get_current_settings().to_environment_variables(exclude_unset=True)
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=env)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.splitlines()[-1].split() == []


def test_what_is_fresh_costs_no_request(champion, asked):
    counts = []
    for given in (
        {"partition": "2024-03-12"},
        {"partition": "2024-03-12"},
        {"as_of": open_resources("tiny").ref("2024-03-12").as_of},
    ):
        asked.clear()
        state = process(model="tiny", **given, return_state=True)
        counts.append(len(asked))
    assert "everything is fresh (12 partitions)" in state.message
    assert counts[2] == counts[1] <= REQUESTS, f"twelve partitions as one, once there is a session: {asked}"


def test_what_is_made_costs_few_requests_each(champion, asked):
    """A partition's artifact, and its events; not one for each step."""
    res = open_resources("tiny")
    counts = []
    for first, last in ((13, 13), (14, 16)):
        asked.clear()
        backfill(model="tiny", start=f"2024-03-{first}", end=f"2024-03-{last}", concurrency=1)
        counts.append(len(asked))
    assert len(res.lake.keys(Stage.MONITORING)) == 6
    assert counts[1] - counts[0] <= 2 * 4, asked


def test_rows_are_validated_in_one_pass_where_all_pass_and_again_only_for_what_failed(champion, monkeypatch):
    runs = []
    real = expectations._run

    def run(batch, frame, checks, form):
        runs.append((form, len(checks)))
        return real(batch, frame, checks, form)

    monkeypatch.setattr(expectations, "_run", run)
    frame = open_resources("tiny").lake.read(Stage.RAW, "2024-03-12")
    rules = (*expectations.structural(open_resources("tiny").config), *open_resources("tiny").config.expectations)
    expectations.check(frame, rules, "parcel")
    assert runs == [("BASIC", 8)]
    runs.clear()
    expectations.check(frame.assign(weight=frame["weight"].where(frame.index > 2, 99.0)), rules, "parcel")
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


def test_a_run_reads_each_file_as_often_as_it_must(champion, monkeypatch):
    """Every read of rows, whole or in batches: a stage reads what it is made from once, and the page its own rows."""
    read = []
    real = Lake._opened

    def opened(self, stage, key):
        read.append((str(stage), key))
        return real(self, stage, key)

    monkeypatch.setattr(Lake, "_opened", opened)
    process(model="tiny", partition="2024-03-17")
    own = Counter(stage for stage, key in read if key == "2024-03-17")
    assert own["raw"] == 1, "validate"
    assert own["valid"] <= 4, f"sketch, score, estimate and the page: {own}"
    assert own["predictions"] <= 3, f"estimate, watch and the page: {own}"
    read.clear()
    train(model="tiny", reason="to count what it reads")
    most = Counter(read).most_common(1)[0]
    assert most[1] <= 6, f"to choose, to fit, to compare, to check the refit, to refit and for the card: {most}"


def test_a_partition_that_is_scored_in_batches_gets_the_predictions_of_one(champion, monkeypatch):
    """Every row once, in order."""
    res = open_resources("tiny")
    ref = res.ref("2024-03-12")
    whole = res.lake.read(Stage.PREDICTIONS, ref.key)
    with monkeypatch.context() as patch:
        patch.setattr("tasks.storage.lake.BATCH", 40)
        assert advance(SCORE, ref, res, again=True).rows == 150
        pd.testing.assert_frame_equal(res.lake.read(Stage.PREDICTIONS, ref.key), whole)
    digest = advance(SCORE, ref, res, again=True).digest
    pd.testing.assert_frame_equal(res.lake.read(Stage.PREDICTIONS, ref.key), whole)
    assert advance(SCORE, ref, res).digest == digest
