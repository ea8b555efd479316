"""A copy of the repository with its own stack, the first months of flights and their champion, for measuring pipelines."""

import functools
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.settings import ROOT, load_settings
from ops.programs import environment
from tests.copies import Copy

FIRST, LAST, NEXT = "2013-01", "2013-03", "2013-04"
TIMEOUT = 900
"""Seconds that a run may take."""
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Site(Copy):
    """The copy. `environment` is that of a process in it."""

    @property
    def environment(self) -> dict[str, str]:
        limits = ("OMP_", "OPENBLAS_", "MKL_")  # as the worker gives them to its runs
        threads = {name: value for name, value in environment(load_settings()).items() if name.startswith(limits)}
        return (
            self.env
            | threads
            | {
                "MLFLOW_TRACKING_URI": self.mlflow,
                "PREFECT_HOME": str(self.folder / ".evergreen" / "prefect"),
            }
        )

    def run_deployment(self, name: str, command: str = "", **parameters: str | int) -> None:
        """Run a deployment to its end, with another command than the worker's own if given.

        Uses the server's API: starting Prefect's command takes longer than some of the measured runs.

        Raises:
            RuntimeError: the run does not complete in time.
        """
        flow, _, deployment = name.partition("/")
        query = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [deployment]}}}
        (record,) = self.ask("deployments/filter", query)
        options = {"parameters": parameters, "job_variables": {"command": command} if command else {}}
        run = self.ask(f"deployments/{record['id']}/create_flow_run", options)
        deadline = time.monotonic() + TIMEOUT
        while run["state_type"] not in ENDED and time.monotonic() < deadline:
            time.sleep(0.5)
            (run,) = self.ask("flow_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
        if run["state_type"] != "COMPLETED":
            raise RuntimeError(f"{name} {parameters} ended as {run['state_type']}: {run['state']['message']}")

    def set_automations(self, enabled: bool) -> None:
        """Pause all schedules, disable or enable the automations that retrain, and wait until nothing runs."""
        for automation in self.ask("automations/filter", {}):
            if automation["name"].startswith("retrain "):
                self.ask(f"automations/{automation['id']}", {"enabled": enabled}, "PATCH")
        for deployment in self.ask("deployments/filter", {}):
            self.ask(f"deployments/{deployment['id']}", {"paused": True}, "PATCH")
        unfinished = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}}
        while self.ask("flow_runs/filter", unfinished):
            time.sleep(1)


_OPEN: list[Site] = []


def site() -> Site:
    """Return the copy that this process shares. The first call sets it up, which takes a minute or two."""
    assert _OPEN, "only within `open_site`"
    return _set_up()


@contextmanager
def open_site() -> Iterator[None]:
    """Allow `site` to set up a copy, and stop and remove it afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Site(Path(folder))
        (copy.folder / "benchmarks").symlink_to(ROOT / "benchmarks")
        (copy.folder / "data").mkdir()
        for name in ("__init__.py", "flights"):
            if (ROOT / "data" / name).exists():
                (copy.folder / "data" / name).symlink_to(ROOT / "data" / name)
        _OPEN.append(copy)
        try:
            yield
        finally:
            copy.run("python", "-m", "ops.stack", "down")  # also if it was never started
            _set_up.cache_clear()
            _OPEN.clear()


@functools.cache
def _set_up() -> Site:
    copy = _OPEN[0]
    copy.run("python", "-m", "ops.stack", "up")
    copy.run_deployment("backfill/manual", model="flights", start=FIRST, end=LAST)
    copy.run_deployment("train/flights", reason="first champion")
    copy.set_automations(enabled=False)
    return copy
