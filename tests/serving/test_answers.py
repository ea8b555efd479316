"""Batch, pyfunc and online predictions of the same rows are the same to the last bit, whatever the model and the rows."""

import json
from datetime import UTC, datetime

import mlflow
import numpy as np
import orjson
import pandas as pd
import pytest

from serving.contract import contract_of
from serving.envelope import Table
from serving.versions import Pick, Served, _listed, _odd, made_up
from tasks.contracts import Recipe
from tasks.models.calibration import calibrated, response
from tasks.models.estimators import TRUSTED
from tasks.models.fast_predict import plan_of
from tasks.models.features import inputs_of, predict
from tasks.models.smoke_test import sorts_of
from tasks.models.targets import outcomes
from tasks.registry.versions import signature
from tasks.training.splits import fit
from tests.tasks.models.test_estimators import WAYS, config, resources, rows

NOW = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("estimator", "kind", "calibration"), WAYS)
def test_online_says_what_batch_and_pyfunc_say_to_the_bit(estimator, kind, calibration, tmp_path):
    made, data = config(kind), rows(kind)
    model = fit(Recipe("x", estimator, {}), data, resources(made))
    if calibration != "none":
        answered = response(model, inputs_of(data, made.features))
        model = calibrated(model, answered, outcomes(data, made.target), calibration)
    mlflow.sklearn.save_model(
        model, tmp_path / "model", serialization_format="skops", skops_trusted_types=list(TRUSTED),
        signature=signature(made), pip_requirements=["scikit-learn"],
        pyfunc_predict_fn="predict" if kind == "regression" else "predict_proba",
    )  # fmt: skip
    pyfunc = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    contract = contract_of(made, made.features)
    pick = Pick("1", NOW, "", 1)
    served = Served("made", pick, model, made.features, contract, kind, plan_of(model))
    as_it_is = Served("made", pick, model, made.features, contract, kind, None, "a test")
    for name, part in sorts_of(data.head(200), made.features).items():
        inputs = part[["a", "b", "c"]]
        table = Table({column: _listed(inputs[column]) for column in inputs}, len(inputs))
        online = served.answer(contract.hold(table, NOW))
        theirs = np.asarray(pyfunc.predict(inputs.assign(c=inputs["c"].astype(object)))).astype("float64")
        assert online.tobytes() == theirs.tobytes(), name
        assert as_it_is.answer(contract.hold(table, NOW)).tobytes() == theirs.tobytes(), name
        batch = predict(model, part, made)
        assert (online[:, 1] if kind == "binary" else online).tobytes() == batch.tobytes(), name
        assert np.array(json.loads(orjson.dumps(online.tolist()))).tobytes() == online.tobytes(), name


def test_a_plan_that_says_something_else_is_found():
    made, data = config(), rows()
    model, other = (fit(Recipe("x", "xgboost", {"n_estimators": n}), data, resources(made)) for n in (5, 6))
    assert _odd(plan_of(model), model, data.head(50), made.features, made) == ""
    assert _odd(plan_of(other), model, data.head(50), made.features, made) == "real rows"


def test_rows_are_made_up_where_no_partition_is_there():
    made = config()
    found = made_up(made.features)
    assert list(found.columns) == ["a", "b", "c"]
    pd.testing.assert_frame_equal(found, made_up(made.features))
