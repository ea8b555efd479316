"""Create a model: `make model NAME=trains` writes `configs/trains/` and its deployments in prefect.yaml.

With FROM= it looks at data and writes a model.yaml that works, each line with what it was inferred from. Without, the files are
templates to fill in.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import ConfigError
from configs.settings import ROOT
from ops.check import SHARED, read_deployments
from ops.rendering import BLOCK, render
from ops.terminal import print_error, terminal
from tasks.contracts.escape import for_terminal
from tasks.errors import EvergreenError

if TYPE_CHECKING:
    from ops.profiling.plan import Options, Plan

FILES = ("model.yaml", "source.sql", "labels.sql")


def new_model(name: str, root: Path = ROOT) -> list[Path]:
    """Write the model's folder, append its deployments to prefect.yaml, and return the written files.

    Raises:
        ConfigError: The name is not valid or not free. Nothing was written.
    """
    check_name(name, root)
    return write_model(name, {file: render(file, name) for file in FILES}, root)


def write_model(name: str, files: Mapping[str, str], root: Path = ROOT) -> list[Path]:
    """Write the files of a model's folder, append its deployments to prefect.yaml, and return the written files."""
    folder, deployments = root / "configs" / name, root / "prefect.yaml"
    folder.mkdir()
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    before = deployments.read_text(encoding="utf-8").rstrip("\n")
    deployments.write_text(f"{before}\n\n{render(BLOCK, name)}", encoding="utf-8")
    return [*(folder / file for file in files), deployments]


def model_from_data(name: str, options: "Options", root: Path = ROOT) -> "tuple[Plan, list[Path]]":
    """Look at data and write a model that works on them. Return what was inferred, and the written files.

    Raises:
        ConfigError: The name is not valid or not free, or no model can be made from the data. Nothing was written.
    """
    from ops.profiling.check import try_model
    from ops.profiling.plan import make_plan
    from ops.profiling.write import model_yaml, sql_files

    check_name(name, root)
    plan = make_plan(options)
    files = {"model.yaml": model_yaml(name, plan), **sql_files(name, plan)}
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / name
        home.mkdir()
        for file, text in files.items():
            (home / file).write_text(text, encoding="utf-8")
        try_model(name, Path(scratch), plan.periods.keys)
    return plan, write_model(name, files, root)


def check_name(name: str, root: Path = ROOT) -> None:
    """Raise ConfigError if a name is not valid or not free."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise ConfigError(
            f"NAME={name}: a model's name has lower case letters, digits and _, starts with a letter, and has at most 40 characters"
        )
    if (root / "configs" / name).exists() or (root / "configs" / f"{name}.py").exists():
        raise ConfigError(f"NAME={name}: configs/{name} exists already; choose another name, or delete that first")
    if name in SHARED or name in {deployment["name"] for deployment in read_deployments(root / "prefect.yaml")}:
        raise ConfigError(f"NAME={name}: prefect.yaml has deployments of that name already; choose another name")


def print_plan(name: str, plan: "Plan", written: list[Path], page: Path | None = None) -> None:
    """Print what was inferred, what to check, the profile page, and the next command."""
    from ops.profiling.summary import points_to_check, summary_table

    console = terminal(wide=True)
    console.print(summary_table(plan))
    for point in points_to_check(plan):
        console.print(f"check: {for_terminal(point)}", style="yellow")
    console.print("\n".join(f"wrote {path.relative_to(ROOT)}" for path in written))
    if page:
        console.print(f"Open the profile of the data: {page.relative_to(ROOT) if page.is_relative_to(ROOT) else page}")
    keys = plan.periods.keys
    console.print(f"Next, a first champion, and the newest {len(keys) - plan.periods.first} partitions:\n")
    console.print(f"    make play MODEL={name} FROM={keys[plan.periods.first]} TO={keys[-1]}")


def from_data(given: argparse.Namespace) -> None:
    """Write a model from data and its profile page, and print the summary, the warnings of `make lint` and the next command."""
    from ops.profiling.page import write_page
    from ops.profiling.plan import Options
    from ops.workable import warnings
    from tasks.resources import open_resources

    ask = input if sys.stdin.isatty() and sys.stdout.isatty() else None
    options = Options(given.source, given.time, given.key, given.target, given.by, given.delay, ask)
    plan, written = model_from_data(given.name, options)
    res = open_resources(given.name)
    found = list(warnings(res))
    print_plan(given.name, plan, written, write_page(given.name, plan, found, res.settings))
    for warning in found:
        print(f"warning: {warning}", file=sys.stderr)


def main() -> int:
    """Write the files of a new model and print the next step."""
    parser = argparse.ArgumentParser(prog="python -m ops.new_model", description=__doc__)
    parser.add_argument("name")
    for option in ("time", "key", "target", "by", "delay"):
        parser.add_argument(f"--{option}", default="")
    parser.add_argument("--from", dest="source", default="")
    given = parser.parse_args()
    try:
        if given.source:
            from_data(given)
            return 0
        written = new_model(given.name)
    except (ConfigError, EvergreenError) as error:
        return print_error(error)
    print("\n".join(f"wrote {path.relative_to(ROOT)}" for path in written))
    print("Next: edit the three files. `make lint` checks them, and `make deploy` creates the deployments in Prefect.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
