"""Everything that can change a prediction changes a model's digest."""

import copy
import functools
import io
import json
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io

from configs.kinds import KINDS
from tasks.contracts import Recipe
from tasks.errors import ForgedVersion
from tasks.models.calibration import calibrate, response
from tasks.models.estimators import read_model
from tasks.models.features import inputs_of, predict
from tasks.models.fingerprint import TRANSIENT, model_digest
from tasks.models.targets import outcomes
from tasks.training.splits import fit
from tests.tasks.models.test_estimators import config, resources, rows

DATA, CONFIG = rows(count=150), config()
NAMES = [name for name, kinds in KINDS.items() if "binary" in kinds]


@functools.cache
def fitted(name: str, calibration: Any = "none") -> Any:
    """Return a small fitted classifier. Tests change copies of it."""
    params = {} if name == "logistic_regression" else {"max_depth": 3}
    if name != "logistic_regression":
        params["max_iter" if name == "hist_gradient_boosting" else "n_estimators"] = 3
    res: Any = resources(CONFIG)
    model = fit(Recipe("x", name, params), DATA, res)
    if calibration == "none":
        return model
    return calibrate(
        model, response(model, inputs_of(DATA, CONFIG.features)), outcomes(DATA, CONFIG.target), calibration
    )


def both_predictions(model: Any) -> tuple[bytes, bytes]:
    """Predict with the model's plan, as batches and requests do, and with the pipeline itself."""
    return predict(model, DATA, CONFIG).tobytes(), model.predict_proba(inputs_of(DATA, CONFIG.features)).tobytes()


def test_a_method_that_is_replaced_on_the_instance_of_an_estimator_changes_the_digest(tmp_path: Path) -> None:
    """skops stores the attribute, and every prediction of the pipeline is another one."""
    model = copy.deepcopy(fitted("xgboost"))
    digest, before = model_digest(model), both_predictions(model)[1]
    model["estimate"].predict_proba = functools.partial(np.add, 0.5)
    skops.io.dump(model, tmp_path / "model.skops")
    forged = read_model(tmp_path / "model.skops")
    assert both_predictions(forged)[1] != before, "its types are those of our models"
    assert model_digest(forged) == model_digest(model) != digest
    with pytest.raises(ForgedVersion, match="another model"):
        read_model(tmp_path / "model.skops", digest)


def test_the_contents_of_a_partial_change_the_digest() -> None:
    """HistGradientBoosting checks its inputs by a partial."""
    model = copy.deepcopy(fitted("hist_gradient_boosting"))
    digest = model_digest(model)
    (number,) = [part for name, part, _ in model["estimate"]._preprocessor.transformers_ if name == "numerical"]
    check = number.func
    for other in (
        functools.partial(check.func, **{**check.keywords, "dtype": [np.float32]}),
        functools.partial(check.func, 1, **check.keywords),
        functools.partial(np.nan_to_num, **check.keywords),
    ):
        number.func = other
        assert model_digest(model) != digest
    number.func = functools.partial(check.func, **check.keywords)
    assert model_digest(model) == digest


def test_an_xgboost_objective_that_is_replaced_in_its_configuration_changes_the_digest() -> None:
    model = copy.deepcopy(fitted("xgboost"))
    digest, before = model_digest(model), both_predictions(model)
    model["estimate"].get_booster().set_param({"nthread": 3})
    assert model_digest(model) == digest, "threads do not change predictions"
    model["estimate"].get_booster().set_param({"objective": "reg:squarederror"})
    assert both_predictions(model) != before
    assert model_digest(model) != digest


def parts(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Iterate over the attributes of a model and of all objects in it, and over its dictionaries."""
    if isinstance(value, dict):
        inner = value
        yield path, value
    elif isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        inner = {str(at): part for at, part in enumerate(value)}
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        inner = {k: v for k, v in vars(value).items() if k != "handle"}
        yield path, vars(value)
    else:
        return
    for name, part in list(inner.items()):
        yield from parts(part, f"{path}.{name}")


def changed(value: Any) -> Any:
    """Return another value, as near as possible."""
    if isinstance(value, bool | np.bool_) or value is None:
        return 1 if value is None else not value
    if isinstance(value, int | float | np.number):
        kind: Any = type(value)
        return kind(value + 1) if value == value else 0.0
    if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "fiu":
        content = bytearray(value.tobytes())
        content[0] ^= 1  # the lowest bit of the first number
        return np.frombuffer(content, value.dtype).reshape(value.shape)
    return (value, "another")


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "calibration"), [*((name, "none") for name in NAMES), ("xgboost", "sigmoid"), ("xgboost", "isotonic")]
)
def test_every_attribute_of_every_object_in_a_model_counts(name: str, calibration: str) -> None:
    model = copy.deepcopy(fitted(name, calibration))
    digest, tried = model_digest(model), 0
    for path, attributes in parts(model):
        for key in [key for key in attributes if key not in (*TRANSIENT, "handle")]:
            before = attributes[key]
            attributes[key] = changed(before)
            assert model_digest(model) != digest, f"{path}.{key}"
            attributes[key] = before
            tried += 1
        if attributes and isinstance(next(iter(attributes)), str):
            attributes["an_added_attribute"] = None
            assert model_digest(model) != digest, path
            del attributes["an_added_attribute"]
    assert tried > 30
    assert model_digest(model) == digest


def scalars(value: Any) -> Iterator[tuple[Any, Any]]:
    """Iterate over the container and key of every scalar in a JSON document."""
    for key, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
        if isinstance(part, dict | list):
            yield from scalars(part)
        else:
            yield value, key


def with_a_change(content: bytes, rng: random.Random) -> bytes:
    """Change one scalar or one byte in a skops file, whose checksums are made anew, as somebody would who forges it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    arrays = [name for name in files if name.endswith(".npy")]  # XGBoost crashes when it reads a changed buffer
    name = rng.choice([*arrays, *["schema.json"] * max(1, len(arrays))])
    if name == "schema.json":
        schema = json.loads(files[name])
        container, key = rng.choice(list(scalars(schema)))
        container[key] = rng.choice([None, 0, 1, "1", "0.5", "numpy", True])
        files[name] = json.dumps(schema).encode()
    elif files[name]:
        at = rng.randrange(len(files[name]))
        files[name] = files[name][:at] + bytes([files[name][at] ^ 1 << rng.randrange(8)]) + files[name][at + 1 :]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_changed_file_is_refused_or_predicts_the_same(name: str, tmp_path: Path) -> None:
    model, file, rng = fitted(name), tmp_path / "model.skops", random.Random(name)
    digest, predictions, content = model_digest(model), both_predictions(model), skops.io.dumps(model)
    refused = 0
    for _ in range(150):
        file.write_bytes(with_a_change(content, rng))
        try:
            same = read_model(file, digest)  # a model with another digest is not asked, since it could crash
        except ForgedVersion:
            refused += 1
            continue
        assert both_predictions(same) == predictions
    assert refused > 10
