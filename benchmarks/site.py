"""A copy of the repository with a stack of its own, flights' first months and their champion in it: what pipelines are measured on."""

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.settings import ROOT
from tests.copies import Copy

FIRST, LAST, NEXT = "2013-01", "2013-03", "2013-04"


class Site(Copy):
    """The copy. `environment` is that of a process that works in it."""

    @property
    def environment(self) -> dict[str, str]:
        return self.env | {
            "MLFLOW_TRACKING_URI": self.mlflow,
            "PREFECT_HOME": str(self.folder / ".evergreen" / "prefect"),
        }


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
            if _play.cache_info().currsize:
                made.run("python", "-m", "ops.stack", "down")
            _play.cache_clear()
            _OPEN.clear()


@functools.cache
def _play() -> Site:
    made = _OPEN[0]
    made.run("python", "-m", "ops.stack", "up")
    made.deployment("backfill/manual", model="flights", start=FIRST, end=LAST)
    made.deployment("train/flights", reason="first champion")
    return made
