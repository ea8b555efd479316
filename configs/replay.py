"""What `replay:` in model.yaml may say: policies to try on history, and what they are held against."""

from collections.abc import Mapping

from pydantic import Field

from configs.base import Name, Strict
from configs.retraining import Retraining


class Replay(Strict):
    """Policies beside those that every replay knows: never, every, every_3rd, drift, drift_twice, decay, estimate, live."""

    policies: Mapping[Name, Retraining] = Field({}, description="by name, each as `retraining:` may say it")
    cost: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="what a retraining costs, in the metric: it must gain this much over one partition to pay",
    )
    series: tuple[str, ...] | None = Field(
        None,
        description="columns that name an entity whose rows follow one another in time; []: all rows do. "
        "Then persistence, the last outcome, is a line of reference. Without it there is none",
    )
