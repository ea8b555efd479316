"""Restore a backup into an empty stack, start it, and audit every model: `make restore FROM=backups/2026-01-31T02-00-00Z`."""

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rich.console import Console

from configs.errors import ConfigError
from configs.load import model_names
from configs.settings import ROOT, Settings, load_settings
from ops import stack, supervision
from ops.backup import (
    ARTIFACTS,
    FORMAT,
    MANIFEST,
    artifacts,
    databases,
    digests,
    for_tools,
    lake_outputs,
    run_tool,
)
from ops.errors import StackError
from ops.programs import home_of
from ops.terminal import print_error, terminal
from tasks.errors import EvergreenError
from tasks.ledger.database import open_database
from tasks.ledger.tables import metadata
from tasks.resources import open_resources
from tasks.storage.folders import make_folder, make_home
from tasks.storage.personal import FILE as PERSONAL_KEY


def restore(settings: Settings, folder: Path) -> dict[str, Any]:
    """Put databases and artifacts of a backup where the settings say, and return the backup's manifest.

    Raises:
        StackError: The backup is damaged, the stack runs, or something is there already. Nothing was changed.
    """
    content = read_manifest(folder)
    urls, files = databases(settings), artifacts(settings)
    kinds = {name: kind for name, kind in content["databases"].items() if kind}
    require_empty(settings, {name: urls[name] for name in kinds}, files)
    for name, kind in kinds.items():
        if kind != urls[name].get_backend_name():
            raise StackError(
                f"the backup has {name} from {kind}, but the settings name {urls[name].get_backend_name()}; use the same kind"
            )
    home = make_home(home_of(settings))
    if (folder / PERSONAL_KEY).is_file():
        if (home / PERSONAL_KEY).is_file() and (home / PERSONAL_KEY).read_bytes() != (
            folder / PERSONAL_KEY
        ).read_bytes():
            raise StackError(
                f"{home / PERSONAL_KEY} is another key than that of the backup, so hashes would not match; move it away"
            )
        shutil.copy(folder / PERSONAL_KEY, home / PERSONAL_KEY)
    if isinstance(files, Path) and (folder / ARTIFACTS).is_dir():
        draft = files.with_name(f"{files.name}.part")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(folder / ARTIFACTS, draft)
        files.rmdir() if files.is_dir() else make_folder(files.parent)
        draft.rename(files)
    for name in sorted(
        kinds, key=["prefect", "mlflow", "ledger"].index
    ):  # the ledger last: without it, nothing counts as restored
        put_database(folder / name, urls[name])
    open_database.cache_clear()  # what is open is the ledger that was here before
    return content


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a whole backup.

    Raises:
        StackError: The folder is no backup, of another format, or has a file that is missing or differs.
    """
    try:
        content: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StackError(f"{folder} is no backup: {error}; give the folder that `make backup` printed") from error
    if content.get("format") != FORMAT:
        raise StackError(f"{folder} has format {content.get('format')}; this code restores format {FORMAT}")
    found = digests(folder)
    for name, digest in content["files"].items():
        if found.get(name) != digest:
            raise StackError(f"{folder / name} is {'damaged' if name in found else 'missing'}; use another backup")
    return content


def require_empty(settings: Settings, urls: Mapping[str, sa.URL], files: Path | str) -> None:
    """Require that nothing runs and nothing would be replaced.

    Raises:
        StackError: Something runs, or is there.
    """
    if supervision.states(home_of(settings)):
        raise StackError("the stack runs; run `make down`, and restore into an empty EVERGREEN_HOME")
    if isinstance(files, Path) and files.is_dir() and any(files.iterdir()):
        raise StackError(
            f"{files} has files, and a restore would overwrite them; move it away, or set another EVERGREEN_HOME"
        )
    for name, url in urls.items():
        if url.get_backend_name() == "sqlite":
            path = Path(url.database or "")
            there = path.exists() or any(
                path.parent.glob(f"{path.name}-*")
            )  # a journal would be replayed over what is restored
        else:
            engine = sa.create_engine(for_tools(url))
            there = bool(sa.inspect(engine).get_table_names())
            engine.dispose()
        if there:
            place = url.render_as_string(hide_password=True)
            raise StackError(
                f"the database of {name}, {place}, is not empty, and a restore would overwrite it; name an empty one"
            )


def put_database(source: Path, url: sa.URL) -> None:
    """Restore one database, all or nothing."""
    if url.get_backend_name() != "sqlite":
        run_tool("pg_restore", url, "--no-owner", "--exit-on-error", "--single-transaction", str(source))
        return
    target = Path(url.database or "")
    part = make_folder(target.parent) / f"{target.name}.part"
    part.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(part)) as new:
        old.backup(new)
    part.chmod(0o600)
    part.rename(target)


def verify(settings: Settings, content: Mapping[str, Any]) -> list[str]:
    """Audit each model, and compare ledger and lake with the manifest. Returns the problems.

    MLflow has to run.
    """
    from tasks.lifecycle.audit import audit

    url, problems = databases(settings)["ledger"], []
    for model, entry in content["ledger"].items():
        if (found := hash_of(url, model, entry["entries"])) != entry["hash"]:
            shown = found[:12] or "nothing"
            problems.append(f"{model}: entry {entry['entries']} of the ledger is {shown}, and was {entry['hash'][:12]}")
    for model in sorted(set(model_names()) & content["ledger"].keys()):
        problems += [f"{model}: {problem}" for problem in audit(open_resources(model), None, None).problems]
    outputs = lake_outputs(settings)
    for model, counts in content["lake"]["outputs"].items():
        for stage, count in counts.items():
            if (now := outputs.get(model, {}).get(stage, 0)) < count:
                problems.append(
                    f"{model}: the lake has {now} outputs of {stage}, and had {count}; restore {content['lake']['address']}, or run "
                    f"`prefect deployment run backfill/manual -p model={model} -p mode=missing` for the missing partitions"
                )
    return problems


def hash_of(url: sa.URL, model: str, number: int) -> str:
    """Return the hash of an entry of a model's chain, empty if there is none."""
    table, engine = metadata.tables["chain"], sa.create_engine(url)
    try:
        with engine.connect() as con:
            query = sa.select(table.c.hash).where(table.c.model == model, table.c.number == number)
            return con.execute(query).scalar() or ""
    finally:
        engine.dispose()


