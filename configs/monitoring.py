"""Schema of `monitoring:` in model.yaml: the reference, the statistics, and the effect sizes that count as drift."""

from typing import Literal, Self

from pydantic import Field, model_validator

from configs.base import Duration, Every, Strict

Statistic = Literal["wasserstein", "jensenshannon", "psi", "ks"]
Reference = Literal["training", "trailing", "season"]


class Method(Strict):
    """A drift statistic of Evidently and the smallest score that counts as drift (effect size).

    `wasserstein` is in standard deviations of the reference. `ks` is the distance, from 0 to 1. The p-value that Evidently
    shows for it is not valid for dependent rows.
    """

    method: Statistic = Field(description="name in Evidently")
    threshold: float = Field(gt=0, description="smallest score that counts")


class Multivariate(Strict):
    """Drift test with a classifier between partition and reference: it detects joint changes that no single column shows.

    It fits hundreds of small models per partition, which takes minutes.
    """

    rows: int = Field(10_000, ge=500, description="rows sampled from partition and reference each")
    resamples: int = Field(199, ge=99, description="permutations of the block labels for the null distribution")
    auc: float = Field(0.6, gt=0.5, lt=1, description="smallest ROC AUC that counts")


class Decay(Strict):
    """Decay: the newest partitions' matured rows have less skill than the champion's validation splits and its holdout had.

    It is recorded as a fact if the fall is significant (one-sided 97.5 %) and at least `least`.
    """

    partitions: int = Field(
        1,
        ge=1,
        description="newest matured partitions that are evaluated together; use several if a partition has one block, such as a day",
    )
    least: float = Field(
        0.05,
        gt=0,
        description="smallest fall of skill that counts, as a share of the expected loss by which the loss rises at the same base rate",
    )
    min_rows: int = Field(100, ge=2, description="with fewer matured rows decay is not evaluated")


class Monitoring(Strict):
    """How a partition is compared with the reference of its champion.

    A column has drifted if its score is at least the threshold here, and significant: by a permutation test over blocks of time, with
    their measured autocorrelation.
    """

    numeric: Method = Method(method="wasserstein", threshold=0.1)
    categorical: Method = Method(method="jensenshannon", threshold=0.1)
    missing: float = Field(
        0.1,
        gt=0,
        le=1,
        description="smallest change that counts in the share of rows without a usable value "
        "(null, infinite, not a number)",
    )
    new_categories: float = Field(0.01, gt=0, le=1, description="smallest share of rows with a new category")
    outside: float = Field(0.01, gt=0, le=1, description="smallest share of rows outside the reference's range")
    alpha: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="false alarm rate: probability of any alarm in a partition without change; target and `multivariate` have their own",
    )
    block: Every = Field("D", description="length of a block: rows of one block count as dependent")
    resamples: int = Field(2000, ge=200, description="permutations of the block labels for the null distribution")
    share: float = Field(0.0, ge=0, le=1, description="share of columns that must have drifted; 0: one is enough")
    reference: Reference = Field(
        "training",
        description="`training`: the champion's window; `trailing`: the previous partitions; `season`: the same season a year earlier",
    )
    trailing: int = Field(3, ge=1, description="number of previous partitions for `reference: trailing`")
    seasonal: tuple[str, ...] = Field(
        (),
        description="columns that are compared with the same season a year earlier; without such data they are shown but not tested",
    )
    ignore: tuple[str, ...] = Field(
        (),
        description="columns that are compared and shown, and never count as drifted; `prediction` is possible too",
    )
    sample_rows: int = Field(
        10_000,
        ge=100,
        description="rows of partition and reference each in the Evidently report; a deterministic sample",
    )
    multivariate: Multivariate | None = Field(None, description="drift test of all features together; off by default")
    decay: Decay = Decay()

    @model_validator(mode="after")
    def _numbers_have_a_method(self) -> Self:
        if self.categorical.method in ("wasserstein", "ks"):
            raise ValueError(f"categorical: {self.categorical.method} is for numeric columns; use jensenshannon or psi")
        return self


class ChampionConfig(Strict):
    """What is expected of a champion."""

    max_age: Duration | None = Field(
        None,
        description="age of the newest rows that the champion learned from, by the clock, above which there is an alert and the event "
        "`evergreen.champion.old`. Off by default",
    )
