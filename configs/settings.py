"""Settings of the machine: addresses, folders, threads. The models' settings are in model.yaml.

Every setting is an environment variable `EVERGREEN_<NAME>`, with a default for one machine. `make deploy ENV=<env>` and the
stack load `configs/env/<env>.env`. Secrets, such as a database password, come only from the environment.
"""

import os
from pathlib import Path
from typing import Literal

from dotenv import dotenv_values
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from configs.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent

TELEMETRY_OFF = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Variables that switch off telemetry, advertisements and progress output. They must be set before the libraries are imported."""


class Settings(BaseSettings):
    """The settings. Read where they are needed, never at import."""

    model_config = SettingsConfigDict(env_prefix="EVERGREEN_", frozen=True, extra="ignore")

    home: Path = Field(Path(".evergreen"), description="databases, logs, server state; `make clean` deletes it")
    lake: str = Field("data/lake", description="partitions and their records: a folder or an fsspec URL (s3://...)")
    configs: Path = Field(Path("configs"), description="one folder per model")
    database_url: str = Field("", description="facts, decisions and promotions; by default SQLite in `home`")
    host: str = Field("127.0.0.1", description="address that the servers bind to")
    prefect_port: int = Field(4200, ge=1, le=65535)
    mlflow_port: int = Field(5000, ge=1, le=65535)
    evidently_port: int = Field(8000, ge=1, le=65535)
    pages_port: int = Field(8300, ge=1, le=65535)
    serving_port: int = Field(8080, ge=1, le=65535)
    metrics_port: int = Field(8400, ge=1, le=65535)
    serving_mb: float = Field(10, gt=0, description="largest body of a scoring request, in megabytes")
    serving_rows: int = Field(10_000, ge=1, description="most rows in a scoring request")
    serving_seconds: float = Field(10, gt=0, description="seconds within which a scoring request's body must arrive")
    serving_unwritten: int = Field(
        100_000,
        ge=1,
        description="most answered rows that wait to be written, such as with a full disk; above it requests are refused",
    )
    prefect_link: str = Field("", description="base URL of links to Prefect's UI; by default the local server")
    evidently_link: str = Field("", description="the same for Evidently's UI")
    pages_link: str = Field("", description="the same for the models' pages")
    log_format: Literal["text", "json"] = Field(
        "text",
        description="format of the logs of worker, runs, scoring server and metrics: text, or one JSON object a line",
    )
    pool: str = Field("evergreen", description="Prefect work pool that the deployments use")
    run_limit: int = Field(4, ge=1, description="flow runs that the worker runs in parallel")
    threads: int = Field(2, ge=1, description="cores that one run uses: BLAS, OpenMP, DuckDB, XGBoost")
    window_rows: int = Field(10_000_000, ge=1, description="most rows of a training window without `max_rows`")
    window_mb: float = Field(0, ge=0, description="memory for one training in megabytes; 0: half of the machine's")
    flow_timeout: float = Field(
        0, ge=0, description="seconds after which a flow run is stopped; 0: 15 minutes to 72 hours, by flow"
    )
    retries: int = Field(
        2,
        ge=0,
        le=5,
        description="retries of a step whose source, MLflow or database does not answer; after 5, 10, 20 ... s",
    )
    git_commit: str = Field("", description="commit to record if there is no .git folder, such as in a container")
    start_timeout: int = Field(600, ge=1, description="seconds that `make up` waits until the servers respond")

    def path(self, relative: Path) -> Path:
        """Return an absolute path. A relative one is relative to the repository's root."""
        return relative if relative.is_absolute() else ROOT / relative

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the database."""
        return self.database_url or f"sqlite:///{self.path(self.home) / 'evergreen.db'}"

    @property
    def mlflow_uri(self) -> str:
        """URL of MLflow. Its own variable takes precedence, so that its command line and Evergreen use the same server."""
        return os.environ.get("MLFLOW_TRACKING_URI") or self.mlflow_address

    @property
    def mlflow_address(self) -> str:
        """URL of the MLflow server that `make up` starts."""
        return f"http://{self.host}:{self.mlflow_port}"

    @property
    def prefect_url(self) -> str:
        """Base URL of Prefect's server, without `/api`."""
        return f"http://{self.host}:{self.prefect_port}"

    @property
    def evidently_url(self) -> str:
        """Base URL of Evidently's server."""
        return f"http://{self.host}:{self.evidently_port}"

    @property
    def pages_url(self) -> str:
        """Base URL of the server of the models' pages."""
        return f"http://{self.host}:{self.pages_port}"

    @property
    def serving_url(self) -> str:
        """Base URL of the serving API."""
        return f"http://{self.host}:{self.serving_port}"

    @property
    def metrics_url(self) -> str:
        """Base URL of the metrics of models, ledger and queues."""
        return f"http://{self.host}:{self.metrics_port}"

    @property
    def prefect_ui(self) -> str:
        """Base URL of links that people open. In production it differs from `prefect_url`."""
        return self.prefect_link.rstrip("/") or self.prefect_url

    @property
    def evidently_ui(self) -> str:
        """Base URL of links to Evidently that people open."""
        return self.evidently_link.rstrip("/") or self.evidently_url

    @property
    def pages_ui(self) -> str:
        """Base URL of links to the models' pages that people open."""
        return self.pages_link.rstrip("/") or self.pages_url

    @property
    def pages(self) -> Path:
        """Folder of the models' pages."""
        return self.path(self.home) / "pages"

    @property
    def evidently_workspace(self) -> Path:
        """Folder of Evidently's workspace."""
        return self.path(self.home) / "evidently"


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        ConfigError: A variable is not valid. The message names each one and the allowed values.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = (f"EVERGREEN_{str(e['loc'][0]).upper()}={e['input']}: {e['msg']}" for e in error.errors())
        raise ConfigError("\n".join(f"{line}; change it, or unset it" for line in lines)) from None


def load_env(name: str) -> dict[str, str]:
    """Return the variables of `configs/env/<name>.env`. The environment is not changed.

    Raises:
        ConfigError: There is no such file.
    """
    folder = ROOT / "configs" / "env"
    path = folder / f"{name}.env"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in folder.glob("*.env")))
        raise ConfigError(f"ENV={name}: {path} does not exist; there are: {names}")
    return {key: value or "" for key, value in dotenv_values(path, interpolate=False).items()}


def disable_telemetry() -> None:
    """Switch off telemetry in this process, unless the environment already has the variables."""
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
