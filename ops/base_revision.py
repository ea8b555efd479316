"""The models' folders of a git revision, beside those of the working tree."""

import os.path
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

from configs.errors import ConfigError
from configs.fleets import files_of


def commit_of(base: str, configs: Path) -> str:
    """Return the commit of a git revision.

    Raises:
        ConfigError: The folder of the models is in no git checkout, or the revision does not exist.
    """
    if not _git(configs, "rev-parse", "HEAD"):
        raise ConfigError(f"{configs} is in no git checkout with a commit, so there is no base to compare with")
    commit = _git(configs, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}")
    if not commit:
        raise ConfigError(
            f"BASE={base} is no revision of this repository; choose a branch, a tag or a commit (`git fetch` may bring it)"
        )
    return commit.decode().strip()


def extract_models(commit: str, configs: Path, folder: Path) -> None:
    """Write the models' folders of a commit, and the files that they extend, into `folder`. An empty one if the commit has none."""
    folder.mkdir(exist_ok=True)
    archive = _git(configs, "archive", "--format=tar", commit, "--", ".")
    if archive:
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(folder, filter="data")


def same_model(name: str, one: Path, other: Path) -> bool:
    """Return whether a model is of the same files with the same bytes in two folders of models."""
    return _files(name, one) == _files(name, other)


def _files(name: str, configs: Path) -> dict[str, bytes]:
    """The files that a model is made from: those of its folders, and those that its model.yaml extends."""
    paths = {path for path in files_of(name, configs) if path.is_file()}
    folders = {path.parent for path in paths if path.name == "model.yaml"}
    paths |= {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    return {os.path.relpath(path, configs): path.read_bytes() for path in paths}


def _git(folder: Path, *arguments: str) -> bytes | None:
    """Return the output of a git command in a folder, None if it fails."""
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
