"""The first and the last time that a row can have."""

from datetime import UTC, datetime, timedelta

from configs.schema import ModelConfig

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
"""No row can be older. Earlier times are placeholders or typing errors."""


def latest(config: ModelConfig) -> datetime:
    """The present plus `source.ahead`, up to the hour: no row can be later."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1) + config.source.ahead
