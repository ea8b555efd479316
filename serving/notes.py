"""What was served last, on this machine's disk: a start without ledger and registry goes on with it."""

import json
import logging
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from serving.versions import Pick
from tasks.storage.files import replacing

log = logging.getLogger("serving")


def write_note(folder: Path, model: str, pick: Pick | None) -> None:
    """Note which version is served, or that none is. A disk that does not take it is told of, and no reason not to serve."""
    path = folder / f"{model}.json"
    try:
        if pick is None:
            path.unlink(missing_ok=True)
            return
        with replacing(path) as draft:
            draft.write_text(json.dumps(asdict(pick), default=str), encoding="utf-8")
    except OSError as error:
        log.error("%s: cannot be noted that version %s answers: %s", model, pick.version if pick else "none", error)


def read_note(folder: Path, model: str) -> Pick | None:
    """The version that was noted; None where none was, or the note cannot be read."""
    try:
        held = json.loads((folder / f"{model}.json").read_text(encoding="utf-8"))
        return Pick(**(held | {"as_of": datetime.fromisoformat(held["as_of"])}))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.error("%s: what was served last cannot be read: %s", model, error)
        return None
