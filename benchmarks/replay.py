"""The cost of more policies in a replay: ten of them over the demo's year, and the one that trains at every partition.

    python -m benchmarks replay

Reads the year that `make demo` leaves in the lake, and links its rows into a new lake for each measurement, so that the cache is
empty. CPU is of a new process, imports included. The ratio is ours over the every-partition policy alone. Takes some minutes.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from configs.load import load_model
from configs.settings import ROOT, load_settings

MODEL, START, END = "flights", "2013-04", "2013-12"
TENTH = {"calm": {"signals": {"drift": {"times": 3, "of": 4}}, "cool_down": "60D"}}
REPLAY = """
import json, os, sys, time
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
from configs.settings import disable_telemetry
disable_telemetry()
began = time.perf_counter()
from tasks.replay.setup import prepare_replay, open_replayed_model
from tasks.replay.simulate import simulate_policy
from tasks.replay.policies import policies
live = open_replayed_model({model!r}, {{}})
setup = prepare_replay({start!r}, {end!r}, live)
chosen = policies(live.config, [], {extra!r})
names = {names!r} or list(chosen)
for name in names:
    simulate_policy(name, chosen[name], setup.begin, setup.refs, live)
print(json.dumps({{"cpu": time.process_time(), "wall": time.perf_counter() - began, "policies": len(names)}}))
"""


def measure(names: Sequence[str], twice: bool = False) -> list[dict[str, float]]:
    """Measure CPU and wall seconds of some policies with an empty cache; with `twice`, once more with a full one."""
    settings = load_settings()
    past = settings.path(Path(settings.lake)) / MODEL
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / MODEL
        lake.mkdir()
        for stage in ("raw", "valid", "sketches", "leak_checks"):
            (lake / stage).symlink_to(past / stage)
        environment = os.environ | {"EVERGREEN_LAKE": folder}
        return [_run(names, environment) for _ in range(2 if twice else 1)]


def _run(names: Sequence[str], environment: Mapping[str, str]) -> dict[str, float]:
    code = REPLAY.format(model=MODEL, start=START, end=END, extra=TENTH, names=list(names))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def report(console: Console) -> None:
    settings = load_settings()
    if not (settings.path(Path(settings.lake)) / load_model(MODEL).name / "valid").is_dir():
        console.print("replay: the lake has no year of flights; run `make demo` first")
        return
    (every,) = measure(["every"])
    ten, again = measure([], twice=True)
    table = Table("replay of the year", "policies", "CPU s", "wall s", "CPU ratio", "aim", box=None)
    for name, cost, aim in (("every partition", every, ""), ("all", ten, "2.5"), ("all, once more", again, "")):
        ratio = f"{cost['cpu'] / every['cpu']:.2f}"
        table.add_row(name, f"{cost['policies']:.0f}", f"{cost['cpu']:.0f}", f"{cost['wall']:.0f}", ratio, aim)
    console.print(table)
