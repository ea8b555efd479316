"""Batch, pyfunc and online predictions of the same rows are identical to the last bit, for all models and kinds of rows."""

import json
from datetime import UTC, datetime

import mlflow
import numpy as np
import orjson
import pandas as pd
import pytest

from serving.contract import contract_of
from serving.envelope import Table
from serving.versions import ServedVersion, VersionRef, _mismatch, _to_list, synthetic_rows
from tasks.contracts import Recipe
from tasks.models.calibration import calibrate, response
from tasks.models.estimators import TRUSTED_TYPES
from tasks.models.fast_predict import plan_of
from tasks.models.features import inputs_of, predict
from tasks.models.smoke_test import row_variants
from tasks.models.targets import outcomes
from tasks.registry.versions import signature
from tasks.training.splits import fit
from tests.tasks.models.test_estimators import VARIANTS, config, resources, rows

NOW = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.long
@pytest.mark.parametrize(("estimator", "kind", "calibration"), VARIANTS)
def test_online_batch_and_pyfunc_predictions_are_identical(estimator, kind, calibration, tmp_path):
    model_config, data = config(kind), rows(kind)
    model = fit(Recipe("x", estimator, {}), data, resources(model_config))
    if calibration != "none":
        raw = response(model, inputs_of(data, model_config.features))
        model = calibrate(model, raw, outcomes(data, model_config.target), calibration)
    mlflow.sklearn.save_model(
        model, tmp_path / "model", serialization_format="skops", skops_trusted_types=list(TRUSTED_TYPES),
        signature=signature(model_config), pip_requirements=["scikit-learn"],
        pyfunc_predict_fn="predict" if kind == "regression" else "predict_proba",
    )  # fmt: skip
    pyfunc = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    contract = contract_of(model_config, model_config.features)
    ref = VersionRef("1", NOW, "", 1)
    served = ServedVersion("tiny", ref, model, model_config.features, contract, kind, plan_of(model))
    without_plan = ServedVersion("tiny", ref, model, model_config.features, contract, kind, None, "a test")
    for name, part in row_variants(data.head(200), model_config.features).items():
        inputs = part[["a", "b", "c"]]
        table = Table({column: _to_list(inputs[column]) for column in inputs}, len(inputs))
        online = served.predict(contract.validate(table, NOW))
        expected = np.asarray(pyfunc.predict(inputs.assign(c=inputs["c"].astype(object)))).astype("float64")
        assert online.tobytes() == expected.tobytes(), name
        assert without_plan.predict(contract.validate(table, NOW)).tobytes() == expected.tobytes(), name
        batch = predict(model, part, model_config)
        assert (online[:, 1] if kind == "binary" else online).tobytes() == batch.tobytes(), name
        assert np.array(json.loads(orjson.dumps(online.tolist()))).tobytes() == online.tobytes(), name


def test_a_plan_that_predicts_differently_is_detected():
    model_config, data = config(), rows()
    model, other = (fit(Recipe("x", "xgboost", {"n_estimators": n}), data, resources(model_config)) for n in (5, 6))
    assert _mismatch(plan_of(model), model, data.head(50), model_config.features, model_config) == ""
    assert _mismatch(plan_of(other), model, data.head(50), model_config.features, model_config) == "real rows"


def test_synthetic_rows_are_the_same_on_every_call():
    model_config = config()
    rows_ = synthetic_rows(model_config.features)
    assert list(rows_.columns) == ["a", "b", "c"]
    pd.testing.assert_frame_equal(rows_, synthetic_rows(model_config.features))
