"""Files of an output that are kept aside while it is made again: they survive an error and a kill of the process."""

import multiprocessing
import os
from pathlib import Path

import pytest
from upath import UPath

from tasks.contracts import Stage
from tasks.storage.aside import FOLDER, is_kept_aside, kept_aside, put_back
from tasks.storage.lake import Lake

KEY, EARLIER = "2024-03-11", {"quarantine.parquet": b"bad rows", "valid.parquet": b"rows", "valid.json": b"a record"}


@pytest.fixture(params=[EARLIER, {"valid.json": b"a record"}, {}], ids=["all", "record only", "nothing"])
def earlier(request: pytest.FixtureRequest) -> dict[str, bytes]:
    return dict(request.param)


@pytest.fixture
def lake(tmp_path: Path, earlier: dict[str, bytes]) -> Lake:
    lake = Lake(UPath(tmp_path), "tiny")
    write(lake, earlier)
    return lake


def write(lake: Lake, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        stage, suffix = name.split(".")
        path = lake.path(Stage(stage), KEY, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def files(lake: Lake) -> dict[str, bytes]:
    paths = [p for p in Path(str(lake.root)).rglob("*") if p.is_file()]
    assert not [p for p in paths if FOLDER in p.parts], "nothing is left aside"
    return {f"{p.parent.name}{p.suffix}": p.read_bytes() for p in paths}


def overwrite(lake: Lake) -> None:
    write(lake, {name: b"other " + data for name, data in EARLIER.items()})


def test_an_error_puts_back_what_was_overwritten_deleted_and_not_there(lake, earlier):
    def fail() -> None:
        with kept_aside(lake, Stage.VALID, KEY):
            overwrite(lake)
            lake.path(Stage.VALID, KEY).unlink()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert files(lake) == earlier


def test_without_an_error_the_new_files_stay(lake):
    with kept_aside(lake, Stage.VALID, KEY):
        overwrite(lake)
    assert set(files(lake).values()) == {b"other bad rows", b"other rows", b"other a record"}


def die_while_it_is_made(lake: Lake) -> None:
    with kept_aside(lake, Stage.VALID, KEY):
        overwrite(lake)
        os._exit(9)


def test_after_a_kill_the_next_process_puts_the_files_back(lake, earlier):
    process = multiprocessing.get_context("fork").Process(target=die_while_it_is_made, args=(lake,))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert is_kept_aside(lake, Stage.VALID, KEY)
    put_back(lake, Stage.VALID, KEY)
    assert files(lake) == earlier


def test_copies_that_are_not_complete_are_not_used(lake, earlier):
    """A process was killed while it copied: it had changed nothing yet."""
    copy = lake.root / FOLDER / "valid" / f"{KEY}.parquet"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"of an earlier repair")
    put_back(lake, Stage.VALID, KEY)
    copy.unlink()
    assert files(lake) == earlier
