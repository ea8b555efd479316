"""Back up while everything runs: `make backup [TO=folder]` copies ledger and MLflow as of one moment, and refers to the lake.

The ledger's tables are locked against writers while the ledger's and MLflow's databases are copied, for a second or two. So no row of
the ledger and no tag of MLflow about it is in one copy alone. MLflow's files are written before the version that names them, and are never
changed. The lake is not copied: the manifest has its address and how many outputs it has.
"""

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from configs.errors import ConfigError
from configs.load import model_names
from configs.settings import ROOT, Settings, load_settings
from ops.errors import StackError
from ops.programs import home_of
from ops.terminal import print_error, terminal
from tasks.contracts import Stage
from tasks.errors import EvergreenError
from tasks.ledger.tables import claims, holders, metadata
from tasks.resources import git_commit
from tasks.storage.files import digest_file, open_root
from tasks.storage.folders import make_folder, make_home
from tasks.storage.lake import Lake
from tasks.storage.personal import FILE as PERSONAL_KEY

FORMAT = 1
MANIFEST, ARTIFACTS = "manifest.json", "artifacts"
LOCK_SECONDS = 60
"""How long a backup waits for a writer of the ledger."""


def databases(settings: Settings) -> dict[str, sa.URL]:
    """Return the databases by name. Those of MLflow's and Prefect's servers are named by the variables that these servers read."""
    home = home_of(settings)
    given = {"mlflow": "MLFLOW_BACKEND_STORE_URI", "prefect": "PREFECT_SERVER_DATABASE_CONNECTION_URL"}
    own = {
        name: os.environ.get(variable) or f"sqlite:///{home / name / f'{name}.db'}" for name, variable in given.items()
    }
    return {name: sa.make_url(url) for name, url in ({"ledger": settings.database} | own).items()}


def artifacts(settings: Settings) -> Path | str:
    """Return the folder of MLflow's artifacts, or their address if they are in an object store."""
    given = os.environ.get("MLFLOW_ARTIFACTS_DESTINATION", "").removeprefix("file://")
    return given if "://" in given else Path(given) if given else home_of(settings) / "mlflow" / ARTIFACTS


def backup(settings: Settings, parent: Path) -> Path:
    """Write a new backup below a folder, and return its own folder, whose name is the moment in UTC.

    Raises:
        StackError: a database cannot be copied. There is no backup then.
    """
    moment = datetime.now(UTC)
    folder = parent / f"{moment:%Y-%m-%dT%H-%M-%SZ}"
    draft = make_home(folder.with_suffix(".part"))
    try:
        urls = databases(settings)
        files = artifacts(settings)
        with ledger_locked(urls["ledger"]):
            rows = ledger_rows(urls["ledger"])
            require_whole(rows, urls["mlflow"], files)
            kinds = {name: copy_database(urls[name], draft / name) for name in ("ledger", "mlflow")}
        kinds["prefect"] = copy_database(urls["prefect"], draft / "prefect")
        if (key := home_of(settings) / PERSONAL_KEY).is_file():
            shutil.copy(key, draft / PERSONAL_KEY)
        if isinstance(files, Path) and files.is_dir():  # there is none before the first version
            shutil.copytree(files, draft / ARTIFACTS, dirs_exist_ok=True)
        content = {
            "format": FORMAT,
            "made_at": moment.isoformat(),
            "commit": settings.git_commit or git_commit(ROOT),
            "databases": kinds,
            "artifacts": ARTIFACTS if isinstance(files, Path) else files,
            "ledger": rows,
            "lake": {"address": settings.lake, "outputs": lake_outputs(settings)},
            "files": digests(draft),
        }
        (draft / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return folder


def require_whole(rows: Mapping[str, Any], mlflow: sa.URL, files: Path | str) -> None:
    """Require that MLflow's database and artifacts are there if the ledger has rows, since one is of no use without the other.

    Raises:
        StackError: something is missing.
    """
    where = "set MLFLOW_BACKEND_STORE_URI and MLFLOW_ARTIFACTS_DESTINATION as its server has them"
    if rows and mlflow.get_backend_name() == "sqlite" and not Path(mlflow.database or "").is_file():
        raise StackError(f"MLflow's database {mlflow.database} does not exist, but the ledger has rows; {where}")
    if rows and isinstance(files, Path) and not files.is_dir():
        raise StackError(f"MLflow's artifacts {files} do not exist, but the ledger has rows; {where}")


@contextlib.contextmanager
def ledger_locked(url: sa.URL) -> Iterator[None]:
    """Keep other processes from writing rows of the ledger. Reading is not affected, nor are claims in PostgreSQL.

    The ledger is not migrated: the first backup by newer code has it as it was.
    """
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise StackError(
            f"the ledger {url.database} does not exist; set EVERGREEN_DATABASE_URL or EVERGREEN_HOME as the workers have them"
        )
    engine = sa.create_engine(url)
    try:
        with engine.connect() as con:
            if engine.dialect.name == "sqlite":
                con.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                written = [table.name for table in metadata.sorted_tables if table not in (claims, holders)]
                present = [name for name in written if sa.inspect(con).has_table(name)]
                con.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
                con.exec_driver_sql(f"LOCK TABLE {', '.join(present)} IN SHARE MODE") if present else None
            yield
            con.rollback()
    except sa.exc.DBAPIError as error:
        raise StackError(f"the ledger cannot be locked: {error.orig}; run it again") from error
    finally:
        engine.dispose()


def copy_database(url: sa.URL, target: Path) -> str:
    """Copy a database to a file, and return its kind: `sqlite`, `postgresql`, or empty if there is none.

    Raises:
        StackError: it cannot be copied.
    """
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "")
        if not path.is_file():
            return ""
        with contextlib.closing(sqlite3.connect(path)) as old, contextlib.closing(sqlite3.connect(target)) as new:
            old.backup(new)
        target.chmod(0o600)
        return "sqlite"
    run_tool("pg_dump", url, "--format=custom", f"--file={target}")
    return "postgresql"


