"""A model version in memory that predicts requests. It is used only after it passed a smoke test."""

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.features import Features
from configs.schema import ModelConfig
from serving.contract import Contract, InputRows, contract_of
from serving.journal import Call, ScoredRows
from tasks.contracts import Stage
from tasks.errors import CorruptPartition, EvergreenError, MissingPartition
from tasks.models.encoding_tables import NoPredictionPlan
from tasks.models.fast_predict import PredictionPlan, plan_of
from tasks.models.features import input_features, inputs_of
from tasks.models.smoke_test import prediction_problem, row_variants
from tasks.resources import Resources

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

log = logging.getLogger("serving")

SMOKE_ROWS = 100
"""Rows of the smoke test."""
SINGLE_ROWS = 1
"""Rows of each variant that are also predicted one at a time."""


class FailedSmokeTest(EvergreenError):
    """A version can be loaded, but failed its smoke test. The current version stays in use."""


class NonFinitePrediction(EvergreenError):
    """A version predicts NaN or infinity for a row."""


@dataclass(frozen=True)
class VersionRef:
    """A version to serve, with its digest and the ledger row (`as_of`, `sequence`) that made it champion or challenger."""

    version: str
    as_of: datetime
    digest: str
    sequence: int


@dataclass(frozen=True)
class ServedVersion:
    """A loaded version. It is immutable, so a request uses the same version from start to end."""

    model: str
    ref: VersionRef
    model_object: Any = field(repr=False)
    features: Features
    contract: Contract = field(repr=False)
    kind: str
    plan: PredictionPlan | None = field(repr=False)
    no_plan_reason: str = ""
    """Why the model has no prediction plan and its pipeline is used, else empty."""

    @property
    def version(self) -> str:
        """The version's number in the registry."""
        return self.ref.version

    def accepts(self, inputs: InputRows) -> bool:
        """Whether rows that were validated for another version have all features of this one."""
        return all(name in inputs.values for name in self.features.all)

    def predict(self, inputs: InputRows) -> np.ndarray:
        """Predict rows, as `mlflow models serve` does.

        Returns:
            float64: values of shape (rows,) for regression, else probabilities of shape (rows, classes).

        Raises:
            NonFinitePrediction: A prediction is NaN or infinite.
        """
        if self.plan:
            predictions = _raw_predictions(self.plan.estimator, self.plan.matrix(inputs.values), self.kind)
        else:
            predictions = _raw_predictions(self.model_object, inputs_of(_to_frame(inputs), self.features), self.kind)
        if not (finite := np.isfinite(predictions)).all():
            row = int(np.argmin(finite.reshape(inputs.rows, -1).all(axis=1)))
            raise NonFinitePrediction(f"version {self.version} predicts NaN or infinity for row {row}")
        return predictions.astype("float64", copy=False)

    def scored_rows(
        self, role: str, inputs: InputRows, predictions: np.ndarray, call: Call, positions: np.ndarray | None = None
    ) -> ScoredRows:
        """Return predictions of this version as the sink records them."""
        return ScoredRows(self.model, self.version, self.ref.as_of, role, inputs, predictions, call, positions)


def _raw_predictions(estimator: Any, inputs: Any, kind: str) -> np.ndarray:
    return estimator.predict(inputs) if kind == "regression" else estimator.predict_proba(inputs)


def _to_frame(inputs: InputRows) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({name: pd.Series(values) for name, values in inputs.values.items()})


