"""`make lint` reports a change that breaks the published contract before a run refuses it."""

from pathlib import Path

import pytest

from ops.check import broken_contracts, main
from tasks.resources import open_resources
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance
from tasks.steps.validate import VALIDATE
from tasks.storage.published_contract import FILE

pytestmark = pytest.mark.long


@pytest.fixture
def published(tiny: Path) -> Path:
    """The tiny model with one validated partition."""
    res = open_resources("tiny")
    for step in (INGEST, VALIDATE):
        advance(step, res.ref("2024-03-04"), res)
    return tiny


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "configs" / "tiny" / "model.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_model_that_keeps_its_contract_or_has_none_yet_is_no_problem(published):
    assert list(broken_contracts(["tiny"])) == []
    (open_resources("tiny").lake.root / FILE).unlink()
    edit(published, "grace: 1D", "grace: 3D")
    assert list(broken_contracts(["tiny"])) == []


def test_an_undeclared_break_is_an_error_and_a_declared_one_is_not(published, capsys):
    edit(published, "grace: 1D", "grace: 3D")
    assert main() == 1
    expected = f"error: {published}/configs/tiny/model.yaml: breaks version 1 of the published contract"
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith(expected))
    assert "partition.grace: 1D -> 3D. If that is meant, raise contract.version to 2 or more" in line
    edit(published, "name: tiny\n", "name: tiny\ncontract: {version: 2}\n")
    main()
    assert "published contract" not in capsys.readouterr().err


def test_a_damaged_history_is_an_error_and_a_lake_that_cannot_be_read_a_warning(published, capsys):
    path = open_resources("tiny").lake.root / FILE
    path.write_text("[]")
    (problem,) = broken_contracts(["tiny"])
    assert "contract.json cannot be read" in problem
    path.unlink()
    path.mkdir()
    assert list(broken_contracts(["tiny"])) == []
    assert "model.yaml: not compared with the published contract: " in capsys.readouterr().err
