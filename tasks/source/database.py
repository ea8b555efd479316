"""A table of a database, which is read by ADBC. Only the rows of a partition's range travel."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from configs.database import parameters, render
from configs.flat import quoted
from configs.load import Model
from configs.source import Table
from tasks.errors import SourceMismatch
from tasks.source.connections import Database
from tasks.source.dialects import Selection
from tasks.source.extracts import KEPT_SECONDS, new_extract, use
from tasks.source.fetch import digest_rows, fetch
from tasks.source.moments import EARLIEST, latest
from tasks.source.origins import remember
from tasks.source.queries import Queries
from tasks.source.stored_times import LOCAL, ZONED, StoredTime
from tasks.storage.files import digest_json
from tasks.storage.partitions import containing
from tasks.storage.personal import hider, shown

MOMENT = timedelta(microseconds=1)
_FINGERPRINTS: dict[tuple[str, str], tuple[float, str]] = {}
"""The newest fingerprint of each range, with the time of its computation, by table and range."""
_EXTRACTS: dict[tuple[str, str, str], Path] = {}
"""Files of ranges, by table, range and the fingerprint that was computed before the rows were fetched."""


class DatabaseTable:
    """A table or query of a database, see `SourceTable`."""

    def __init__(self, model: Model, name: str, table: Table) -> None:
        self.config, self.name, self.table = model.config, name, table
        self.is_ranged = table.is_ranged
        self.expected = f"no rows for it or after it ({table.place})"
        self.empty = f"table {name!r} has no rows ({table.place})"

    def span(self) -> tuple[datetime, datetime] | None:
        """From the first to just after the last time of its rows that can be in a partition, None if there is none."""
        times = self._times(EARLIEST, latest(self.config))
        return (times[0], times[-1] + MOMENT) if times else None

    def covers(self, start: datetime, end: datetime) -> bool:
        """Whether it has rows of a range, or rows before and after it. A table without `time` has always."""
        if not self.is_ranged:
            return True
        with self._queries() as queries:
            if queries.rows(f"SELECT 1 FROM ({queries.ranged(start, end)}) AS q LIMIT 1"):  # noqa: S608
                return True
        span = self.span()
        return bool(span and span[0] < end and span[1] > start)

    def fingerprint(self, start: datetime, end: datetime) -> list[Any]:
        """What decides whether a range has changed: the declared query, the watermark, or number and digest of its rows."""
        with self._queries() as queries:
            digest = self._digest(queries, start, end)
        _FINGERPRINTS[self._key(start, end)] = time.monotonic(), digest
        return [digest]

    def files(self, start: datetime, end: datetime) -> list[Path]:
        """A local file with the rows of a range, fetched after its newest fingerprint was computed."""
        key = self._key(start, end)
        computed, digest = _FINGERPRINTS.get(key, (0.0, ""))
        known = bool(digest) and time.monotonic() - computed < KEPT_SECONDS
        if known and (path := _EXTRACTS.get((*key, digest))) and use(path):
            return [path]
        path = new_extract(f"{self.config.name}-{self.name}.parquet")
        with self._queries() as queries:
            self._fetch(queries, queries.selection(queries.ranged(start, end)), path)
            is_of_fingerprint = known and self._is_of(queries, start, end, digest)
        remember(path, self.table.place)
        if is_of_fingerprint:
            _EXTRACTS[(*key, digest)] = path
        return [path]

    def arrived(self, until: datetime) -> tuple[list[Any], datetime | None]:
        """A cheap state of the rows before a moment, empty if there are none, and the end of the partition of the newest of them."""
        times = self._times(EARLIEST, until)
        if self.is_ranged and not times:
            return [], None
        with self._queries() as queries:
            state = self._state(queries, EARLIEST, until, is_cheap=True)
        newest = times[-1] if times else datetime.now(UTC) + self.config.source.ahead
        return [(*map(str, times), *state)], containing(self.config, newest).end

    def unplaced(self) -> str:
        """Describe rows that are in no partition; empty if there are none, or if its query has the range."""
        if self.table.time is None or (self.table.query and parameters(self.table.query)):
            return ""
        column, key = quoted(self.table.time), quoted(self.config.key)
        with self._queries() as queries:
            sql = queries.base(EARLIEST, EARLIEST)
            ends = queries.stored(sql).literals(EARLIEST, latest(self.config))
            where = f"{column} IS NULL OR {column} < {ends['start']} OR {column} >= {ends['end']}"
            select = f"SELECT count(*), min(CAST({key} AS CHAR(100))) FROM ({sql}) AS q"  # noqa: S608
            ((count, example),) = queries.rows(f"{select} WHERE {where}")
        if not count:
            return ""
        row = shown(self.config, self.config.key, str(example).strip())
        return (
            f"rows whose {self.table.time!r} is missing, before {EARLIEST.year} or later than `source.ahead` allows belong to no "
            f"partition: {count:,} in {self.table.place}, such as the one with {self.config.key} {row!r}; "
            "correct them, or exclude them by `query`"
        )

    @property
    def database(self) -> Database:
        """The database of its connection."""
        return Database.of(self.config, self.table)

    @contextmanager
    def _queries(self) -> Iterator[Queries]:
        with self.database.session() as con:
            yield Queries(self.config, self.table, con, self.database.dialect)

    def _fetch(self, queries: Queries, selection: Selection, path: Path) -> None:
        fetch(queries.con, self.database, selection, path)

    @property
    def _address(self) -> str:
        return self.database.address

    def _key(self, start: datetime, end: datetime) -> tuple[str, str]:
        """The table and the range of which it is read."""
        table = [self.config.name, self.name, self.config.features.columns, self.table.model_dump(mode="json")]
        return digest_json([*table, self._address]), f"{start} {end}" if self.is_ranged else ""

    def _digest(self, queries: Queries, start: datetime, end: datetime) -> str:
        return digest_json([self.table.connection, self.name, self._state(queries, start, end)])

    def _is_of(self, queries: Queries, start: datetime, end: datetime, digest: str) -> bool:
        """Whether rows that were fetched have this fingerprint. A database would compute it from all rows again: it is not asked."""
        return True

    def _state(self, queries: Queries, start: datetime, end: datetime, is_cheap: bool = False) -> list[str]:
        """The values that decide whether a range has changed; with `is_cheap` only the number of rows if nothing is declared."""
        if self.table.fingerprint:
            values = queries.stored(queries.base(start, end)).literals(start, end) if self.table.time else {}
            rows = queries.rows(render(self.table.fingerprint, values))
            if len(rows) != 1:
                raise SourceMismatch(f"{self.table.place}: `fingerprint` returns {len(rows)} rows; it must return one")
            return [str(value) for value in rows[0]]
        sql = queries.ranged(start, end)
        if self.table.watermark or is_cheap:
            newest = f", max({quoted(self.table.watermark)})" if self.table.watermark else ""
            query = f"SELECT count(*){newest} FROM ({sql}) AS q"  # noqa: S608
        else:
            query = queries.dialect.digest(sql)
        if query:
            return [str(value) for value in queries.rows(query)[0]]
        try:
            digest = digest_rows(queries.con, self.database, queries.selection(sql), [*queries.types(sql)])
        except SourceMismatch as error:
            digest = ["unreadable", error]  # reading the rows raises it too, which blocks this partition and no other
        return [str(value) for value in digest]

    def _times(self, start: datetime, end: datetime) -> list[datetime]:
        """The first and the last time of the rows of a range; empty if there is none, or no `time`.

        Raises:
            SourceMismatch: a time is not stored as declared.
        """
        if self.table.time is None:
            return []
        column = quoted(self.table.time)
        with self._queries() as queries:
            sql = queries.base(start, end)
            stored = queries.stored(sql)
            ends, query = stored.literals(start, end), f"SELECT min({column}), max({column}) FROM ({sql}) AS q"  # noqa: S608
            if stored.form not in (ZONED, LOCAL):  # values in another format would silently be in no range
                self._parsed(stored, queries.rows(query)[0])
            found = queries.rows(f"{query} WHERE {column} >= {ends['start']} AND {column} < {ends['end']}")[0]
        return self._parsed(stored, found)

    def _parsed(self, stored: StoredTime, values: tuple[Any, ...]) -> list[datetime]:
        show = hider(self.config)
        for value in values:
            try:
                _ = None if value is None else stored.parse(value)
            except (ValueError, TypeError, OverflowError):
                raise SourceMismatch(
                    f"{self.table.place}: {self.table.time!r} has the value {show(str(self.table.time), value)!r}, which is not in the "
                    f"format {stored.form}. Declare `time_format` as the table stores its times"
                ) from None
        return [stored.parse(value) for value in values if value is not None]
