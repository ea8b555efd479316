"""A challenger in shadow mode, and as a canary that ends when it exceeds a budget."""

import numpy as np
import pytest
from pydantic import ValidationError

from configs.gate import Canary, PromotionConfig
from configs.load import load_model
from serving import versions
from serving.canary import CanaryRun, canary_mask
from serving.versions import ServedVersion
from tasks.contracts import SERVING
from tasks.errors import MissingSource
from tasks.storage.answer_log import CANARY, CHAMPION, SHADOW, served_rows
from tests.serving.conftest import request_rows, running_client
from tests.serving.test_following import wait_until

pytestmark = pytest.mark.long

PATH = "/models/tiny/invocations"


def stage_challenger(env, number: str = "2", **options) -> None:
    env.append_row("stage", number, env.fit_version(number, depth=1, **options))


def test_the_challenger_predicts_the_champions_requests_in_shadow_mode(env):
    env.edit_config(promotion={"shadow": {"partitions": 2}})
    stage_challenger(env)
    with running_client(env) as client:
        wait_until(lambda: client.service.follower.states["tiny"].challenger is not None)
        response = client.post(PATH, json={"instances": request_rows(9, 20)}).json()
        assert set(response) == {"predictions", "model", "version", "as_of", "request_id"}
        assert response["version"] == "1"
    rows = served_rows(load_model("tiny"), "2024-03-10", (SHADOW,)).to_pandas()
    assert set(rows["model_version"]) == {"2"}
    assert len(rows) == 20
    from tasks.models.features import predict
    from tests.conftest import parcels

    expected = predict(env.models["2"], parcels(9).head(20), env.config)
    assert rows["prediction"].to_numpy().tobytes() == expected.tobytes()


def test_a_failing_challenger_in_shadow_mode_does_not_affect_the_champion(env, monkeypatch):
    env.edit_config(promotion={"shadow": {"partitions": 2}})
    stage_challenger(env)
    predict = ServedVersion.predict

    def failing(self, inputs):
        if self.version == "2":
            raise RuntimeError("broken")
        return predict(self, inputs)

    with running_client(env) as client:
        wait_until(lambda: client.service.follower.states["tiny"].challenger is not None)
        monkeypatch.setattr(ServedVersion, "predict", failing)
        assert client.post(PATH, json={"instances": request_rows(9, 3)}).status_code == 200
        wait_until(
            lambda: (
                'evergreen_shadow_rows_total{model="tiny",outcome="failed",version="2"} 3.0'
                in client.get("/metrics").text
            )
        )


def test_the_canary_keys_depend_on_the_key_alone_and_a_larger_share_keeps_them():
    keys = [f"k{i}" for i in range(20_000)]
    small, large = canary_mask("m", keys, 0.05), canary_mask("m", keys, 0.2)
    assert (large | small).sum() == large.sum()
    # Binomial: five standard deviations around 5 %.
    assert abs(small.mean() - 0.05) < 5 * np.sqrt(0.05 * 0.95 / len(keys))
    assert canary_mask("m", keys[::-1], 0.05)[::-1].tolist() == small.tolist()
    both = (small & canary_mask("other", keys, 0.05)).mean()
    assert abs(both - 0.0025) < 5 * np.sqrt(0.0025 / len(keys))  # models are independent of each other


def test_the_canary_predicts_its_keys_and_is_recorded(env):
    env.edit_config(promotion={"shadow": {"partitions": 2}, "canary": {"share": 0.3}})
    stage_challenger(env)
    rows = request_rows(9, 40)
    in_canary = canary_mask("tiny", [row["parcel"] for row in rows], 0.3)
    with running_client(env) as client:
        wait_until(lambda: client.service.follower.states["tiny"].canary is not None)
        for _ in range(2):
            response = client.post(PATH, json={"instances": rows}).json()
            assert [selected == "2" for selected in response["versions"]] == in_canary.tolist()
        assert client.get("/models/tiny").json()["canary"]["requests"] == 2
    shadow = served_rows(load_model("tiny"), "2024-03-10", (SHADOW,)).to_pandas()
    others = np.flatnonzero(~in_canary).tolist()  # the challenger predicts no row twice
    assert sorted(shadow["request_row"]) == sorted(others * 2)
    assert set(shadow["parcel"]) == {rows[i]["parcel"] for i in others}
    recorded = served_rows(load_model("tiny"), "2024-03-10").to_pandas().drop_duplicates("parcel")
    version_of = dict(zip(recorded["parcel"], recorded["model_version"], strict=True))
    assert [version_of[row["parcel"]] == "2" for row in rows] == in_canary.tolist()
    (started,) = [row for row in env.ledger.promotions() if row.action == "canary"]
    assert (started.version, started.to_stage, started.by) == ("2", "challenger", SERVING)
    assert started.evidence["canary"]["share"] == 0.3
    with running_client(env) as client:  # a second server does not append the row again
        wait_until(lambda: client.service.follower.states["tiny"].canary is not None)
    assert len([row for row in env.ledger.promotions() if row.action == "canary"]) == 1


