"""Empty databases for Prefect and MLflow, built once per version and then copied.

Each server creates its SQLite tables in dozens of migrations, which take most of a first start. If a server is killed
during them, MLflow never starts again. So the migrations run once in a template file under `.venv/` (`make setup`), and a
stack gets a complete copy. `make clean` keeps the templates.
"""

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from configs.settings import TELEMETRY_OFF, Settings
from ops.errors import StackError
from ops.programs import home_of
from tasks.storage.folders import make_folder

VENDORS = ("prefect", "mlflow")


def create_databases(settings: Settings) -> None:
    """Create the databases that the stack's home does not have.

    Raises:
        StackError: Migrations failed. The message has the end of their output.
    """
    home = home_of(settings)
    missing = [vendor for vendor in VENDORS if not (home / vendor / f"{vendor}.db").exists()]
    build_templates(missing)
    for vendor in missing:
        _copy(template_path(vendor), make_folder(home / vendor) / f"{vendor}.db")


def build_templates(vendors: Iterable[str] = VENDORS) -> None:
    """Build the missing template databases in parallel."""
    missing = [vendor for vendor in vendors if not template_path(vendor).exists()]
    if not missing:
        return
    template_path(missing[0]).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        builders = {vendor: _migrate(vendor, folder) for vendor in missing}
        for vendor, process in builders.items():
            output, _ = process.communicate()
            if process.returncode:
                raise StackError(f"{vendor} could not create its database:\n{output[-2000:]}")
            _copy(folder / f"{vendor}.db", template_path(vendor))


def template_path(vendor: str) -> Path:
    """Return the path of a vendor's empty database: in the virtual environment, with the vendor's version in its name."""
    return Path(sys.prefix) / "databases" / f"{vendor}-{version(vendor)}.db"


def _migrate(vendor: str, folder: Path) -> "subprocess.Popen[str]":
    database = folder / f"{vendor}.db"
    variables = os.environ | TELEMETRY_OFF | {"PREFECT_HOME": str(folder)}
    variables["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{database}"
    arguments = {
        "prefect": ("server", "database", "upgrade", "--yes"),
        "mlflow": ("db", "upgrade", f"sqlite:///{database}"),
    }[vendor]
    command = [sys.executable, "-m", vendor, *arguments]
    return subprocess.Popen(
        command,
        env=variables,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _copy(source: Path, target: Path) -> None:
    """Copy a database with SQLite's backup, which includes the write-ahead log, and rename it, so that no partial file is visible."""
    part = target.with_suffix(f".{os.getpid()}")
    part.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(part)) as new:
        old.backup(new)
    part.rename(target)


if __name__ == "__main__":
    build_templates()
