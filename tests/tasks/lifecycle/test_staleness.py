"""Staleness is measured on data that were known, and a policy that follows it retrains soon after the data have changed."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.retraining import ExpectedGain
from tasks.contracts import PolicyRun, Stage
from tasks.lifecycle.staleness import window_before
from tasks.orchestration.prefect_tasks import simulation
from tasks.replay.past_resources import replay_resources
from tasks.replay.policies import policy_on
from tasks.replay.setup import prepare_replay, prepare_variant
from tasks.replay.simulate import assess, events, process, simulate_policy, start_with_champion
from tasks.resources import LiveResources, open_resources
from tasks.steps.assess import measure_version
from tasks.training.fit import fit_version
from tests.conftest import set_up_tiny

pytestmark = pytest.mark.long

START, END = "2024-03-11", "2024-03-21"
COST = 0.1


@pytest.fixture(scope="module")
def live(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveResources]:
    """Validated days. Replays write into the folder, each under the digests of its own inputs."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("validated")
        set_up_tiny(tiny_source, folder, f"sqlite:///{folder}/mlflow.db", patch)
        res = open_resources("tiny")
        prepare_variant(res.ref(END).end, res)
        yield res


def replay(live: LiveResources, cost: float | None) -> PolicyRun:
    setup = prepare_replay(START, END, live)
    policy = policy_on(expected_gain=ExpectedGain(calendar=4)).model_copy(update={"cost": cost})
    return simulate_policy("priced", policy, setup.begin, setup.refs, live)


def measurements(live: LiveResources) -> set[str]:
    return {path.name for path in (live.lake.root / "replay" / "steps").glob(f"{Stage.STALENESS}/*")}


def test_a_policy_with_a_cost_retrains_when_the_data_have_changed_and_hardly_before(live):
    """From day 17 on lateness depends on the weight in another way. Its labels are known on day 19."""
    run = replay(live, COST)
    trained = [d.as_of.strftime("%Y-%m-%d") for d in run.retrainings]
    assert len([day for day in trained if day < "2024-03-18"]) <= 1, trained
    assert any("2024-03-19" <= day <= "2024-03-21" for day in trained), trained
    first = next(d for d in run.retrainings if d.as_of.strftime("%Y-%m-%d") >= "2024-03-18")
    assert first.signals["expected_gain"]["value"] >= COST
    declined = [d for d in run.decisions if d.action == "decline" and d.rule == "expected gain"]
    assert all(d.signals["expected_gain"]["value"] < COST for d in declined)


def test_without_a_cost_it_follows_the_calendar_and_fits_nothing_in_between(live):
    before = measurements(live)
    run = replay(live, None)
    days = [d.as_of for d in run.retrainings]
    assert {(b - a).days for a, b in itertools.pairwise(days)} == {4}
    assert measurements(live) == before


def test_the_measurement_is_the_difference_to_a_version_that_is_trained_just_before_the_partition(live):
    """The same recipe, fitted by a training and registered, has the loss with which the champion was compared."""
    setup = prepare_replay(START, END, live)
    policy = policy_on(expected_gain=ExpectedGain()).model_copy(update={"cost": 100.0})
    res = replay_resources(live, policy, setup.begin)
    ref = setup.refs[3]
    with simulation():
        start_with_champion(setup.begin, res)
        for moment, completed, matured in events(setup.refs[:4], live):
            res.lake.now = moment
            for one in completed:
                process(one, res)
            if matured:
                assess(moment, res)
        record = res.lake.record(Stage.STALENESS, ref.key)
        version = res.registry.version(res.ledger.champion().version)
        window = window_before(ref, res)
        assert window.end <= ref.start
        assert window.as_of <= ref.complete
        new = fit_version("refit", version.recipe, "", window, res, "by hand")
    losses = [
        measure_version(number, ref.at(record.as_of), res)["log_loss"] for number in (version.version, new.version)
    ]
    assert record.data["gain"] == pytest.approx(losses[0] - losses[1], abs=1e-9)
    assert record.data["age"] == pytest.approx((new.window_end - version.window_end).days)
