"""Folders of state that only the user who runs Evergreen can read, whatever the umask."""

import logging
import stat
from pathlib import Path

log = logging.getLogger(__name__)
PRIVATE = 0o700
OTHERS = stat.S_IRWXG | stat.S_IRWXO
"""Rights of the group and of all other users."""


def make_folder(folder: Path) -> Path:
    """Create a folder and the missing ones above it with mode 0700, and return it. The rights of existing folders stay."""
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir(PRIVATE, exist_ok=True)
    return folder


def make_home(folder: Path) -> Path:
    """Create the folder of state with mode 0700, and return it. An existing one that others can read becomes private."""
    restrict_home(make_folder(folder))
    return folder


def restrict_home(folder: Path) -> None:
    """Take the rights of other users from the folder of state, if it exists, and log that. If it is not possible, log why."""
    if not (problem := exposed(folder)):
        return
    mode = folder.stat().st_mode
    try:
        if not mode & stat.S_ISVTX:  # /tmp and the like belong to all users
            folder.chmod(stat.S_IMODE(mode) & ~OTHERS)
    except PermissionError:
        pass  # it belongs to another user
    if exposed(folder):
        log.warning("%s, and that cannot be changed by this process", problem)
    else:
        log.warning("%s. It now has mode 0700", problem)


def exposed(folder: Path) -> str:
    """Return that other users can open a folder, and what to do; empty if they cannot, or if it does not exist."""
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
    except (FileNotFoundError, PermissionError):
        return ""
    if not mode & OTHERS:
        return ""
    return f"{folder} has mode {mode:04o}, so other users of this machine can open it; run `chmod 700 {folder}` as its owner"
