"""Print which version was champion at a time, why, who approved it and on what evidence, and verify the audit records.

make audit MODEL=flights AT=2013-06-15
"""

import argparse
import os
import sys
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.markdown import Markdown

from configs.base import to_utc
from configs.errors import ConfigError
from configs.settings import load_settings
from ops import stack
from ops.programs import home_of
from ops.terminal import message, print_error, terminal
from tasks.errors import EvergreenError
from tasks.resources import Resources, open_resources
from tasks.storage.folders import make_home


def parse_time(text: str, res: Resources) -> datetime | None:
    """Parse an ISO 8601 date or time. Without a time zone it is in the model's zone. Empty text gives None.

    Raises:
        ConfigError: The text is no date or time.
    """
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"AT={text} is no date or time; write it as 2013-06-15 or 2013-06-15T12:00:00-04:00"
        ) from None
    time = time if time.tzinfo else time.replace(tzinfo=ZoneInfo(res.config.partition.timezone))
    try:
        to_utc(time)
    except ValueError as error:
        raise ConfigError(f"AT={text}: {error}") from None
    return time


def main() -> int:
    """Audit the model of the command line. Exit status 1 if there are problems, 2 if the audit cannot run."""
    parser = argparse.ArgumentParser(
        prog="make audit", usage="make audit MODEL=flights [AT=2013-06-15]", description=__doc__
    )
    parser.add_argument("model")
    parser.add_argument("--at", default="")
    arguments = parser.parse_args()
    console = terminal()
    try:
        settings = load_settings()
        os.environ.update(stack.environment(settings))
        res = open_resources(arguments.model)
        at = parse_time(arguments.at, res)
        make_home(home_of(settings))  # Prefect creates a folder in it when it is imported
        from tasks.lifecycle.audit import audit
        from tasks.orchestration.events import known_hashes
        from tasks.reports.artifacts import audit_headline, audit_lines

        events = known_hashes(arguments.model) if stack.running(settings).get("prefect") else None
        result = audit(res, at, events)
        console.print(message(audit_headline(result)), style="bold")
        body = "\n".join(audit_lines(result))
        console.print(Markdown(body) if sys.stdout.isatty() else message(body))
    except (ConfigError, EvergreenError) as error:
        print_error(error)
        return 2
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
