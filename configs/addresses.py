"""Addresses of files and Delta tables that are not local, such as `s3://bucket/sales/*.parquet`."""

import re

from configs.base import Every
from configs.database import database_problem
from configs.paths import DIRECTIVES, TOKEN, path_problem

SCHEMES = ("s3", "gs", "az", "abfs", "https", "http")
"""Those in whose names people write addresses. Any that fsspec has a file system for can be read."""


def address_problem(path: str, every: Every | None) -> str:
    """Return why no file can be found at an address, and what to write instead; empty if files can be found."""
    scheme, _, rest = path.partition("://")
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        return f"{scheme!r} is not the scheme of an address; write one such as {', '.join(SCHEMES)}"
    if problem := secret_problem(path):
        return problem
    if "::" in rest:
        return ":: would be a chain of file systems, which is not read; give the address of the files themselves"
    if scheme in ("http", "https") and (every or re.search(r"[*?]", rest)):
        return (
            "a web server cannot list its files, so the address names one file, without *, `every` and a query after ?; "
            'a token belongs into the options of a `connection`, as {"headers": {"Authorization": "Bearer ..."}}'
        )
    is_dated = bool(set(TOKEN.findall(rest)) & DIRECTIVES.keys()) and scheme not in ("http", "https")
    return path_problem(rest if every or is_dated else rest.replace("%", ""), every)


def secret_problem(address: str) -> str:
    """Return that an address has a user or password, which must not be in model.yaml; empty if it has none."""
    scheme, _, rest = address.partition("://")
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if at and (":" in user or scheme in ("http", "https")):
        return "a user or password must not be in model.yaml; put them into the options of a `connection`"
    return ""


def delta_problem(
    address: str, time: str | None, time_format: str | None, time_zone: str | None, connection: str | None
) -> str:
    """Return why a Delta table cannot be read with these keys, and what to write instead; empty if it can."""
    if not address or address.startswith("~"):
        return f"delta: {address!r} must be the folder of a Delta table, absolute or relative to the repository, or its address"
    if problem := secret_problem(address):
        return f"delta: {problem}"
    if re.search(r"[*?%]", address):
        return f"delta: {address!r} must be one table; its files are found by its log, so *, ? and %Y are not needed"
    if connection and "://" not in address:
        return f"connection: is for an address such as s3://bucket/..., but {address!r} is local; remove it"
    return database_problem("delta", None, time, time_format, time_zone, None, None)
