"""Hints of error messages about unknown names: the most similar valid name, and all of them or where they are listed."""

import difflib
from collections.abc import Collection

NAMES_PAGE = "docs/names.md"
"""Page with all names of metrics, estimators and expectations. `python -m ops.keys --write` writes it."""
MOST_LISTED = 20
"""Number of names up to which a message lists all of them."""


def nearest_name(name: str, names: Collection[str]) -> str:
    """Return the valid name that is most similar to an unknown one, empty if none is."""
    return next(iter(difflib.get_close_matches(name, names, n=1)), "")


def hint(name: str, names: Collection[str], introduction: str = "there are") -> str:
    """Return what a person can write instead of an unknown name.

    Args:
        name: The unknown name.
        names: All valid names.
        introduction: Words before the list of all names.
    """
    question = f"did you mean {nearest!r}? " if (nearest := nearest_name(name, names)) else ""
    if len(names) > MOST_LISTED:
        return f"{question}{NAMES_PAGE} lists all {len(names)} names"
    return f"{question}{introduction.capitalize() if question else introduction} {', '.join(names)}"
