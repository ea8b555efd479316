"""The version that was served last, saved on the local disk for a start without ledger and registry."""

import json
import logging
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from serving.versions import VersionRef
from tasks.storage.files import replacing

log = logging.getLogger("serving")


def write_last_served(folder: Path, model: str, ref: VersionRef | None) -> None:
    """Save which version is served, or delete the file if none is. A failure of the disk is logged and does not stop serving."""
    path = folder / f"{model}.json"
    try:
        if ref is None:
            path.unlink(missing_ok=True)
            return
        with replacing(path) as draft:
            draft.write_text(json.dumps(asdict(ref), default=str), encoding="utf-8")
    except OSError as error:
        about = {"model": model, "version": ref.version if ref else ""}
        log.error(
            "%s: cannot save that version %s is served: %s", model, about["version"] or "none", error, extra=about
        )


def read_last_served(folder: Path, model: str) -> VersionRef | None:
    """Return the saved version, or None if there is none or the file cannot be read."""
    try:
        content = json.loads((folder / f"{model}.json").read_text(encoding="utf-8"))
        return VersionRef(**(content | {"as_of": datetime.fromisoformat(content["as_of"])}))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.error("%s: the version that was served last cannot be read: %s", model, error, extra={"model": model})
        return None
