"""Where things are on this machine: addresses, folders, threads. Never what a model is.

Every setting is an environment variable `EVERGREEN_<NAME>` with a default that suits one
machine. `configs/env/<env>.env` holds the sets that `make deploy ENV=<env>` and the stack
load; secrets (a database password, say) come from the environment alone.
"""

import os
from pathlib import Path

from dotenv import dotenv_values
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from configs.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Every vendor's telemetry off, and MLflow quiet about git. Set before a vendor is imported."""


class Settings(BaseSettings):
    """The machine's side of the configuration, read once where it is needed, never at import."""

    model_config = SettingsConfigDict(env_prefix="EVERGREEN_", frozen=True, extra="ignore")

    home: Path = Field(Path(".evergreen"), description="databases, logs, server state; `make clean` removes it")
    lake: str = Field(
        "data/lake", description="partitions and their records: a folder, or any fsspec address (s3://...)"
    )
    configs: Path = Field(Path("configs"), description="one folder per model")
    database_url: str = Field("", description="facts, decisions, promotions; default SQLite under `home`")
    host: str = Field("127.0.0.1", description="address that the servers bind to")
    prefect_port: int = Field(4200, ge=1, le=65535)
    mlflow_port: int = Field(5000, ge=1, le=65535)
    evidently_port: int = Field(8000, ge=1, le=65535)
    pages_port: int = Field(8300, ge=1, le=65535)
    serving_port: int = Field(8080, ge=1, le=65535)
    serving_mb: float = Field(10, gt=0, description="megabytes that the body of a scoring request may have")
    serving_rows: int = Field(10_000, ge=1, description="rows that a scoring request may have")
    serving_seconds: float = Field(10, gt=0, description="seconds within which a scoring request's body must be there")
    serving_unwritten: int = Field(
        100_000, ge=1, description="answered rows that may wait for a full disk; then nothing is answered any more"
    )
    prefect_link: str = Field("", description="what links to Prefect's UI begin with; by default the server here")
    evidently_link: str = Field("", description="the same for Evidently's")
    pages_link: str = Field("", description="the same for the models' pages")
    pool: str = Field("evergreen", description="Prefect work pool that the deployments use")
    run_limit: int = Field(4, ge=1, description="flow runs that the worker starts side by side")
    threads: int = Field(2, ge=1, description="cores that one run may use: BLAS, OpenMP, DuckDB, XGBoost")
    window_rows: int = Field(10_000_000, ge=1, description="rows of a training window without `max_rows`")
    window_mb: float = Field(
        0, ge=0, description="memory that a training may plan with; 0: half of what the machine has"
    )
    git_commit: str = Field("", description="commit to put on records where no .git is at hand (a container)")
    start_timeout: int = Field(600, ge=1, description="seconds that `make up` waits for the servers to answer")

    def path(self, relative: Path) -> Path:
        """An absolute path; what is relative counts from the repository's root."""
        return relative if relative.is_absolute() else ROOT / relative

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the one database."""
        return self.database_url or f"sqlite:///{self.path(self.home) / 'evergreen.db'}"

    @property
    def mlflow_uri(self) -> str:
        """MLflow's own variable wins, so that its command line and ours mean the same server."""
        return os.environ.get("MLFLOW_TRACKING_URI") or self.mlflow_address

    @property
    def mlflow_address(self) -> str:
        """The server that `make up` starts."""
        return f"http://{self.host}:{self.mlflow_port}"

    @property
    def prefect_url(self) -> str:
        return f"http://{self.host}:{self.prefect_port}"

    @property
    def evidently_url(self) -> str:
        return f"http://{self.host}:{self.evidently_port}"

    @property
    def pages_url(self) -> str:
        return f"http://{self.host}:{self.pages_port}"

    @property
    def serving_url(self) -> str:
        return f"http://{self.host}:{self.serving_port}"

    @property
    def prefect_ui(self) -> str:
        """Where links lead that people follow, which in production is not where this machine's servers would be."""
        return self.prefect_link.rstrip("/") or self.prefect_url

    @property
    def evidently_ui(self) -> str:
        return self.evidently_link.rstrip("/") or self.evidently_url

    @property
    def pages_ui(self) -> str:
        return self.pages_link.rstrip("/") or self.pages_url

    @property
    def pages(self) -> Path:
        """Folder of the models' pages."""
        return self.path(self.home) / "pages"

    @property
    def evidently_workspace(self) -> Path:
        return self.path(self.home) / "evidently"


def load_settings() -> Settings:
    """Read the environment now.

    Raises:
        ConfigError: a variable says what it cannot; the message names each, and what it may be.
    """
    try:
        return Settings()
    except ValidationError as error:
        said = (f"EVERGREEN_{str(e['loc'][0]).upper()}={e['input']}: {e['msg']}" for e in error.errors())
        raise ConfigError("\n".join(f"{line}; change it, or unset it" for line in said)) from None


def load_env(name: str) -> dict[str, str]:
    """The lines of `configs/env/<name>.env`. Changes nothing: what the environment says already should win.

    Raises:
        ConfigError: there is no such file.
    """
    folder = ROOT / "configs" / "env"
    path = folder / f"{name}.env"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.env")))
        raise ConfigError(f"ENV={name}: {path} does not exist; there are: {known}")
    return {key: value or "" for key, value in dotenv_values(path, interpolate=False).items()}


def silence_vendors() -> None:
    """Switch telemetry off in this process, unless the environment says otherwise already."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
