"""Folders of state under umask 022: only their owner can open them."""

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.load import load_model
from configs.settings import load_settings
from ops import databases
from serving.__main__ import make_service
from serving.journal import Journal
from tasks.backfill.plan import make_plan
from tasks.backfill.plan_files import save_plan
from tasks.contracts import Request
from tasks.resources import live_resources, open_resources
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance
from tasks.storage.folders import exposed, make_home


@pytest.fixture(autouse=True)
def umask_022() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_folder_of_state_is_private_from_its_creation(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", f"sqlite:///{tiny}/ledger/evergreen.db")
    res = open_resources("tiny")
    res.ledger.facts()
    advance(INGEST, res.ref("2024-03-01"), res)
    save_plan(make_plan(Request("tiny", "2024-03-01", "2024-03-02", ("ingest",)), res), res)
    Journal(res.settings.path(res.settings.home) / "serving" / "journals" / "one.jsonl").close()
    databases.create_databases(res.settings)
    made = [tiny / ".evergreen", tiny / "lake", tiny / "ledger"]
    folders = [path for root in made for path in (root, *root.rglob("*")) if path.is_dir()]
    assert {path.name for path in folders} >= {".evergreen", "lake", "raw", "ledger", "plans", "journals", "mlflow"}
    assert {str(path): oct(mode(path)) for path in folders} == {str(path): "0o700" for path in folders}
    assert mode(tiny / "ledger" / "evergreen.db") == 0o600


@pytest.mark.parametrize("before", [0o755, 0o750, 0o777, 0o701])
def test_an_existing_home_that_others_can_open_becomes_private(
    tiny: Path, before: int, caplog: pytest.LogCaptureFixture
) -> None:
    home = tiny / ".evergreen"
    for use in (
        make_home,
        lambda _: live_resources(load_model("tiny"), load_settings()),
        lambda _: make_service(load_settings()),
    ):
        home.mkdir(exist_ok=True)
        home.chmod(before)
        caplog.clear()
        use(home)
        assert mode(home) == 0o700
        assert f"{home} has mode {before:04o}" in caplog.text
        assert "It now has mode 0700" in caplog.text
        caplog.clear()
        use(home)
        assert caplog.text == ""


def test_a_folder_of_all_users_is_reported_and_stays_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    with caplog.at_level(logging.WARNING):
        make_home(shared)
    assert mode(shared) == 0o1777
    assert "cannot be changed" in caplog.text
    assert exposed(tmp_path / "none") == ""


def test_resources_create_no_home(tiny: Path) -> None:
    open_resources("tiny")
    assert not (tiny / ".evergreen").exists()
