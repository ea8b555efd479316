"""A challenger in the shadow of requests, and with a share of them that ends by itself."""

import numpy as np
import pytest
from pydantic import ValidationError

from configs.gate import Canary, Promoting
from configs.load import load_model
from serving import versions
from serving.canary import Trial, chosen
from serving.versions import Served
from tasks.contracts import SERVING
from tasks.errors import MissingSource
from tasks.storage.answer_log import CANARY, CHAMPION, SHADOW, served_rows
from tests.serving.conftest import rows_of, served
from tests.serving.test_following import until

PATH = "/models/tiny/invocations"


def stage(world, number: str = "2", **more) -> None:
    world.row("stage", number, world.version(number, depth=1, **more))


def test_the_challenger_answers_in_the_shadow_what_the_champion_was_asked(world):
    world.say(promotion={"shadow": {"partitions": 2}})
    stage(world)
    with served(world) as client:
        until(lambda: client.service.follower.reigns["tiny"].challenger is not None)
        said = client.post(PATH, json={"instances": rows_of(9, 20)}).json()
        assert set(said) == {"predictions", "model", "version", "as_of", "request_id"}
        assert said["version"] == "1"
    rows = served_rows(load_model("tiny"), "2024-03-10", (SHADOW,)).to_pandas()
    assert set(rows["model_version"]) == {"2"}
    assert len(rows) == 20
    from tasks.models.features import predict
    from tests.conftest import parcels

    wanted = predict(world.models["2"], parcels(9).head(20), world.config)
    assert rows["prediction"].to_numpy().tobytes() == wanted.tobytes()


def test_a_challenger_that_fails_in_the_shadow_is_no_matter_for_the_champion(world, monkeypatch):
    world.say(promotion={"shadow": {"partitions": 2}})
    stage(world)
    real = Served.answer

    def failing(self, given):
        if self.version == "2":
            raise RuntimeError("broken")
        return real(self, given)

    with served(world) as client:
        until(lambda: client.service.follower.reigns["tiny"].challenger is not None)
        monkeypatch.setattr(Served, "answer", failing)
        assert client.post(PATH, json={"instances": rows_of(9, 3)}).status_code == 200
        until(
            lambda: (
                'evergreen_shadow_rows_total{model="tiny",outcome="failed",version="2"} 3.0'
                in client.get("/metrics").text
            )
        )


def test_the_share_is_by_the_key_alone_and_grows_without_moving_keys():
    keys = [f"k{at}" for at in range(20_000)]
    small, large = chosen("m", keys, 0.05), chosen("m", keys, 0.2)
    assert (large | small).sum() == large.sum()
    # Binomial: five standard deviations around 5 %.
    assert abs(small.mean() - 0.05) < 5 * np.sqrt(0.05 * 0.95 / len(keys))
    assert chosen("m", keys[::-1], 0.05)[::-1].tolist() == small.tolist()
    both = (small & chosen("other", keys, 0.05)).mean()
    assert abs(both - 0.0025) < 5 * np.sqrt(0.0025 / len(keys))  # models are independent of each other


def test_keys_of_the_share_are_answered_by_the_challenger_and_it_is_on_record(world):
    world.say(promotion={"shadow": {"partitions": 2}, "canary": {"share": 0.3}})
    stage(world)
    rows = rows_of(9, 40)
    mine = chosen("tiny", [row["parcel"] for row in rows], 0.3)
    with served(world) as client:
        until(lambda: client.service.follower.reigns["tiny"].trial is not None)
        for _ in range(2):
            found = client.post(PATH, json={"instances": rows}).json()
            assert [one == "2" for one in found["versions"]] == mine.tolist()
        assert client.get("/models/tiny").json()["canary"]["requests"] == 2
    shadow = served_rows(load_model("tiny"), "2024-03-10", (SHADOW,)).to_pandas()
    others = np.flatnonzero(~mine).tolist()  # of each of the two requests: nobody is asked twice about a row
    assert sorted(shadow["request_row"]) == sorted(others * 2)
    assert set(shadow["parcel"]) == {rows[at]["parcel"] for at in others}
    said = served_rows(load_model("tiny"), "2024-03-10").to_pandas().drop_duplicates("parcel")
    by = dict(zip(said["parcel"], said["model_version"], strict=True))
    assert [by[row["parcel"]] == "2" for row in rows] == mine.tolist()
    (begun,) = [row for row in world.ledger.promotions() if row.action == "canary"]
    assert (begun.version, begun.to_stage, begun.by) == ("2", "challenger", SERVING)
    assert begun.evidence["canary"]["share"] == 0.3
    with served(world) as client:  # a second server does not write it down again
        until(lambda: client.service.follower.reigns["tiny"].trial is not None)
    assert len([row for row in world.ledger.promotions() if row.action == "canary"]) == 1


