"""From unseen data to a champion with two commands, for each kind of target: `make model FROM=`, and the command that it prints.

The data are files, and a table of PostgreSQL.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.copies import Copy
from tests.tasks.source.databases import ADDRESS, load, new_database
from tests.unseen import NOT_USED, orders, write

pytestmark = [pytest.mark.e2e, pytest.mark.servers, pytest.mark.slow]
CHAMPION = "from tasks.resources import open_resources; print(open_resources('{name}').ledger.champion() is not None)"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """A copy of the repository without models' data. Nothing runs yet."""
    copy = Copy(tmp_path_factory.mktemp("copy"))
    try:
        yield copy
    finally:
        copy.down()


@pytest.mark.parametrize(("kind", "suffix"), [("binary", "parquet"), ("multiclass", "csv"), ("regression", "parquet")])
def test_two_commands_lead_to_a_champion(copy: Copy, kind: str, suffix: str) -> None:
    source = write(orders(kind), copy.folder / f"{kind}.{suffix}")
    require_champion(copy, kind, source)


def test_a_table_of_postgresql_leads_to_a_champion(copy: Copy, tmp_path: Path) -> None:
    frame = orders("binary").assign(nothing=pd.Series(dtype="float64"))
    with new_database("postgresql", tmp_path) as address:
        copy.down()  # the worker is started again with the address
        load(address, frame, "orders")
        copy.env[ADDRESS] = address
        require_champion(copy, "from_table", "warehouse:orders")
        copy.down()


def require_champion(copy: Copy, kind: str, source: str) -> None:
    """Run the two commands."""
    output = copy.run("python", "-m", "ops.new_model", kind, "--from", source)
    assert all(re.search(rf"not used +{name} ", output) for name in NOT_USED)
    command = re.search(r"make play MODEL=(\S+) FROM=(\S+) TO=(\S+)", output)
    assert command
    played = copy.run("python", "-m", "ops.play", *command.groups())
    assert "champion: version" in played
    assert "blocked" not in played
    assert copy.run("python", "-c", CHAMPION.format(name=kind)).strip() == "True"
