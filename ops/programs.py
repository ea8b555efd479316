"""Commands and environment variables of the programs that `make up` starts."""

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from configs.settings import ROOT, TELEMETRY_OFF, Settings, load_env
from ops.prefect_ui import ui_folder

HOME_MARK, PROGRAM_MARK = "EVERGREEN_STACK", "EVERGREEN_PROGRAM"
"""Variables of every process of the stack: its home and the program's name. `down` finds the processes by them."""

EXCLUDED = (
    "PREFECT_PROFILE",
    "PREFECT_API_KEY",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_API_DATABASE_CONNECTION_URL",
)
"""Variables for another Prefect server, which must not reach the stack's server."""


@dataclass(frozen=True)
class Program:
    """One supervised program. `health` is a URL that returns 200 when the program is ready, empty for the worker."""

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
    """Return the programs in the order in which they start. They stop in reverse order."""
    prefect = (sys.executable, "-m", "prefect")
    server = ("server", "start", "--host", settings.host, "--port", settings.prefect_port)
    worker = (sys.executable, "-m", "ops.worker", "--name", "local", "--limit", settings.run_limit)
    metrics = (sys.executable, "-m", "ops.metrics", "--host", settings.host, "--port", settings.metrics_port)
    return (
        _server("prefect", settings.prefect_url, "/api/health", settings, (*prefect, *server)),
        _server("mlflow", settings.mlflow_address, "/health", settings, mlflow_command(settings)),
        _server("evidently", settings.evidently_url, "/api/version", settings, evidently_command(settings)),
        _server("pages", settings.pages_url, "/", settings, pages_command(settings)),
        _in_root(_server("serving", settings.serving_url, "/health", settings, serving_command(settings))),
        _in_root(_server("metrics", settings.metrics_url, "/metrics", settings, metrics)),
        Program("worker", _quote(worker), ROOT, autostart=False),
    )


def mlflow_command(settings: Settings) -> tuple[object, ...]:
    """Return the command with one web process, which has threads. The default is four processes of 180 MB each."""
    folder = home_of(settings) / "mlflow"
    store = ("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}")
    artifacts = ("--serve-artifacts", "--artifacts-destination", folder / "artifacts")
    listen = ("--host", settings.host, "--port", settings.mlflow_port, "--workers", 1)
    return (sys.executable, "-m", "mlflow", "server", *store, *artifacts, *listen)


def evidently_command(settings: Settings) -> tuple[object, ...]:
    """Return the command with the script in this Python's folder, since Evidently has no `python -m`."""
    listen = ("--host", settings.host, "--port", settings.evidently_port)
    return (Path(sys.executable).with_name("evidently"), "ui", "--workspace", settings.evidently_workspace, *listen)


def pages_command(settings: Settings) -> tuple[object, ...]:
    """Return the command of a web server for static files, which the models' pages are."""
    listen = (settings.pages_port, "--bind", settings.host, "--directory", settings.pages)
    return (sys.executable, "-P", ROOT / "ops" / "page_server.py", *listen)


def serving_command(settings: Settings) -> tuple[object, ...]:
    """Return the command of the scoring server."""
    return (sys.executable, "-m", "serving", "--host", settings.host, "--port", settings.serving_port)


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that make a program a client of this stack.

    Addresses and folders come from `settings`. The other variables come from this process's environment, or else from
    `configs/env/dev.env`.
    """
    defaults = {key: os.environ.get(key, value) for key, value in (TELEMETRY_OFF | load_env("dev")).items()}
    own = {f"EVERGREEN_{key.upper()}": str(value) for key, value in settings.model_dump().items() if value != ""}
    home = home_of(settings)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(settings.threads))
    threads["OMP_WAIT_POLICY"] = "PASSIVE"  # spinning threads take twice the CPU on a busy machine
    return (
        defaults
        | own
        | threads
        | {
            "PREFECT_API_URL": f"{settings.prefect_url}/api",
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_PROFILES_PATH": str(home / "prefect" / "profiles.toml"),
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(ui_folder(settings)),
            "MLFLOW_TRACKING_URI": settings.mlflow_address,
        }
    )


def child_environment(settings: Settings, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return this process's environment with the stack's variables and the home."""
    inherited = {key: value for key, value in base.items() if key not in EXCLUDED}
    return inherited | environment(settings) | {HOME_MARK: str(home_of(settings))}


def home_of(settings: Settings) -> Path:
    """Return the folder of the stack's state and logs."""
    return settings.path(settings.home).resolve()


def _server(name: str, url: str, health: str, settings: Settings, command: tuple[object, ...]) -> Program:
    """Return a server that runs in the stack's home, so that no folder of the repository shadows one of its packages."""
    port = getattr(settings, f"{name}_port")
    setting = f"EVERGREEN_{name.upper()}_PORT"
    return Program(name, _quote(command), home_of(settings), url, url + health, settings.host, port, setting)


def _in_root(program: Program) -> Program:
    """Return a server that runs in the repository's root, because it imports the repository's packages."""
    return replace(program, directory=ROOT)


def _quote(command: tuple[object, ...]) -> str:
    """Return the command as one line for supervisord, with % escaped, which would start a variable."""
    return shlex.join(str(part) for part in command).replace("%", "%%")
