"""Outputs that v0.1 wrote: intact as they are, and what can be found without a checksum is found."""

import tarfile
from pathlib import Path

import pytest
from upath import UPath

from configs.settings import ROOT
from tasks.contracts import Stage
from tasks.storage.integrity import damage
from tasks.storage.lake import Lake

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("v01")
    with tarfile.open(ROOT / "tests" / "states" / "v0.1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def lake(folder: Path) -> Lake:
    return Lake(UPath(folder / "lake"), "tiny")


def test_no_output_of_v01_counts_as_damaged(lake):
    outputs = [(stage, key) for stage in Stage for key in lake.keys(stage)]
    assert len(outputs) > 100
    assert {output: problem for output in outputs if (problem := damage(lake, *output))} == {}


@pytest.mark.parametrize(
    ("stage", "suffix", "old", "new", "problem"),
    [
        (Stage.RAW, "json", b'"rows": 1', b'"rows": 2', "rows, but the record has 2"),
        (Stage.MONITORING, "json", b'"share": 0', b'"share": 1', "do not match their digest"),
        (Stage.VALID, "json", b'"partition": "2024', b'"partition": "2025', "is that of tiny 2025"),
        (Stage.VALID, "parquet", b"PAR1", b"PAR2", "does not match its digest"),
    ],
)
def test_damage_without_a_checksum_is_found(lake, stage, suffix, old, new, problem):
    key = lake.keys(stage)[-1]
    path = Path(str(lake.path(stage, key, suffix)))
    good = path.read_bytes()
    assert old in good
    path.write_bytes(good.replace(old, new, 1))
    assert problem in damage(lake, stage, key)
    path.write_bytes(good)
    assert damage(lake, stage, key) == ""
