"""The programs that `make up` runs, and the variables that they and their clients need."""

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from configs.settings import QUIET, ROOT, Settings, load_env

HOME_MARK, PROGRAM_MARK = "EVERGREEN_STACK", "EVERGREEN_PROGRAM"
"""In the environment of everything the stack starts: its home and the program's name. `down` knows its own by them."""

OTHERS = (
    "PREFECT_PROFILE",
    "PREFECT_API_KEY",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_API_DATABASE_CONNECTION_URL",
)
"""A person's settings for some other Prefect server, which must not reach ours."""


@dataclass(frozen=True)
class Program:
    """One supervised program. `health` is a URL that answers 200 once it is ready, empty for the worker."""

    name: str
    command: str
    directory: Path
    url: str = ""
    health: str = ""
    host: str = ""
    port: int = 0
    setting: str = ""
    autostart: bool = True


def programs(settings: Settings) -> tuple[Program, ...]:
    """In the order in which they start; they stop in the opposite one."""
    prefect = (sys.executable, "-m", "prefect")
    serve = ("server", "start", "--host", settings.host, "--port", settings.prefect_port)
    work = (
        "worker",
        "start",
        "--type",
        "process",
        "--pool",
        settings.pool,
        "--name",
        "local",
        "--limit",
        settings.run_limit,
    )
    return (
        _server("prefect", settings.prefect_url, "/api/health", settings, (*prefect, *serve)),
        _server("mlflow", settings.mlflow_address, "/health", settings, mlflow_command(settings)),
        _server("evidently", settings.evidently_url, "/api/version", settings, evidently_command(settings)),
        _server("pages", settings.pages_url, "/", settings, pages_command(settings)),
        _serving(settings),
        Program("worker", _quote((*prefect, "--no-prompt", *work)), ROOT, autostart=False),
    )


def mlflow_command(settings: Settings) -> tuple[object, ...]:
    """One web process (the default is four, at 180 MB each); threads inside it serve side by side."""
    folder = home_of(settings) / "mlflow"
    store = ("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}")
    artifacts = ("--serve-artifacts", "--artifacts-destination", folder / "artifacts")
    listen = ("--host", settings.host, "--port", settings.mlflow_port, "--workers", 1)
    return (sys.executable, "-m", "mlflow", "server", *store, *artifacts, *listen)


def evidently_command(settings: Settings) -> tuple[object, ...]:
    """Evidently has no `python -m`, only the script that stands beside this Python."""
    listen = ("--host", settings.host, "--port", settings.evidently_port)
    return (Path(sys.executable).with_name("evidently"), "ui", "--workspace", settings.evidently_workspace, *listen)


def pages_command(settings: Settings) -> tuple[object, ...]:
    """The models' pages are files: any web server will do."""
    listen = (settings.pages_port, "--bind", settings.host, "--directory", settings.pages)
    return (sys.executable, "-m", "http.server", *listen)


def environment(settings: Settings) -> dict[str, str]:
    """The variables that make any program a client of this stack.

    Addresses and folders follow `settings`; the rest is `configs/env/dev.env`, where this
    process's own environment wins.
    """
    defaults = {key: os.environ.get(key, value) for key, value in (QUIET | load_env("dev")).items()}
    own = {f"EVERGREEN_{key.upper()}": str(value) for key, value in settings.model_dump().items() if value != ""}
    home = home_of(settings)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(settings.threads))
    threads["OMP_WAIT_POLICY"] = "PASSIVE"  # waiting threads that spin cost a busy machine twice the CPU
    return (
        defaults
        | own
        | threads
        | {
            "PREFECT_API_URL": f"{settings.prefect_url}/api",
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_PROFILES_PATH": str(home / "prefect" / "profiles.toml"),
            "MLFLOW_TRACKING_URI": settings.mlflow_address,
        }
    )


def child_environment(settings: Settings, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`environment`, on top of this process's own, with the mark of the stack."""
    inherited = {key: value for key, value in base.items() if key not in OTHERS}
    return inherited | environment(settings) | {HOME_MARK: str(home_of(settings))}


def home_of(settings: Settings) -> Path:
    """The folder that holds the stack's state and logs."""
    return settings.path(settings.home).resolve()


def _server(name: str, url: str, health: str, settings: Settings, command: tuple[object, ...]) -> Program:
    """Servers stand in the stack's home, so that no folder of the repository shadows a package of theirs."""
    port = getattr(settings, f"{name}_port")
    setting = f"EVERGREEN_{name.upper()}_PORT"
    return Program(name, _quote(command), home_of(settings), url, url + health, settings.host, port, setting)


def _serving(settings: Settings) -> Program:
    """It imports ours, so it stands in the repository's root; a row is predicted on one core."""
    listen = ("--host", settings.host, "--port", settings.serving_port)
    found = _server("serving", settings.serving_url, "/health", settings, (sys.executable, "-m", "serving", *listen))
    return replace(found, directory=ROOT)


def _quote(command: tuple[object, ...]) -> str:
    """As one line for supervisord, which reads % as the start of a variable."""
    return shlex.join(str(part) for part in command).replace("%", "%%")
