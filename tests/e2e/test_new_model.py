"""From unseen data to a champion with two commands, for each kind of target: `make model FROM=`, and the command that it prints."""

import re
from collections.abc import Iterator

import pytest

from tests.copies import Copy
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
    output = copy.run("python", "-m", "ops.new_model", kind, "--from", source)
    assert all(re.search(rf"not used +{name} ", output) for name in NOT_USED)
    command = re.search(r"make play MODEL=(\S+) FROM=(\S+) TO=(\S+)", output)
    assert command
    played = copy.run("python", "-m", "ops.play", *command.groups())
    assert "champion: version" in played
    assert "blocked" not in played
    assert copy.run("python", "-c", CHAMPION.format(name=kind)).strip() == "True"
