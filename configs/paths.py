"""Paths of source files: `*` and `?` as in a shell, and in dated paths directives that stand for the start of a file's period."""

import functools
import re
from collections.abc import Iterable, Mapping
from datetime import datetime

from configs.base import Every

DIRECTIVES: Mapping[str, str] = {
    "%Y": r"\d{4}", "%y": r"\d{2}", "%m": r"\d{2}", "%d": r"\d{2}", "%j": r"\d{3}", "%b": r"[^\W\d_]+\.?", "%B": r"[^\W\d_]+",
    "%H": r"\d{2}", "%M": r"\d{2}", "%S": r"\d{2}", "%G": r"\d{4}", "%V": r"\d{2}",
    "%-m": r"\d{1,2}", "%-d": r"\d{1,2}", "%-H": r"\d{1,2}", "%-V": r"\d{1,2}",
}  # fmt: skip
"""Directives of `strftime` in a path, and what they match. With `-` there are no leading zeros: `month=3`."""
NEEDED: Mapping[Every, tuple[str, ...]] = {
    "M": ("Ym",),
    "W": ("GV", "Ymd", "Yj"),
    "D": ("Ymd", "Yj"),
    "H": ("YmdH", "YjH"),
}
"""Combinations of directives, each of which identifies a period. `y` counts as `Y`, `b` and `B` as `m`."""
TOKEN = re.compile(r"%-?.?|\*\*/|\*+|\?")


def path_problem(path: str, every: Every | None) -> str:
    """Return why no file can be found under a path, and what to write instead; empty if files can be found."""
    if path.startswith("~"):
        return "a path must be absolute, relative to the repository, or an address; ~ is not expanded"
    if path.endswith(("/", "\\")) or not path:
        return "a path must name the files too, not only their folder: add a name, or *.parquet for all of them"
    if any("**" in part and part != "**" for part in path.split("/")):
        return "** stands for folders of any depth and must be a folder of its own, as in data/**/rows.csv"
    if every is None:
        return "a path with %Y, %m ... needs `every`" if "%" in path else ""
    directives = [part for part in TOKEN.findall(path) if part.startswith("%") and part != "%%"]
    if not directives:
        return "`every` needs a path with %Y, %m ..."
    if unknown := sorted({part for part in directives if part not in DIRECTIVES}):
        return f"{', '.join(unknown)} cannot be used in a path; use {', '.join(DIRECTIVES)}, or %% for a percent sign"
    if not _identifying(directives, every):
        needed = " or ".join(" ".join(f"%{letter}" for letter in letters) for letters in NEEDED[every])
        return (
            f"every: {every} needs {needed} in the path; with {' '.join(directives)} several periods have the same file"
        )
    return ""


def folder_problem(personal: Iterable[str], paths: Iterable[str]) -> str:
    """Return why a personal column cannot come from the names of folders, empty if none does."""
    folders = {part.partition("=")[0].lower() for path in paths for part in path.split("/")[:-1] if "=" in part}
    for name in personal:
        if name.lower() in folders:
            problem = (
                f"folders have the values of {name} in their names ({name}=...), and paths are in messages and records"
            )
            return f"{problem}; store it in the files only, in folders without it"
    return ""


def dated_path(path: str, start: datetime) -> str:
    """Return a dated path with the start of a period in it. Wildcards remain."""
    return start.strftime(path)


def any_date(path: str) -> str:
    """Return a dated path with a wildcard for each directive."""
    return "/".join(part if part == "**" else _any_date(part) for part in path.split("/"))


def _any_date(part: str) -> str:
    text = TOKEN.sub(lambda m: "%" if m[0] == "%%" else "*" if m[0].startswith("%") else m[0], part)
    return re.sub(r"\*+", "*", text)


def parse_date(path: str, file: str, every: Every) -> datetime | None:
    """Return the start of a file's period as naive local time, None if no period has a file of this name.

    Args:
        path: The dated path.
        file: The path of a file that matches `any_date(path)`.
        every: Length of a file's period.
    """
    match = _pattern(path).fullmatch(file)
    if match is None:
        return None
    values = match.groupdict()
    names, form, repeated = _form(tuple(values), every)
    try:
        start = _parse([values[name] for name in names], form)
    except ValueError:
        return None
    if start.strftime(repeated) == " ".join(values.values()):
        return start
    # With wildcards, the name of the file may match in several ways.
    return start if re.fullmatch(_regex(dated_path(path, start).replace("%", "%%")), file) else None


def _parse(texts: list[str], form: str) -> datetime:
    """Parse the texts of directives. Numbers of year, month, day and hour need no `strptime`, which takes ten times as long.

    Raises:
        ValueError: They are not a date.
    """
    if "%Y %m %d %H".startswith(form):
        year, month, day, hour = (*map(int, texts), *(1, 0)[len(texts) - 2 :])
        return datetime(year, month, day, hour)  # noqa: DTZ001  (local to the model's zone)
    return datetime.strptime(" ".join([*texts, "1"] if "%V" in form else texts), form)  # noqa: DTZ007  (an ISO week alone is no date)


@functools.lru_cache(maxsize=256)
def _pattern(path: str) -> re.Pattern[str]:
    """Return the compiled pattern for the files of a path. A source can have thousands of them."""
    return re.compile(_regex(path))


@functools.lru_cache(maxsize=256)
def _form(groups: tuple[str, ...], every: Every) -> tuple[list[str], str, str]:
    """Return how to parse the groups of a pattern.

    Returns:
        The groups that identify a period, the format in which `strptime` reads their texts, and the format of the texts of all groups.
    """
    directives = [f"%{name.replace('_', '-')}" for name in groups]
    names = _identifying(directives, every)
    form = " ".join(f"%{name[-1]}" for name in names)
    return names, f"{form} %u" if "%V" in form else form, " ".join(directives)


def _identifying(directives: list[str], every: Every) -> list[str]:
    """Return the names of the directives of the first combination that identifies a period; empty if there is none."""
    same = {"y": "Y", "b": "m", "B": "m"}
    by_letter = {same.get(d[-1], d[-1]): d[1:].replace("-", "_") for d in directives}
    complete = (letters for letters in NEEDED[every] if set(letters) <= by_letter.keys())
    return [by_letter[letter] for letter in next(complete, "")]


def _regex(path: str) -> str:
    """Return a pattern for the files of a path. Each directive is a group, and a repeated one must match the same text."""
    parts, at, names = [], 0, set()
    for token in TOKEN.finditer(path):
        parts.append(re.escape(path[at : token.start()]))
        at, text = token.end(), token[0]
        if text.startswith("%"):
            name = text[1:].replace("-", "_")
            group = f"(?P={name})" if name in names else f"(?P<{name}>{DIRECTIVES.get(text)})"
            names.add(name)
            parts.append("%" if text == "%%" else group)
        else:
            parts.append({"**/": "(?:.*/)?", "?": "[^/]"}.get(text, "[^/]*"))
    return "".join([*parts, re.escape(path[at:])])
