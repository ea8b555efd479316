"""The models' folders of a git revision, beside those of the working tree."""

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

from configs.errors import ConfigError


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


def extract_model(name: str, commit: str, configs: Path, folder: Path) -> bool:
    """Write a model's folder of a commit into `folder`. Return False if the commit has no such model."""
    if not _git(configs, "ls-tree", commit, "--", f"{name}/model.yaml"):
        return False
    archive = _git(configs, "archive", "--format=tar", commit, "--", name)
    with tarfile.open(fileobj=BytesIO(archive or b"")) as files:
        files.extractall(folder, filter="data")
    return True


def same_files(one: Path, other: Path) -> bool:
    """Return whether two folders have the same files with the same bytes."""
    contents = [
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()} for folder in (one, other)
    ]
    return contents[0] == contents[1]


def _git(folder: Path, *arguments: str) -> bytes | None:
    """Return the output of a git command in a folder, None if it fails."""
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
