"""Sessions with a database: its address from the environment or from a Prefect secret, and errors without it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from configs.schema import ModelConfig
from configs.source import Table
from tasks.errors import EvergreenError, SourceMismatch, SourceRefused, SourceUnavailable
from tasks.source import prefect_access
from tasks.source.dialects import DIALECTS, Dialect
from tasks.source.secret_values import connection_value, variable

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Connection

REFUSED = (
    r"password authentication failed|no password supplied|role .* does not exist|pg_hba|database .* does not exist|permission denied|"
    r"invalid authorization|not a database|authoriz|authentic|readonly"
)
INVALID = r"missing \"=\"|invalid (integer value|URI|connection option|percent|port)|unexpected character|not a valid|end of string"
MISMATCH = r"no such (table|column)|does not exist|Type mismatch|syntax error|invalid input syntax|out of range"
TIMEOUT = r"statement timeout|SQLSTATE: 57014"
Kind = Literal["invalid", "timeout", "refused", "mismatch", "unavailable"]
"""What an error of a database is about: its address, the time limit, our rights, the query or the rows, or anything else."""


@dataclass(frozen=True)
class Database:
    """A database as a table of a model names it.

    Attributes:
        config: The model's config.
        place: The table, for messages.
        name: The name of the connection.
        seconds: Longest time of a query.
    """

    config: ModelConfig
    place: str
    name: str
    seconds: float

    @classmethod
    def of(cls, config: ModelConfig, table: Table) -> "Database":
        """The database of a table of model.yaml."""
        assert table.connection is not None
        return cls(config, table.place, table.connection, table.timeout.total_seconds())

    @property
    def variable(self) -> str:
        """The variable of the environment that has the address."""
        return variable(self.name)

    @property
    def dialect(self) -> Dialect:
        """What is special about this kind of database, by the scheme of its address.

        Raises:
            SourceRefused: the connection has no address, or one of an unknown kind.
        """
        scheme = self.address.partition(":")[0].lower()
        if scheme in DIALECTS:
            return DIALECTS[scheme]
        raise SourceRefused(
            f"the address of connection {self.name!r} begins with none of {', '.join(f'{s}:' for s in DIALECTS)}; correct {self.variable}"
        )

    @contextmanager
    def session(self, writes: bool = False) -> Iterator["Connection"]:
        """Open a session. In a flow run it takes a slot of the connection's concurrency limit.

        Args:
            writes: Whether it may write. Then it is one transaction, which is rolled back unless the body commits it.

        Raises:
            SourceUnavailable: the database does not answer, or not in time.
            SourceRefused: it does not accept us.
            SourceMismatch: a table, column or type is not as expected.
        """
        dialect, address = self.dialect, self.address
        try:
            import adbc_driver_manager as adbc

            with prefect_access.slot(self.name), dialect.connect(address, self.seconds, writes) as con:
                yield con
        except ImportError:
            package = dialect.package.replace("_", "-")
            raise SourceRefused(
                f"connection {self.name!r} needs the package {package}, which is not installed; add it to pyproject.toml"
            ) from None
        except (adbc.Error, OSError) as error:
            raise self.translate(
                error
            ) from None  # a traceback has the causes of an error, and their texts may have the address

    def translate(self, error: Exception) -> EvergreenError:
        """A driver's error as one that can be shown: without address and password, and with what to do."""
        kind, problem = self.classify(error)
        if kind == "invalid":
            return SourceRefused(f"{problem}. Correct {self.variable}")
        if kind == "timeout":
            return SourceUnavailable(f"{problem}. Increase `timeout`, or add an index on `time`")
        if kind == "refused":
            return SourceRefused(
                f"{problem}. Correct {self.variable} or the secret, or grant the right to read, and run it again"
            )
        if kind == "mismatch":
            return SourceMismatch(
                f"{problem}. Correct the table in model.yaml, or declare the column in `types`, or change the table"
            )
        return SourceUnavailable(f"{problem}. Run it again when the database is available")

    def classify(self, error: Exception) -> tuple[Kind, str]:
        """The kind of a driver's error, and what it reports without address and password."""
        state = getattr(error, "sqlstate", None) or ""
        state = state or (match[1] if (match := re.search(r"SQLSTATE: (\w{5})", str(error))) else "")
        text = str(error)
        invalid = not state and re.search(INVALID, text)
        # The library quotes the part of an address that it does not understand.
        shown = "its text is not shown, since it may have the password" if invalid else self._shown(text, state)
        problem = f"{self.place}: the database reports: {shown}"
        if invalid:
            return "invalid", f"{self.place}: the address is not valid ({shown})"
        if state == "57014" or re.search(TIMEOUT, text):
            return "timeout", f"{problem}. The query took longer than `timeout`, {self.seconds:g} s"
        if state[:2] == "28" or state in ("42501", "3D000") or (not state and re.search(REFUSED, text)):
            return "refused", problem
        is_about_query = type(error).__name__ in (
            "ProgrammingError",
            "DataError",
            "IntegrityError",
            "NotSupportedError",
        )
        if state[:2] in ("42", "22", "23", "3F") or (not state and (is_about_query or re.search(MISMATCH, text))):
            return "mismatch", problem
        return "unavailable", problem

    @property
    def address(self) -> str:
        """The address, from the environment, else from the Prefect secret.

        Raises:
            SourceRefused: there is none.
        """
        return connection_value(self.name, self.place)

    def _shown(self, text: str, state: str) -> str:
        """An error's text without address, password and query. Only its code if the model has personal columns."""
        if self.config.personal:
            return f"an error with SQLSTATE {state or 'unknown'} (its message is not shown: personal data)"
        text = re.split(r"\n\s*(?:Query was|query):", text)[0]
        return " ".join(line.strip() for line in hide(text, self.address).splitlines() if line.strip()).rstrip(".")


def hide(text: str, address: str) -> str:
    """A text without an address and its password, as written and decoded."""
    secrets = {address, *re.findall(r"(?:password|pwd|token)\s*=\s*('[^']*'|[^&\s]+)", address, re.IGNORECASE)}
    secrets |= {match[1] for match in re.finditer(r"://[^/@]*?:(.*)@", address)}
    secrets |= {unquote(secret) for secret in secrets} | {secret.strip("'") for secret in secrets}
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
