"""Schema of `contract:` in model.yaml: what the model publishes to other teams."""

from pydantic import Field

from configs.base import Strict


class Contract(Strict):
    """Owner and version of the published contract: columns, partitions and expectations on which other teams rely."""

    owner: str = Field("", max_length=200, description="who answers questions about the data; shown on the data page")
    version: int = Field(
        1,
        ge=1,
        description="version of the published contract; raise it with a change that breaks what other teams rely on",
    )
