"""One version in memory, as it answers requests; taken only when it has answered rows of every sort."""

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.features import Features
from configs.schema import ModelConfig
from serving.contract import Contract, Given, contract_of
from serving.journal import Answered, Call
from tasks.contracts import Stage
from tasks.errors import CorruptPartition, EvergreenError, MissingPartition
from tasks.models.fast_predict import NoPlan, Plan, plan_of
from tasks.models.features import inputs_of, inputs_wanted
from tasks.models.smoke_test import sorts_of, unsound
from tasks.resources import Resources

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("serving")

ROWS = 100
"""Real rows that a version is asked about before it is taken."""
SINGLES = 1
"""Rows of each sort that are also asked about alone."""


class NotSound(EvergreenError):
    """A version loads, but does not answer as it should. The version before goes on."""


class NoNumber(EvergreenError):
    """A version says NaN or infinity about a row."""


@dataclass(frozen=True)
class Pick:
    """A version that the ledger wants served, and the row that says so."""

    version: str
    as_of: datetime
    digest: str
    sequence: int


@dataclass(frozen=True)
class Served:
    """A version that answers. Nothing of it changes, so a request that holds it sees one version to its end."""

    model: str
    pick: Pick
    model_object: Any = field(repr=False)
    features: Features
    contract: Contract = field(repr=False)
    kind: str
    plan: Plan | None = field(repr=False)
    why_no_plan: str = ""
    """What the plan does not know, where rows go through the pipeline as it is."""

    @property
    def version(self) -> str:
        return self.pick.version

    def takes(self, given: Given) -> bool:
        """Whether rows that another version takes have everything that this one needs."""
        return all(name in given.values for name in self.features.all)

    def answer(self, given: Given) -> np.ndarray:
        """What the model says, float64: a value a row for regression, a probability of each class else, as `mlflow models serve` has it.

        Raises:
            NoNumber: it says something that is none.
        """
        if self.plan:
            said = _say(self.plan.estimator, self.plan.matrix(given.values), self.kind)
        else:
            said = _say(self.model_object, inputs_of(_frame(given), self.features), self.kind)
        if not (finite := np.isfinite(said)).all():
            row = int(np.argmin(finite.reshape(given.rows, -1).all(axis=1)))
            raise NoNumber(f"version {self.version} says something that is no number about row {row}")
        return said.astype("float64", copy=False)

    def answered(
        self, role: str, given: Given, said: np.ndarray, call: Call, places: np.ndarray | None = None
    ) -> Answered:
        """What goes on record of rows that it has answered."""
        return Answered(self.model, self.version, self.pick.as_of, role, given, said, call, places)


def _say(estimator: Any, inputs: Any, kind: str) -> np.ndarray:
    return estimator.predict(inputs) if kind == "regression" else estimator.predict_proba(inputs)


def _frame(given: Given) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({name: pd.Series(values) for name, values in given.values.items()})


def take(pick: Pick, res: Resources) -> Served:
    """Load a version, and ask it rows of every sort.

    Its plan must say what its pipeline says, to the bit; where it does not, or has a step that no plan knows, the pipeline answers.

    Raises:
        RegistryUnavailable, UnknownVersion, ForgedVersion: it cannot be loaded.
        NotSound: it fails on rows as production sends them.
    """
    model = res.registry.load(pick.version, pick.digest)
    config, features = res.config, inputs_wanted(model, res.config)
    plan, why = _plan(model)
    if plan:
        plan.limit(1)  # a row is predicted on one core
    rows = example_rows(res, features)
    for name, part in sorts_of(rows, features).items():
        if problem := unsound(model, part, config):
            told = problem.partition(": ")[0]  # an error's text may hold values of the rows
            raise NotSound(f"version {pick.version} of {config.name}: {name}: {told}")
    if plan and (odd := _odd(plan, model, rows, features, config)):
        plan, why = None, f"its plan says something else than its pipeline about {odd}"
    contract = contract_of(config, features)
    return Served(config.name, pick, model, features, contract, config.target.kind, plan, why)


def _plan(model: Any) -> tuple[Plan | None, str]:
    try:
        return plan_of(model), ""
    except NoPlan as reason:
        return None, str(reason)


def _odd(plan: Plan, model: Any, rows: "pd.DataFrame", features: Features, config: ModelConfig) -> str:
    """A sort of rows about which a plan and the pipeline do not say the same; empty where they always do."""
    for name, part in sorts_of(rows, features).items():
        for few in (part, *(part.iloc[[at]] for at in range(min(SINGLES, len(part))))):
            values = {name: _listed(few[name]) for name in features.all}
            said = _say(plan.estimator, plan.matrix(values), config.target.kind)
            wanted = _say(model, inputs_of(few, features), config.target.kind)
            if said.astype("float64").tobytes() != wanted.astype("float64").tobytes():
                return name
    return ""


def _listed(values: "pd.Series") -> list[Any]:
    """As a request has them."""
    return values.astype(object).where(values.notna(), None).tolist()


def example_rows(res: Resources, features: Features) -> "pd.DataFrame":
    """Rows of the newest valid partition that has all of a version's features, or made up where there is none."""
    try:
        for key in reversed(res.lake.keys(Stage.VALID)[-3:]):
            with suppress(MissingPartition, CorruptPartition):
                found = next(res.lake.batches(Stage.VALID, key)).slice(0, ROWS).to_pandas()
                if len(found) and set(features.all) <= set(found.columns):
                    return found
    except Exception as error:  # noqa: BLE001  (a lake that is away, by whatever name, is no reason to lose a champion)
        log.warning(
            "the lake does not answer (%s); versions are asked about rows that are made up", type(error).__name__
        )
    return made_up(features)


def made_up(features: Features) -> "pd.DataFrame":
    """Rows of numbers of every size, and of categories that no version knows."""
    import pandas as pd

    rng = np.random.default_rng(0)
    numbers = {name: rng.standard_normal(ROWS) * 10.0 ** rng.integers(-2, 4) for name in features.numeric}
    return pd.DataFrame(numbers | {name: [f"made up {at % 7}" for at in range(ROWS)] for name in features.categorical})


def class_names(config: ModelConfig) -> list[str]:
    """What the columns of an answer are; empty for a number."""
    if config.target.kind == "regression":
        return []
    return list(config.target.classes) or ["0", "1"]