def test_rows_without_a_key_get_their_position_in_the_request(env):
    """The generated key has the position in the request for both champion and canary."""
    env.edit_config(promotion={"shadow": {"partitions": 2}, "canary": {"share": 0.5}})
    stage_challenger(env)
    rows = [row | {"parcel": None} for row in request_rows(9, 30)]
    with running_client(env) as client:
        wait_until(lambda: client.service.follower.states["tiny"].canary is not None)
        response = client.post(PATH, json={"instances": rows}).json()
    recorded = served_rows(load_model("tiny"), "2024-03-10").to_pandas().set_index("request_row").sort_index()
    assert recorded.index.tolist() == list(range(30))
    assert recorded["parcel"].tolist() == [f"{response['request_id']}-{i}" for i in range(30)]
    assert recorded["model_version"].tolist() == response["versions"]
    assert recorded["prediction"].tolist() == [probabilities[1] for probabilities in response["predictions"]]
    assert recorded["weight"].tolist() == [row["weight"] for row in rows]


def return_nan(monkeypatch, depth: int) -> None:
    """Let the version with trees of a depth predict NaN for the second row of a request."""
    predict = versions._raw_predictions

    def with_nan(estimator, inputs, kind):
        predictions = predict(estimator, inputs, kind)
        if estimator.estimator.max_depth == depth and len(predictions) > 1:
            predictions = predictions.copy()
            predictions[1] = np.nan
        return predictions

    monkeypatch.setattr(versions, "_raw_predictions", with_nan)


def test_a_nan_prediction_of_the_champion_fails_the_request(env, monkeypatch):
    with running_client(env) as client:
        return_nan(monkeypatch, depth=3)
        response = client.post(PATH, json={"instances": request_rows(9, 3)})
        assert client.post(PATH, json={"instances": request_rows(10, 1)}).status_code == 200
    assert (response.status_code, response.json()["type"]) == (500, "urn:evergreen:problem:no-number")
    assert "version 1 predicts NaN or infinity for row 1" in response.json()["detail"]
    with pytest.raises(MissingSource):
        served_rows(load_model("tiny"), "2024-03-10")


def test_a_nan_prediction_of_the_canary_counts_as_failed_and_is_not_recorded(env, monkeypatch):
    env.edit_config(promotion={"shadow": {"partitions": 2}, "canary": {"share": 0.5}})
    stage_challenger(env)
    with running_client(env) as client:
        wait_until(lambda: client.service.follower.states["tiny"].canary is not None)
        return_nan(monkeypatch, depth=1)
        response = client.post(PATH, json={"instances": request_rows(9, 30)}).json()
        assert (response["version"], "versions" in response) == ("1", False)
        canary = client.service.follower.states["tiny"].canary
        wait_until(
            lambda: 'outcome="failed",version="2"' in client.get("/metrics").text.split("evergreen_shadow_rows", 1)[-1]
        )
        rows, failed, _ = canary._counts()
        assert rows == failed > 0
    recorded_rows = served_rows(load_model("tiny"), "2024-03-10", (CHAMPION, CANARY, SHADOW)).to_pandas()
    assert (set(recorded_rows["model_version"]), len(recorded_rows)) == ({"1"}, 30)


