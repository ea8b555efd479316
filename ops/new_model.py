"""Create a model: `make model NAME=trains` writes `configs/trains/` and its deployments in prefect.yaml."""

import argparse
import re
import sys
from pathlib import Path

import jinja2

from configs.errors import ConfigError
from configs.settings import ROOT
from ops.check import SHARED, read_deployments
from ops.terminal import print_error

TEMPLATES = Path(__file__).with_name("templates")
FILES = ("model.yaml", "source.sql", "labels.sql")
BLOCK = "deployments.yaml"


def new_model(name: str, root: Path = ROOT) -> list[Path]:
    """Write the model's folder, append its deployments to prefect.yaml, and return the written files.

    Raises:
        ConfigError: The name is not valid or not free. Nothing was written.
    """
    check_name(name, root)
    folder, deployments = root / "configs" / name, root / "prefect.yaml"
    folder.mkdir()
    for file in FILES:
        (folder / file).write_text(render(file, name), encoding="utf-8")
    before = deployments.read_text(encoding="utf-8").rstrip("\n")
    deployments.write_text(f"{before}\n\n{render(BLOCK, name)}", encoding="utf-8")
    return [*(folder / file for file in FILES), deployments]


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


def render(file: str, name: str) -> str:
    """Return a file of ops/templates, rendered with the model's name."""
    source = (TEMPLATES / f"{file}.j2").read_text(encoding="utf-8")
    return jinja2.Template(
        source, undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
    ).render(name=name)


def main() -> int:
    """Write the files of a new model and print the next step."""
    parser = argparse.ArgumentParser(prog="python -m ops.new_model", description=__doc__)
    parser.add_argument("name")
    try:
        written = new_model(parser.parse_args().name)
    except ConfigError as error:
        return print_error(error)
    print("\n".join(f"wrote {path.relative_to(ROOT)}" for path in written))
    print("Next: edit the three files. `make lint` checks them, and `make deploy` creates the deployments in Prefect.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
