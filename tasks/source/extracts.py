"""Local files with rows that were fetched from elsewhere. They belong to this process, and are deleted when it ends.

A killed process leaves its files to the next one that fetches.
"""

import atexit
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psutil

from configs.settings import load_settings
from tasks.storage.folders import make_folder

KEPT_SECONDS = 600
"""How long a file is kept after its last use, while the process runs."""
_NUMBERS = count(1)
_LOCK = threading.RLock()
_USED: dict[Path, float] = {}
"""When each file was used last. Not its time of change, by which other caches know a file."""
_HELD: Counter[Path] = Counter()
"""By how many readers each file is used."""
_FOLDERS: dict[tuple[Path, int], Path] = {}


def new_extract(name: str) -> Path:
    """The path of a new file, in a new folder. Files that nobody has used or held for some time are deleted.

    Args:
        name: Its name, such as orders.parquet. It may be in folders: country=DE/orders.parquet.
    """
    with _LOCK:
        now = time.monotonic()
        for old in [path for path, used in _USED.items() if now - used > KEPT_SECONDS and not _HELD[path]]:
            old.unlink(missing_ok=True)
            del _USED[old]
        path = _folder() / str(next(_NUMBERS)) / name
        make_folder(path.parent)
        _USED[path] = now
    return path


def use(path: Path) -> bool:
    """Whether a file is still there. It is then kept for some time."""
    with _LOCK:
        if path not in _USED or not path.exists():
            return False
        _USED[path] = time.monotonic()
    return True


@contextmanager
def hold(paths: Iterable[Path]) -> Iterator[None]:
    """Keep files as long as they are used in the body. Paths of other files are left alone."""
    own = [path for path in paths if path in _USED]
    with _LOCK:
        _HELD.update(own)
    try:
        yield
    finally:
        with _LOCK:
            _HELD.subtract(own)
            _USED.update(dict.fromkeys((path for path in own if path in _USED), time.monotonic()))


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
