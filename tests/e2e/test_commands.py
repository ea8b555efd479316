"""docs/operate.md as an engineer on duty would follow it: every command of it, in its order, on a stack with flights. Minutes."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from configs.settings import ROOT
from tests.copies import Copy

pytestmark = [pytest.mark.e2e, pytest.mark.servers, pytest.mark.slow]
ELSEWHERE = ("EVERGREEN_NOTIFY_", "pg_dump ")
"""Begin commands that are not run here: notifications are tried in test_loop.py, PostgreSQL's own tools belong to its server."""
MAY_FAIL = {
    "action=refuse": "only a challenger can be refused|no challenger waits",
    "action=adopt": "there is nothing to adopt",
    'reason="reviewed with risk"': "no challenger waits",
    "rollback/manual": "was never champion before",
    "flow-run ls": "",
}
"""What has nothing to act upon when nobody waits or is before: the run then ends with such a message, and says so."""


@pytest.fixture(scope="module")
def duty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """The repository with its Makefile and flights, three months and a champion in it."""
    folder = tmp_path_factory.mktemp("duty")
    made = Copy(folder)
    for name in ("Makefile", "uv.lock"):
        shutil.copy2(ROOT / name, folder / name)
    made.add_data()
    made.env["PATH"] = f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}"
    try:
        made.run("python", "-m", "ops.stack", "up")
        made.deployment("backfill/manual", model="flights", start="2013-01", end="2013-03")
        made.deployment("train/flights", reason="first champion")
        yield made
    finally:
        made.run("python", "-m", "ops.stack", "down")


def blocks() -> list[list[str]]:
    """The commands of each fenced block of the page, in order."""
    text = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    return [found.strip().splitlines() for found in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)]


def test_every_command_of_the_page_does_what_it_says(duty: Copy) -> None:
    assert sum(map(len, blocks())) > 40
    for block in blocks():
        lines = [line for line in block if not line.startswith(ELSEWHERE)]
        for line in lines:
            done = subprocess.run(
                ["bash", "-c", line],
                cwd=duty.folder,
                env=duty.env,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
            )
            excused = any(part in line for part in MAY_FAIL)
            assert done.returncode == 0 or excused, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        if not up(duty):
            duty.run("python", "-m", "ops.stack", "up")
        settle(duty)
    unexpected = [run for run in failed(duty) if not any(re.search(why, said(run)) for why in MAY_FAIL.values() if why)]
    assert [(run["name"], said(run)) for run in unexpected] == []
    assert "Checked: " in duty.run("python", "-m", "ops.audit", "flights")


def up(copy: Copy) -> bool:
    try:
        copy.ask("flow_runs/filter", {"limit": 1})
    except OSError:
        return False
    return True


def settle(copy: Copy, seconds: float = 1200) -> None:
    """Wait until every run has ended."""
    deadline = time.monotonic() + seconds
    going = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}}}
    while running := [run for run in copy.ask("flow_runs/filter", going) if not run["auto_scheduled"]]:
        assert time.monotonic() < deadline, json.dumps([run["name"] for run in running])
        time.sleep(2)


def failed(copy: Copy) -> list[dict]:
    return copy.ask("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["FAILED", "CRASHED"]}}}})


def said(run: dict) -> str:
    return str(run["state"]["message"])
