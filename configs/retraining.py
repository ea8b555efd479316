"""What `retraining:` in model.yaml may say: which facts lead to a retraining, how often, and what happens afterwards."""

from datetime import timedelta
from typing import Self

from pydantic import Field, model_validator

from configs.base import Duration, Strict


class Drifted(Strict):
    """Drift counts when it was found in `times` of the last `of` partitions, the newest among them."""

    times: int = Field(1, ge=1, description="partitions with drift that make it count")
    of: int = Field(1, ge=1, description="newest partitions that are looked at")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.times > self.of:
            raise ValueError(f"{self.times} of the last {self.of} partitions can never have drifted")
        return self


class Trusted(Strict):
    """An estimated decay counts once the estimates have proved themselves."""

    after: int = Field(
        3,
        ge=1,
        description="matured partitions on each of which the estimate erred by less than the decay that it reports",
    )


class Signals(Strict):
    """Which facts count. What is not named is watched and told of, but never retrains. A person always may."""

    drift: Drifted | None = Field(Drifted(), description="drift of features or predictions; null: never")
    target: bool = Field(False, description="drift of the matured outcomes")
    decay: bool = Field(True, description="decay of the realised performance")
    estimate: Trusted | None = Field(None, description="decay of the estimated performance, before labels are there")
    every: Duration | None = Field(None, description="as-of time since the last training after which one is due")
    partitions: int | None = Field(
        None, ge=1, description="assessed partitions since the last training after which one is due"
    )
    new_labels: int | None = Field(
        None, ge=1, description="matured rows since the champion's window from which a training is due"
    )
    growth: float | None = Field(
        None,
        gt=0,
        description="the same as a share of the rows that the champion learned from; 0.5: half as many again",
    )


class Budget(Strict):
    """What retrainings may cost in a period of as-of time."""

    period: Duration = Field(timedelta(days=365), description="as-of time that the limits are for")
    runs: int | None = Field(None, ge=1, description="retrainings in the period, failed ones too")
    seconds: float | None = Field(None, gt=0, description="seconds of training in the period, as they were recorded")


class Hindsight(Strict):
    """Whether a promotion helped: by the version before, which goes on scoring in the shadow until that is known."""

    partitions: int = Field(2, ge=0, description="matured partitions after which it is judged; 0: never")
    confidence: float = Field(0.9, gt=0.5, lt=1, description="one-sided confidence of helped, and of hurt")
    rollback: bool = Field(False, description="roll back by itself from a promotion that hurt")


class Retraining(Strict):
    """When a fact leads to a retraining, all in as-of time."""

    enabled: bool = Field(True, description="false: facts are written down and declined; a person may still retrain")
    signals: Signals = Signals()
    cool_down: Duration = Field(
        timedelta(0), description="as-of time that must pass after a champion's training before the next"
    )
    budget: Budget = Budget()
    attempts: int = Field(2, ge=1, description="how often one fact's retraining is tried when it fails or is killed")
    hindsight: Hindsight = Hindsight()
