"""How a database stores a time, and the literals with which its queries select a range.

Literals are rendered here from aware times and not bound: PostgreSQL's driver has no named parameters, and returns the rows of a query with
parameters in one batch. SQLite's driver binds a time as text with a `T`, which matches nothing in a column of texts with a space.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from configs.database import EPOCHS
from configs.flat import literal, quoted

ZONED, LOCAL = "TIMESTAMPTZ", "TIMESTAMP"
ISO = "%Y-%m-%d %H:%M:%S"
_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
NEAR = timedelta(hours=3)
"""Clocks are changed by less than that."""


@dataclass(frozen=True)
class StoredTime:
    """How a column stores its times.

    Attributes:
        form: `ZONED` or `LOCAL` for types of the database, `epoch`, `epoch_ms` or `epoch_us`, else a format as in `strptime`.
        zone: Zone of times that are stored without one.
    """

    form: str
    zone: ZoneInfo

    def literals(self, start: datetime, end: datetime) -> dict[str, str]:
        """SQL of the ends of a range: the rows of `[start, end)` are between them.

        Local times next to a change of the clocks are ambiguous, so such a range is wider by three hours. The model's own SQL restricts it.
        """
        return {"start": self._literal(start, -NEAR), "end": self._literal(end, NEAR)}

    def _literal(self, moment: datetime, wider: timedelta) -> str:
        moment = moment.astimezone(UTC)
        if self.form in EPOCHS:
            return str((moment - _UNIX) // timedelta(microseconds=1) * EPOCHS[self.form] // 1_000_000)
        if self.form == ZONED:
            return f"{ZONED} {literal(f'{moment:{ISO}.%f}+00:00')}"
        offsets = {(moment + span).astimezone(self.zone).utcoffset() for span in (-NEAR, timedelta(0), NEAR)}
        local = (moment if len(offsets) == 1 else moment + wider).astimezone(self.zone)
        return f"{LOCAL} {literal(f'{local:{ISO}.%f}')}" if self.form == LOCAL else literal(local.strftime(self.form))

    def parse(self, value: Any) -> datetime:
        """A stored value as an aware time.

        Raises:
            ValueError: It is not stored as declared.
        """
        if self.form in EPOCHS:
            return _UNIX + timedelta(seconds=float(value) / EPOCHS[self.form])
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=self.zone)
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=self.zone)
        if self.form in (ZONED, LOCAL):
            raise ValueError(f"{value!r} is not a time")
        return datetime.strptime(str(value), self.form).replace(tzinfo=self.zone)

    def to_duckdb(self, column: str) -> str:
        """SQL by which DuckDB reads a column that was fetched. Texts and numbers become TIMESTAMPTZ."""
        name = quoted(column)
        if self.form in (ZONED, LOCAL):
            return name
        if self.form in EPOCHS:
            return f"make_timestamptz(CAST({name} * {1_000_000 // EPOCHS[self.form]} AS BIGINT))"
        return f"timezone({literal(self.zone.key)}, strptime({name}, {literal(self.form)}))"


def zone_of(form: str, zone: ZoneInfo) -> ZoneInfo:
    """The zone of texts of a format: UTC if its texts end so."""
    return ZoneInfo("UTC") if form.endswith(("Z", "+00:00", "+00", "+0000")) else zone
