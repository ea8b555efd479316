"""Start Prefect's worker of this installation: `python -m ops.worker`. Its logs have the format of `EVERGREEN_LOG_FORMAT`.

Further arguments are passed on to `prefect worker start`. The process becomes the worker, so signals reach it.
"""

import os
import sys
from typing import NoReturn

from configs.errors import ConfigError
from configs.settings import ROOT, Settings, load_settings
from tasks.orchestration.run_logs import VARIABLES


def worker_command(settings: Settings) -> list[str]:
    """Return the command of a worker for the pool of the settings."""
    start = ("worker", "start", "--type", "process", "--pool", settings.pool)
    return [sys.executable, "-m", "prefect", "--no-prompt", *start]


def main() -> NoReturn:
    """Replace this process with the worker. Exit status 2 if the settings are not valid."""
    try:
        settings = load_settings()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    os.chdir(ROOT)
    os.environ.update(VARIABLES if settings.log_format == "json" else {})
    os.execv(sys.executable, [*worker_command(settings), *sys.argv[1:]])  # noqa: S606  (no shell is needed)


if __name__ == "__main__":
    main()
