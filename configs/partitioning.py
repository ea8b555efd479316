"""Schema of `partition:` in model.yaml: how time is divided into partitions."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from configs.base import Duration, Every, Strict

HOURS: Mapping[Every, int] = {"M": 31 * 24, "W": 7 * 24, "D": 24, "H": 1}
"""Maximum number of hours in a period, without the hour of a clock change."""
LateRows = Literal["rescore", "append", "ignore"]


class Partitioning(Strict):
    """How time is divided into partitions."""

    every: Every = Field(description="length of a partition: M, W (from Monday), D or H")
    timezone: str = Field("UTC", description="IANA time zone; partitions start at midnight in this zone")
    grace: Duration = Field(
        timedelta(0), description="time after a partition's end in which its last rows come; then it is processed"
    )
    late_rows: LateRows = Field(
        "rescore",
        description="rows that come or change later: rescore the partition from all of them, append new ones and keep the others as they "
        "were, or ignore them",
    )

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{value!r} is not an IANA time zone, such as Europe/Berlin") from None
        return value

    @model_validator(mode="after")
    def _hours_are_utc(self) -> Self:
        if self.every == "H" and self.timezone != "UTC":
            raise ValueError("hourly partitions must be in UTC, since a local hour can occur twice")
        return self