def test_rows_without_a_key_have_their_places_in_the_request(world):
    """Whoever answers: the key that is made here names the request's row."""
    world.say(promotion={"shadow": {"partitions": 2}, "canary": {"share": 0.5}})
    stage(world)
    rows = [row | {"parcel": None} for row in rows_of(9, 30)]
    with served(world) as client:
        until(lambda: client.service.follower.reigns["tiny"].trial is not None)
        found = client.post(PATH, json={"instances": rows}).json()
    said = served_rows(load_model("tiny"), "2024-03-10").to_pandas().set_index("request_row").sort_index()
    assert said.index.tolist() == list(range(30))
    assert said["parcel"].tolist() == [f"{found['request_id']}-{at}" for at in range(30)]
    assert said["model_version"].tolist() == found["versions"]
    assert said["prediction"].tolist() == [two[1] for two in found["predictions"]]
    assert said["weight"].tolist() == [row["weight"] for row in rows]


def no_numbers(monkeypatch, depth: int) -> None:
    """Let the version whose trees have a depth say NaN about the second row that it is asked about."""
    real = versions._say

    def say(estimator, inputs, kind):
        said = real(estimator, inputs, kind)
        if estimator.estimator.max_depth == depth and len(said) > 1:
            said = said.copy()
            said[1] = np.nan
        return said

    monkeypatch.setattr(versions, "_say", say)


def test_a_champion_that_says_no_number_answers_nothing(world, monkeypatch):
    with served(world) as client:
        no_numbers(monkeypatch, depth=3)
        answer = client.post(PATH, json={"instances": rows_of(9, 3)})
        assert client.post(PATH, json={"instances": rows_of(10, 1)}).status_code == 200
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:evergreen:problem:no-number")
    assert "version 1 says something that is no number about row 1" in answer.json()["detail"]
    with pytest.raises(MissingSource):
        served_rows(load_model("tiny"), "2024-03-10")


def test_a_challenger_that_says_no_number_fails_its_share_and_is_not_recorded(world, monkeypatch):
    world.say(promotion={"shadow": {"partitions": 2}, "canary": {"share": 0.5}})
    stage(world)
    with served(world) as client:
        until(lambda: client.service.follower.reigns["tiny"].trial is not None)
        no_numbers(monkeypatch, depth=1)
        found = client.post(PATH, json={"instances": rows_of(9, 30)}).json()
        assert (found["version"], "versions" in found) == ("1", False)
        trial = client.service.follower.reigns["tiny"].trial
        until(
            lambda: 'outcome="failed",version="2"' in client.get("/metrics").text.split("evergreen_shadow_rows", 1)[-1]
        )
        rows, failed, _ = trial._counts()
        assert rows == failed > 0
    everything = served_rows(load_model("tiny"), "2024-03-10", (CHAMPION, CANARY, SHADOW)).to_pandas()
    assert (set(everything["model_version"]), len(everything)) == ({"1"}, 30)


