"""Local files with rows that were fetched from elsewhere. They belong to this process, and are deleted when it ends.

A killed process leaves its files to the next one that fetches.
"""

import atexit
import os
import shutil
import time
from itertools import count
from pathlib import Path

import psutil

from configs.settings import load_settings
from tasks.storage.folders import make_folder

KEPT_SECONDS = 600
"""How long a file is kept after its last use, while the process runs."""
_NUMBERS = count(1)
_FOLDERS: dict[tuple[Path, int], Path] = {}


def new_extract(name: str) -> Path:
    """The path of a new file, in a new folder. Files that were not used for some time are deleted.

    Args:
        name: Its name, such as orders.parquet. It may be in folders: country=DE/orders.parquet.
    """
    folder = _folder()
    for old in folder.iterdir():
        newest = max((path.stat().st_mtime for path in old.rglob("*")), default=0.0)
        if max(newest, old.stat().st_mtime) < time.time() - KEPT_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    path = folder / str(next(_NUMBERS)) / name
    make_folder(path.parent)
    return path


def use(path: Path) -> bool:
    """Whether a file is still there. It is then kept for some time."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _folder() -> Path:
    """The folder of this process, below the home."""
    settings = load_settings()
    root, pid = settings.path(settings.home) / "extracts", os.getpid()
    if (root, pid) not in _FOLDERS:
        for other in root.glob("*") if root.is_dir() else ():
            if not (other.name.isdigit() and psutil.pid_exists(int(other.name)) and int(other.name) != pid):
                shutil.rmtree(other, ignore_errors=True)
        _FOLDERS[root, pid] = make_folder(root / str(pid))
        atexit.register(shutil.rmtree, root / str(pid), ignore_errors=True)
    return make_folder(_FOLDERS[root, pid])
