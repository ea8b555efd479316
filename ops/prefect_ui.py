"""A copy of Prefect's web interface that asks no host but its server.

Prefect's V2 interface asks Amplitude, a service for usage statistics, for its configuration at each visit, also with
`PREFECT_SERVER_ANALYTICS_ENABLED=false`. Prefect 3.9.1 has no setting against that. But it serves its interface from the folder
of `PREFECT_SERVER_UI_STATIC_DIRECTORY`, where it writes a copy when it starts. Without the key of the service, the interface asks nobody.
"""

import re
from pathlib import Path

from configs.settings import Settings

KEY = re.compile(r"return`[0-9a-f]{32}`")
"""The only function of the interface that returns such a text returns the key."""


def ui_folder(settings: Settings) -> Path:
    """Return the folder from which the Prefect server of `make up` serves its interface."""
    return settings.path(settings.home).resolve() / "prefect-ui"


def remove_analytics_key(settings: Settings) -> None:
    """Take the key out of the server's copy of the interface. The server must have started once, since it writes the copy."""
    for script in ui_folder(settings).glob("v2/assets/index-*.js"):
        content = script.read_text(encoding="utf-8")
        changed = KEY.sub("return``", content)
        if changed != content:
            draft = script.with_suffix(".draft")
            draft.write_text(changed, encoding="utf-8")
            draft.replace(script)