@pytest.mark.parametrize("fault", ["errors", "slow"])
def test_a_broken_budget_ends_the_share_and_refuses_the_version(world, monkeypatch, fault):
    rule = {"share": 0.5, "min_requests": 20, "max_error_share": 0.1, "p99_ms": 1000 if fault == "errors" else 1e-6}
    world.say(promotion={"shadow": {"partitions": 2}, "canary": rule})
    stage(world)
    real = Served.answer

    def failing(self, given):
        if self.version == "2" and fault == "errors":
            raise RuntimeError("broken")
        return real(self, given)

    with served(world) as client:
        until(lambda: client.service.follower.reigns["tiny"].trial is not None)
        monkeypatch.setattr(Served, "answer", failing)
        for at in range(60):
            row = rows_of(9, 1)[0] | {"parcel": f"p{at}"}
            assert client.post(PATH, json={"instances": [row]}).status_code == 200
        until(lambda: world.ledger.promotions()[-1].action == "refuse")
        until(lambda: client.service.follower.reigns["tiny"].challenger is None)
    last = world.ledger.promotions()[-1]
    assert (last.version, last.to_stage, last.by) == ("2", "refused", SERVING)
    assert last.evidence["requests"] >= (20 if fault == "errors" else 3)  # what is slow beyond hope ends sooner
    told = "rows failed, more than max_error_share" if fault == "errors" else "99th percentile"
    assert told in last.reason
    assert world.ledger.champion().version == "1"


def test_rows_that_lack_what_the_challenger_needs_are_the_champions_and_no_failure(world):
    """A challenger that has learned a new column must wait until clients send it."""
    world.say(features={"numeric": ["weight", "distance", "height"], "categorical": ["city"], "retired": ["distance"]})
    world.say(promotion={"shadow": {"partitions": 2}, "canary": {"share": 0.5, "min_requests": 5}})
    world.row("stage", "2", world.version("2", depth=1, columns={"height": 1.0}))
    with served(world) as client:
        until(lambda: client.service.follower.reigns["tiny"].trial is not None)
        for _ in range(10):
            found = client.post(PATH, json={"instances": rows_of(9, 20)}).json()
            assert (found["version"], "versions" in found) == ("1", False)
        assert client.service.follower.reigns["tiny"].trial.requests == 0
        with_it = [row | {"height": 1.0} for row in rows_of(9, 20)]
        assert set(client.post(PATH, json={"instances": with_it}).json()["versions"]) == {"1", "2"}
    assert world.ledger.challenger().version == "2"


def test_an_answer_that_is_the_challengers_alone_names_it(world):
    world.say(promotion={"shadow": {"partitions": 2}, "canary": {"share": 0.5}})
    stage(world)
    keys = [f"k{at}" for at in range(20)]
    mine = next(key for key, one in zip(keys, chosen("tiny", keys, 0.5), strict=True) if one)
    with served(world) as client:
        until(lambda: client.service.follower.reigns["tiny"].trial is not None)
        answer = client.post(PATH, json={"instances": [rows_of(9, 1)[0] | {"parcel": mine}]})
    assert answer.json()["version"] == answer.headers["x-model-version"] == "2"


def test_with_an_approval_alone_the_challenger_answers_in_the_shadow_too(world):
    world.say(promotion={"approval": True})
    stage(world)
    with served(world) as client:
        until(lambda: client.service.follower.reigns["tiny"].challenger is not None)
        client.post(PATH, json={"instances": rows_of(9, 4)})
    assert len(served_rows(load_model("tiny"), "2024-03-10", (SHADOW,))) == 4


def test_a_trial_within_its_budgets_goes_on():
    trial = Trial(Canary(share=0.1, min_requests=10, max_error_share=0.2, p99_ms=50), None)
    for at in range(100):
        trial.tell(5, 1 if at % 10 == 0 else 0, 10.0)
    assert trial.broken == ""
    assert trial._counts() == (500, 10, 10.0)


def test_a_share_needs_a_time_in_which_there_is_a_challenger():
    with pytest.raises(ValidationError, match=r"set shadow\.partitions or approval"):
        Promoting(canary=Canary(share=0.1))
    assert Promoting(canary=Canary(share=0.1), approval=True).canary.share == 0.1
