"""Errors of storages at addresses: what kind an error is of, a text without secrets, and what a person can do."""

import re
from typing import Literal, NamedTuple

from tasks.source.secret_values import variable, without_options

Kind = Literal["refused", "missing", "options", "package", "unavailable"]
REFUSED = r"Access Denied|AccessDenied|Forbidden|Unauthorized|InvalidAccessKeyId|SignatureDoesNotMatch|[Cc]redentials|\b40[13]\b"
OPTIONS = r"failed to parse|Invalid .*config|Unable to .* endpoint"
COLOURS = r"\x1b\[[0-9;]*m"


class StorageProblem(NamedTuple):
    """An error of a storage. The text has no options of a connection, and is on one line."""

    kind: Kind
    text: str
    action: str


def storage_problem(error: Exception, text: str, connection: str | None) -> StorageProblem:
    """Classify an error.

    Args:
        error: The error of a library: fsspec, a library of a cloud, or delta-rs. They have no common class.
        text: Its text, as it may be shown for a model with personal columns.
        connection: The connection with the options of the storage.
    """
    shown = without_options(" ".join(re.sub(COLOURS, "", text).split()), connection)[:400].rstrip(".")
    own = f"{variable(connection)} or the secret" if connection else "the worker's environment"
    names = {type(e).__name__ for e in (error, error.__cause__, error.__context__) if e}
    if isinstance(error, ImportError):
        return StorageProblem("package", shown, "Add the package to pyproject.toml: only s3fs is installed")
    if isinstance(error, PermissionError) or "NoCredentialsError" in names or re.search(REFUSED, str(error)):
        return StorageProblem("refused", shown, f"Correct the credentials in {own}, or grant the rights")
    if isinstance(error, FileNotFoundError) or "TableNotFoundError" in names:
        return StorageProblem("missing", shown, "Correct the address in model.yaml, or create the bucket or the table")
    if isinstance(error, TypeError | ValueError) or re.search(OPTIONS, str(error)):
        return StorageProblem("options", shown, f"Correct the options of the storage in {own}")
    return StorageProblem("unavailable", shown, "Run it again when the storage is available")