def serve_model(model: Any, ref: VersionRef, res: Resources) -> ServedVersion:
    """Compile the loaded model of a version, and run a smoke test on real rows, rows with nulls, unseen categories and single rows.

    The prediction plan is used if it predicts the same as the pipeline to the last bit. Otherwise the pipeline is used.

    Raises:
        FailedSmokeTest: Its predictions fail or are invalid.
    """
    config, features = res.config, input_features(model, res.config)
    plan, reason = _compile(model)
    if plan:
        plan.set_threads(1)  # a row is predicted on one core
    batch = recent_batch(res, features)
    rows = synthetic_rows(features) if batch is None else batch.slice(0, SMOKE_ROWS).to_pandas()
    for name, part in row_variants(rows, features).items():
        if problem := prediction_problem(model, part, config):
            summary = problem.partition(": ")[0]  # the text of an error may contain values of the rows
            raise FailedSmokeTest(f"version {ref.version} of {config.name}: {name}: {summary}")
    if plan and (mismatch := _mismatch(plan, model, rows, features, config)):
        plan, reason = None, f"its plan and its pipeline predict differently for {mismatch}"
    contract = contract_of(config, features, booleans_of(batch, features))
    return ServedVersion(config.name, ref, model, features, contract, config.target.kind, plan, reason)


def _compile(model: Any) -> tuple[PredictionPlan | None, str]:
    try:
        return plan_of(model), ""
    except NoPredictionPlan as reason:
        return None, str(reason)


def _mismatch(plan: PredictionPlan, model: Any, rows: "pd.DataFrame", features: Features, config: ModelConfig) -> str:
    """Return the variant of rows that plan and pipeline predict differently, or an empty string."""
    for name, part in row_variants(rows, features).items():
        for sample in (part, *(part.iloc[[at]] for at in range(min(SINGLE_ROWS, len(part))))):
            values = {name: _to_list(sample[name]) for name in features.all}
            predictions = _raw_predictions(plan.estimator, plan.matrix(values), config.target.kind)
            expected = _raw_predictions(model, inputs_of(sample, features), config.target.kind)
            if predictions.astype("float64").tobytes() != expected.astype("float64").tobytes():
                return name
    return ""


def _to_list(values: "pd.Series") -> list[Any]:
    """Return values as a request contains them, with None for null."""
    return values.astype(object).where(values.notna(), None).tolist()


def recent_batch(res: Resources, features: Features) -> "pa.Table | None":
    """Return rows of a recent valid partition that has all features of a version, or None if there is none."""
    try:
        for key in reversed(res.lake.keys(Stage.VALID)[-3:]):
            with suppress(MissingPartition, CorruptPartition):
                batch = next(res.lake.batches(Stage.VALID, key))
                if len(batch) and set(features.all) <= set(batch.schema.names):
                    return batch
    except Exception as error:  # noqa: BLE001  (an unavailable lake must not prevent serving; its error types differ)
        log.warning("the lake does not respond (%s); versions are tested with synthetic rows", type(error).__name__)
    return None


def booleans_of(batch: "pa.Table | None", features: Features) -> list[str]:
    """Return the numeric features that are 0 and 1, both and nothing else: in the lake, booleans are stored as numbers."""
    import pyarrow.compute as pc

    columns = {name: batch[name].drop_null() for name in features.numeric} if batch is not None else {}
    ranges = {name: pc.min_max(column).as_py() for name, column in columns.items()}
    candidates = [name for name, ends in ranges.items() if ends == {"min": 0, "max": 1}]
    return [name for name in candidates if len(columns[name].unique()) == 2]


def synthetic_rows(features: Features) -> "pd.DataFrame":
    """Return `SMOKE_ROWS` rows with numbers of many magnitudes and unseen categories, the same on every call."""
    import pandas as pd

    rng = np.random.default_rng(0)
    numbers = {name: rng.standard_normal(SMOKE_ROWS) * 10.0 ** rng.integers(-2, 4) for name in features.numeric}
    categories = {name: [f"unseen {i % 7}" for i in range(SMOKE_ROWS)] for name in features.categorical}
    return pd.DataFrame(numbers | categories)


def class_names(config: ModelConfig) -> list[str]:
    """Return the class of each column of a prediction, empty for regression."""
    if config.target.kind == "regression":
        return []
    return list(config.target.classes) or ["0", "1"]