def for_tools(url: sa.URL) -> sa.URL:
    """Return the address of a database of PostgreSQL as its own tools and drivers understand it. asyncpg calls `sslmode` `ssl`."""
    query = {("sslmode" if name == "ssl" else name): value for name, value in url.query.items()}
    return url.set(drivername="postgresql", query=query)


def run_tool(tool: str, url: sa.URL, *arguments: str) -> None:
    """Run a tool of PostgreSQL with a database. The password is given in the environment, since other users see a command line.

    Raises:
        StackError: the tool is not installed, or fails.
    """
    address = for_tools(url).set(password=None).render_as_string(hide_password=False)
    password = {"PGPASSWORD": url.password} if url.password else {}
    command = [tool, f"--dbname={address}", "--no-password", *arguments]
    try:
        done = subprocess.run(
            command, env=os.environ | password, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise StackError(
            f"{tool} is not installed; install PostgreSQL's client, of Debian: postgresql-client"
        ) from None
    if done.returncode:
        raise StackError(f"{tool} failed: {done.stderr.strip()}")


def ledger_rows(url: sa.URL) -> dict[str, dict[str, Any]]:
    """Return for each model the number and the hash of the newest entry of its chain."""
    table, engine = metadata.tables["chain"], sa.create_engine(url)
    try:
        with engine.connect() as con:
            if not sa.inspect(con).has_table(table.name):
                return {}  # of v0.1
            rows = con.execute(
                sa.select(table.c.model, table.c.number, table.c.hash).order_by(table.c.model, table.c.number)
            )
            return {model: {"entries": number, "hash": value} for model, number, value in rows}
    finally:
        engine.dispose()


def lake_outputs(settings: Settings) -> dict[str, dict[str, int]]:
    """Return how many outputs the lake has, by model and step."""
    root = open_root(settings.lake, ROOT)
    lakes = {name: Lake(root, name) for name in model_names()}
    return {
        name: {str(stage): count for stage in Stage if (count := len(lake.keys(stage)))} for name, lake in lakes.items()
    }


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a folder, by its path in it."""
    return {str(path.relative_to(folder)): digest_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def describe(folder: Path, content: Mapping[str, Any]) -> str:
    """Return what a backup has, for a terminal."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    rows = ", ".join(f"{model} {entry['entries']}" for model, entry in content["ledger"].items()) or "none"
    return (
        f"{folder}: {size:.1f} MB, {len(content['files'])} files. Entries of the ledger: {rows}.\n"
        f"The lake is not in it: keep copies of {content['lake']['address']} by its storage's own means.\n"
        f"Restore into an empty stack: make restore FROM={folder}"
    )


def main() -> int:
    """Make a backup and print what it has."""
    parser = argparse.ArgumentParser(prog="make backup", description=__doc__)
    parser.add_argument("folder", nargs="?", default="")
    given, console = parser.parse_args().folder, terminal()
    try:
        settings = load_settings()
        with console.status("copying ledger, MLflow and Prefect"):
            folder = backup(settings, make_folder((ROOT / (given or "backups")).resolve()))
        console.print(describe(folder, json.loads((folder / MANIFEST).read_text(encoding="utf-8"))), soft_wrap=True)
    except (ConfigError, StackError, EvergreenError, OSError, shutil.Error, sa.exc.SQLAlchemyError) as error:
        return print_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
