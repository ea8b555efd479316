"""Schema of `retraining:` in model.yaml: which facts lead to a retraining, how often, and how its effect is measured."""

from datetime import timedelta
from typing import Self

from pydantic import Field, model_validator

from configs.base import Duration, Strict


class DriftSignal(Strict):
    """Drift leads to a retraining if `times` of the last `of` partitions have drifted, the newest included."""

    times: int = Field(1, ge=1, description="number of partitions with drift that are needed")
    of: int = Field(1, ge=1, description="number of newest partitions that are considered")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.times > self.of:
            raise ValueError(f"{self.times} of the last {self.of} partitions can never have drifted")
        return self


class EstimateSignal(Strict):
    """An estimated decay leads to a retraining if recent estimates were accurate."""

    after: int = Field(
        3, ge=1, description="matured partitions whose estimation error must be below the reported decay"
    )


class ExpectedGain(Strict):
    """A retraining is due when its expected gain reaches `retraining.cost`, see docs/decisions/0014.

    The gain follows from the measured staleness of this model's champions. Drift and decay are occasions to ask again.
    """

    calendar: int = Field(
        4,
        ge=1,
        description="partitions between retrainings that are assumed to be right until staleness is measured. "
        "Without `retraining.cost` this calendar alone decides",
    )


class Signals(Strict):
    """Facts that lead to a retraining. The others are recorded and reported only. A person can always retrain."""

    expected_gain: ExpectedGain | None = Field(
        None,
        description="retrain when that is expected to gain more than `retraining.cost`; drift and decay are then judged by it too",
    )

    drift: DriftSignal | None = Field(DriftSignal(), description="drift of features or predictions; null: off")
    target: bool = Field(False, description="drift of the target in matured rows")
    decay: bool = Field(True, description="decay of the realised performance")
    estimate: EstimateSignal | None = Field(
        None,
        description="decay of the estimated performance, known when the partition is complete, before its labels; off unless given",
    )
    every: Duration | None = Field(None, description="as-of time since the last training after which one is due")
    partitions: int | None = Field(
        None,
        ge=1,
        description="partitions with a validation record (blocked ones included) since the last training "
        "after which one is due",
    )
    new_labels: int | None = Field(
        None, ge=1, description="matured rows since the champion's training window after which a training is due"
    )
    growth: float | None = Field(
        None,
        gt=0,
        description="the same as a share of the rows of the champion's training window; 0.5: half as many more",
    )


class Budget(Strict):
    """Limits on retrainings in a period of as-of time. They are spread over the period.

    In the last half of it at most half of the retrainings are allowed (rounded up), in the last quarter a quarter, and so on.
    """

    period: Duration = Field(timedelta(days=365), description="length of the period, in as-of time")
    runs: int | None = Field(None, ge=1, description="retrainings in the period, failed ones included")
    seconds: float | None = Field(None, gt=0, description="recorded seconds of training in the period")


class Hindsight(Strict):
    """Measured effect of a promotion: the previous champion keeps scoring in shadow mode and is compared."""

    partitions: int = Field(2, ge=0, description="matured partitions after which the effect is measured; 0: never")
    confidence: float = Field(0.9, gt=0.5, lt=1, description="one-sided confidence of the verdicts `helped` and `hurt`")
    rollback: bool = Field(False, description="true: roll back automatically from a promotion that hurt")


class Retraining(Strict):
    """When a fact leads to a retraining. All durations are as-of time."""

    enabled: bool = Field(True, description="false: facts are recorded and declined; a person can still retrain")
    cost: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="cost of one retraining, in units of the loss over one partition: 0.01 is as bad as a loss that is higher by 0.01 "
        "in one partition",
    )
    signals: Signals = Signals(drift=None, decay=False, expected_gain=ExpectedGain())
    cool_down: Duration = Field(
        timedelta(0),
        description="least as-of time since the last training that the gate judged or that gave a challenger, "
        "or since a promotion by a person",
    )
    budget: Budget = Budget()
    attempts: int = Field(2, ge=1, description="attempts per fact if its retraining fails or is killed")
    hindsight: Hindsight = Hindsight()
