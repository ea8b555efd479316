"""Which version was champion at a moment, why, who approved it, on what evidence; and whether the record holds together.

make audit MODEL=flights AT=2013-06-15
"""

import argparse
import os
import sys
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.markdown import Markdown

from configs.errors import ConfigError
from configs.settings import load_settings
from ops import stack
from ops.programs import home_of
from ops.terminal import complain, terminal
from tasks.errors import EvergreenError
from tasks.resources import Resources, open_resources


def moment(text: str, res: Resources) -> datetime | None:
    """A moment as people write it; without a zone it is in the model's.

    Raises:
        ConfigError: it is none.
    """
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"AT={text} is no moment; write it as 2013-06-15 or 2013-06-15T12:00:00-04:00") from None
    return found if found.tzinfo else found.replace(tzinfo=ZoneInfo(res.config.partition.timezone))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make audit", usage="make audit MODEL=flights [AT=2013-06-15]", description=__doc__
    )
    parser.add_argument("model")
    parser.add_argument("--at", default="")
    asked = parser.parse_args()
    console = terminal()
    try:
        settings = load_settings()
        os.environ.update(stack.environment(settings))
        res = open_resources(asked.model)
        at = moment(asked.at, res)
        home_of(settings).mkdir(
            parents=True, exist_ok=True
        )  # Prefect makes its own folder there, as soon as it is imported
        from tasks.lifecycle.audit import audit
        from tasks.orchestration.events import known_hashes
        from tasks.reports.artifacts import audit_headline, audit_lines

        events = known_hashes(asked.model) if stack.running(settings).get("prefect") else None
        found = audit(res, at, events)
        console.print(audit_headline(found), style="bold", markup=False)
        body = "\n".join(audit_lines(found))
        console.print(Markdown(body) if sys.stdout.isatty() else body, markup=False)
    except (ConfigError, EvergreenError) as error:
        complain(error)
        return 2
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
