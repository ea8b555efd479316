"""Schema of `replay:` in model.yaml: more policies to simulate, their cost, and the persistence baseline."""

from collections.abc import Mapping

from pydantic import Field

from configs.base import Name, Strict
from configs.retraining import Retraining


class Replay(Strict):
    """Settings of replays. Every replay has the policies never, every, every_2nd, every_3rd, drift, drift_twice, decay, estimate, live."""

    policies: Mapping[Name, Retraining] = Field({}, description="more policies by name, with the keys of `retraining`")
    cost: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="cost of one retraining in a replay, in units of the metric over one partition; "
        "null: `retraining.cost` if the metric is the model's loss, otherwise 0",
    )
    series: tuple[str, ...] | None = Field(
        None,
        description="columns that identify a time series; []: all rows are one series. "
        "Enables the persistence baseline, which predicts the last outcome; off unless given",
    )
