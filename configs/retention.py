"""Schema of `retention:` in model.yaml: how long data are kept."""

from pydantic import Field

from configs.base import Duration, Strict


class Retention(Strict):
    """How long data are kept."""

    earlier_contents: Duration | None = Field(
        None,
        description="how long contents of partitions are kept after others have replaced them; by default for as long as a registered "
        "version learned from them or has scored them",
    )