def servers_elsewhere() -> bool:
    """Whether variables name the databases or addresses of servers that `make up` does not start."""
    names = (
        "MLFLOW_BACKEND_STORE_URI",
        "MLFLOW_ARTIFACTS_DESTINATION",
        "MLFLOW_TRACKING_URI",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    )
    return any(os.environ.get(name) for name in names)


def print_result(problems: Sequence[str], content: Mapping[str, Any], console: Console) -> None:
    """Print the problems, or what agrees."""
    for problem in problems:
        console.print(f"problem: {problem}", style="red", soft_wrap=True, markup=False)
    if not problems:
        models = ", ".join(content["ledger"]) or "no model"
        text = f"Verified: chain, digests and MLflow's tags of {models} agree, and the lake has all outputs."
        console.print(text, soft_wrap=True)


def main() -> int:
    """Restore, audit, and start the stack. Exit status 1 if there are problems; then nothing was started."""
    parser = argparse.ArgumentParser(
        prog="make restore", usage="make restore FROM=folder [VERIFY=1]", description=__doc__
    )
    parser.add_argument("folder")
    parser.add_argument("--verify", default="", help="1: only audit what was restored, with the servers running")
    given, console, elsewhere = parser.parse_args(), terminal(), servers_elsewhere()
    folder = ROOT / given.folder
    try:
        settings = load_settings()
        with console.status("verifying and copying"):
            content = read_manifest(folder) if given.verify else restore(settings, folder)
        if not given.verify:
            made = f"made {content['made_at']} at commit {content['commit'][:10]}"
            console.print(f"Restored {folder}, {made}.", soft_wrap=True)
        if elsewhere and not given.verify:
            console.print(f"Start your servers, then audit: make restore FROM={given.folder} VERIFY=1", soft_wrap=True)
            return 0
        if not elsewhere:  # by its database, before a worker runs and writes anything
            os.environ["MLFLOW_TRACKING_URI"] = databases(settings)["mlflow"].render_as_string(hide_password=False)
        with console.status("auditing"):
            problems = verify(settings, content)
        print_result(problems, content, console)
        if problems:
            return 1
        if not elsewhere and not given.verify:
            del os.environ["MLFLOW_TRACKING_URI"]
            stack.up(settings, console)
    except (ConfigError, StackError, EvergreenError, OSError, shutil.Error, sa.exc.SQLAlchemyError) as error:
        return print_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
