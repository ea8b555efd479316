"""A copy of the repository with a stack of its own, flights' first months and their champion in it: what pipelines are measured on."""

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
PATIENCE = 900
"""Seconds that a run may take."""
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Site(Copy):
    """The copy. `environment` is that of a process that works in it."""

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

    def deployment(self, name: str, command: str = "", **parameters: str | int) -> None:
        """Run one to its end, by another command than the worker's own if given.

        By the server's API: Prefect's command takes longer to start than some of what is measured here.

        Raises:
            RuntimeError: the run does not end well, or not at all.
        """
        flow, _, deployment = name.partition("/")
        wanted = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [deployment]}}}
        (known,) = self.ask("deployments/filter", wanted)
        asked = {"parameters": parameters, "job_variables": {"command": command} if command else {}}
        run = self.ask(f"deployments/{known['id']}/create_flow_run", asked)
        deadline = time.monotonic() + PATIENCE
        while run["state_type"] not in ENDED and time.monotonic() < deadline:
            time.sleep(0.5)
            (run,) = self.ask("flow_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
        if run["state_type"] != "COMPLETED":
            raise RuntimeError(f"{name} {parameters} ended as {run['state_type']}: {run['state']['message']}")

    def quiet(self, enabled: bool = False) -> None:
        """Let no automation start a run, and no schedule; or let automations do so again. Waits until nothing runs."""
        for one in self.ask("automations/filter", {}):
            if one["name"].startswith("retrain "):
                self.ask(f"automations/{one['id']}", {"enabled": enabled}, "PATCH")
        for one in self.ask("deployments/filter", {}):
            self.ask(f"deployments/{one['id']}", {"paused": True}, "PATCH")
        going = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}}
        while self.ask("flow_runs/filter", going):
            time.sleep(1)


_OPEN: list[Site] = []


def site() -> Site:
    """The one that this process shares; a minute or two the first time."""
    assert _OPEN, "only within `opened`"
    return _play()


@contextmanager
def opened() -> Iterator[None]:
    """Within it `site` makes one where it is asked for; stopped and removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        made = Site(Path(folder))
        (made.folder / "benchmarks").symlink_to(ROOT / "benchmarks")
        (made.folder / "data").mkdir()
        for name in ("__init__.py", "flights"):
            if (ROOT / "data" / name).exists():
                (made.folder / "data" / name).symlink_to(ROOT / "data" / name)
        _OPEN.append(made)
        try:
            yield
        finally:
            made.run("python", "-m", "ops.stack", "down")  # harmless where nothing was asked for
            _play.cache_clear()
            _OPEN.clear()


@functools.cache
def _play() -> Site:
    made = _OPEN[0]
    made.run("python", "-m", "ops.stack", "up")
    made.deployment("backfill/manual", model="flights", start=FIRST, end=LAST)
    made.deployment("train/flights", reason="first champion")
    made.quiet()
    return made