@pytest.mark.parametrize("fault", ["errors", "slow"])
def test_an_exceeded_budget_ends_the_canary_and_refuses_the_version(env, monkeypatch, fault):
    rule = {"share": 0.5, "min_requests": 20, "max_error_share": 0.1, "p99_ms": 1000 if fault == "errors" else 1e-6}
    env.edit_config(promotion={"shadow": {"partitions": 2}, "canary": rule})
    stage_challenger(env)
    predict = ServedVersion.predict

    def failing(self, inputs):
        if self.version == "2" and fault == "errors":
            raise RuntimeError("broken")
        return predict(self, inputs)

    with running_client(env) as client:
        wait_until(lambda: client.service.follower.states["tiny"].canary is not None)
        monkeypatch.setattr(ServedVersion, "predict", failing)
        for i in range(60):
            row = request_rows(9, 1)[0] | {"parcel": f"p{i}"}
            assert client.post(PATH, json={"instances": [row]}).status_code == 200
        wait_until(lambda: env.ledger.promotions()[-1].action == "refuse")
        wait_until(lambda: client.service.follower.states["tiny"].challenger is None)
    last = env.ledger.promotions()[-1]
    assert (last.version, last.to_stage, last.by) == ("2", "refused", SERVING)
    assert last.evidence["requests"] >= (20 if fault == "errors" else 3)  # extreme latencies end it sooner
    message = "rows failed, more than max_error_share" if fault == "errors" else "99th percentile"
    assert message in last.reason
    assert env.ledger.champion().version == "1"


def test_rows_without_the_challengers_features_are_predicted_by_the_champion(env):
    """A challenger with a new feature gets no rows until clients send the feature."""
    env.edit_config(
        features={"numeric": ["weight", "distance", "height"], "categorical": ["city"], "retired": ["distance"]}
    )
    env.edit_config(promotion={"shadow": {"partitions": 2}, "canary": {"share": 0.5, "min_requests": 5}})
    env.append_row("stage", "2", env.fit_version("2", depth=1, columns={"height": 1.0}))
    with running_client(env) as client:
        wait_until(lambda: client.service.follower.states["tiny"].canary is not None)
        for _ in range(10):
            response = client.post(PATH, json={"instances": request_rows(9, 20)}).json()
            assert (response["version"], "versions" in response) == ("1", False)
        assert client.service.follower.states["tiny"].canary.requests == 0
        rows_with_height = [row | {"height": 1.0} for row in request_rows(9, 20)]
        assert set(client.post(PATH, json={"instances": rows_with_height}).json()["versions"]) == {"1", "2"}
    assert env.ledger.challenger().version == "2"


def test_a_response_of_the_canary_alone_has_its_version(env):
    env.edit_config(promotion={"shadow": {"partitions": 2}, "canary": {"share": 0.5}})
    stage_challenger(env)
    keys = [f"k{i}" for i in range(20)]
    in_canary = next(key for key, selected in zip(keys, canary_mask("tiny", keys, 0.5), strict=True) if selected)
    with running_client(env) as client:
        wait_until(lambda: client.service.follower.states["tiny"].canary is not None)
        response = client.post(PATH, json={"instances": [request_rows(9, 1)[0] | {"parcel": in_canary}]})
    assert response.json()["version"] == response.headers["x-model-version"] == "2"


def test_the_challenger_runs_in_shadow_mode_while_it_waits_for_approval(env):
    env.edit_config(promotion={"approval": True})
    stage_challenger(env)
    with running_client(env) as client:
        wait_until(lambda: client.service.follower.states["tiny"].challenger is not None)
        client.post(PATH, json={"instances": request_rows(9, 4)})
    assert len(served_rows(load_model("tiny"), "2024-03-10", (SHADOW,))) == 4


def test_a_canary_within_its_budgets_continues():
    canary = CanaryRun(Canary(share=0.1, min_requests=10, max_error_share=0.2, p99_ms=50), None)
    for i in range(100):
        canary.record(5, 1 if i % 10 == 0 else 0, 10.0)
    assert canary.broken == ""
    assert canary._counts() == (500, 10, 10.0)


def test_a_canary_requires_shadow_partitions_or_approval():
    with pytest.raises(ValidationError, match=r"set shadow\.partitions or approval"):
        PromotionConfig(canary=Canary(share=0.1))
    assert PromotionConfig(canary=Canary(share=0.1), approval=True).canary.share == 0.1
