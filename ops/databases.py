"""Empty databases for the servers, made once and copied from then on.

Each vendor builds its SQLite tables in dozens of migrations, most of a first start. A server
that is killed meanwhile leaves half of them, and MLflow then never starts again. So the
migrations run in a file beside, once per version of the vendor, and a home gets a whole
copy or none. `make setup` prepares the originals under `.venv/`; `make clean` leaves them.
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

from configs.settings import QUIET, Settings
from ops.errors import StackError
from ops.programs import home_of

VENDORS = ("prefect", "mlflow")


def provide(settings: Settings) -> None:
    """Give the home of the stack the databases that it has not got.

    Raises:
        StackError: a vendor's migrations failed; the message holds what it said.
    """
    home = home_of(settings)
    missing = [vendor for vendor in VENDORS if not (home / vendor / f"{vendor}.db").exists()]
    prepare(missing)
    for vendor in missing:
        (home / vendor).mkdir(parents=True, exist_ok=True)
        _copy(original(vendor), home / vendor / f"{vendor}.db")


def prepare(vendors: Iterable[str] = VENDORS) -> None:
    """Build the originals that are missing, side by side."""
    wanted = [vendor for vendor in vendors if not original(vendor).exists()]
    if not wanted:
        return
    original(wanted[0]).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        builders = {vendor: _migrate(vendor, folder) for vendor in wanted}
        for vendor, process in builders.items():
            said, _ = process.communicate()
            if process.returncode:
                raise StackError(f"{vendor} could not make its database:\n{said[-2000:]}")
            _copy(folder / f"{vendor}.db", original(vendor))


def original(vendor: str) -> Path:
    """Where a vendor's empty database is kept: in the virtual environment, with the vendor's version."""
    return Path(sys.prefix) / "databases" / f"{vendor}-{version(vendor)}.db"


def _migrate(vendor: str, folder: Path) -> "subprocess.Popen[str]":
    database = folder / f"{vendor}.db"
    variables = os.environ | QUIET | {"PREFECT_HOME": str(folder)}
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
    """Through SQLite, which knows of changes not yet in the file, and a rename, so that no half is ever seen."""
    part = target.with_suffix(f".{os.getpid()}")
    part.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(part)) as new:
        old.backup(new)
    part.rename(target)


if __name__ == "__main__":
    prepare()
