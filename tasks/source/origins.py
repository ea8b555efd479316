"""Where the rows of a local file came from, for messages: an address, or a table of a database."""

from pathlib import Path

_ORIGINS: dict[Path, str] = {}


def remember(path: Path, place: str) -> None:
    """Note where the rows of a file came from."""
    _ORIGINS[path] = place


def origin(path: Path) -> str:
    """Where the rows of a file came from: the file itself, if they were not fetched from elsewhere."""
    return _ORIGINS.get(path, str(path))
