"""What `monitoring:` in model.yaml may say: what a partition is compared with, by which statistic, and what counts as drift."""

from typing import Literal, Self

from pydantic import Field, model_validator

from configs.base import Every, Strict

Statistic = Literal["wasserstein", "jensenshannon", "psi", "ks"]
Reference = Literal["training", "trailing", "season"]


class Method(Strict):
    """An Evidently statistic and the least score that matters: the effect size.

    `wasserstein` is in standard deviations of the reference. `ks` is told by its distance, from 0 to 1; its p-value,
    which Evidently shows, says nothing about rows that are not independent.
    """

    method: Statistic = Field(description="Evidently's name of it")
    threshold: float = Field(gt=0, description="least score that matters")


class Multivariate(Strict):
    """A classifier that tries to tell the partition from the reference: it sees joint changes that no column shows alone.

    It fits some hundred small models a partition, so it costs minutes.
    """

    rows: int = Field(10_000, ge=500, description="rows of each side; the reference's sample is stored")
    resamples: int = Field(199, ge=99, description="relabellings of the blocks that the null is made of")
    auc: float = Field(0.6, gt=0.5, lt=1, description="least ROC AUC that matters")


class Decay(Strict):
    """When the loss of the newest partitions' matured rows is worse than what the gate saw on the champion's holdout.

    It is a fact when the rise is beyond chance, one-sided 97.5 %, *and* at least `least`.
    """

    partitions: int = Field(
        1,
        ge=1,
        description="newest matured partitions that are looked at together; days have one block each, so take several",
    )
    least: float = Field(0.05, gt=0, description="least rise that matters, as a share of the loss on the holdout")
    min_rows: int = Field(100, ge=2, description="with fewer matured rows nothing is said")


class Monitoring(Strict):
    """How a partition is compared with what its champion knows.

    A column drifts when its score is beyond what chance does to whole blocks of time *and* at least the threshold here.
    """

    numeric: Method = Method(method="wasserstein", threshold=0.1)
    categorical: Method = Method(method="jensenshannon", threshold=0.1)
    missing: float = Field(0.1, gt=0, le=1, description="least change in a column's share of nulls that matters")
    new_categories: float = Field(
        0.01, gt=0, le=1, description="least share of rows with a category that the reference does not have"
    )
    outside: float = Field(0.01, gt=0, le=1, description="least share of rows outside the reference's range")
    alpha: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="chance that a partition in which nothing changed sets off any alarm; the outcomes and `multivariate` have their own",
    )
    block: Every = Field("D", description="rows of one such period are taken as dependent")
    resamples: int = Field(2000, ge=200, description="relabellings of the blocks that the null is made of")
    share: float = Field(0.0, ge=0, le=1, description="share of columns that must drift; 0: any one is enough")
    reference: Reference = Field(
        "training",
        description="`training`: the champion's window; `trailing`: the partitions before; `season`: the same season a year earlier",
    )
    trailing: int = Field(3, ge=1, description="how many partitions `reference: trailing` takes")
    seasonal: tuple[str, ...] = Field(
        (),
        description="columns that are compared with the same season a year earlier, and where there is none only shown",
    )
    sample_rows: int = Field(
        10_000, ge=100, description="rows of each side on Evidently's page; a deterministic sample"
    )
    multivariate: Multivariate | None = Field(None, description="one signal of all features together; off unless named")
    decay: Decay = Decay()

    @model_validator(mode="after")
    def _numbers_have_a_method(self) -> Self:
        if self.categorical.method in ("wasserstein", "ks"):
            raise ValueError(f"categorical: {self.categorical.method} is for numbers; use jensenshannon or psi")
        return self
