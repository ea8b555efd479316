"""The commit that records contain: that of the checkout or worktree, or the setting where there is none."""

import os
import subprocess
from pathlib import Path

import pytest

from tasks.resources import git_commit, open_resources, uncommitted_files

AUTHOR = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *AUTHOR, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit, which contains `tasks/code.py`."""
    folder = tmp_path / "checkout"
    (folder / "tasks").mkdir(parents=True)
    (folder / "tasks" / "code.py").write_text("a = 1\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "one")
    return folder


def test_the_commit_is_that_of_the_checkout(checkout: Path) -> None:
    assert git_commit(checkout) == git(checkout, "rev-parse", "HEAD")


def test_a_packed_branch_and_a_detached_head_have_their_commit(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    git(checkout, "pack-refs", "--all")
    assert git_commit.__wrapped__(checkout) == commit
    git(checkout, "checkout", "--quiet", "--detach")
    assert git_commit.__wrapped__(checkout) == commit


def test_a_worktree_has_its_own_commit_and_its_own_uncommitted_files(checkout: Path, tmp_path: Path) -> None:
    worktree = tmp_path / "worktree"
    git(checkout, "worktree", "add", "--quiet", "-b", "other", str(worktree))
    (worktree / "tasks" / "code.py").write_text("a = 2\n")
    assert (uncommitted_files(worktree), uncommitted_files(checkout)) == (["tasks/code.py"], [])
    git(worktree, "commit", "--quiet", "--all", "--message", "two")
    assert git_commit(worktree) == git(worktree, "rev-parse", "HEAD") != git_commit(checkout)
    assert uncommitted_files(worktree) == []


def test_a_folder_of_a_checkout_a_repository_without_a_commit_and_a_plain_folder_have_none(
    checkout: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "--quiet")
    assert [git_commit(folder) for folder in (checkout / "tasks", tmp_path / "empty", tmp_path)] == ["", "", ""]
    assert uncommitted_files(tmp_path) == []


def test_without_git_the_commit_is_empty(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_commit(checkout) == ""
    assert uncommitted_files(checkout) == ["unknown: git did not respond"]


def test_git_is_asked_once_in_a_process(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = git_commit(checkout)
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_commit(checkout) == commit


def test_the_setting_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_GIT_COMMIT", "abc")
    assert open_resources("flights").commit == "abc"
