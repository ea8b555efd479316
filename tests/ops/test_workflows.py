"""The workflows of GitHub: pinned actions, few rights, no text of a pull request in a shell, and one comment that is replaced."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from configs.settings import ROOT
from ops.compare import MARK

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
GH = """#!/bin/sh
echo "$*" >> "$RUNNER_TEMP/calls"
case "$*" in *--jq*) cat "$RUNNER_TEMP/own" ;; esac
"""


def steps(path: Path) -> list[dict]:
    return [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_actions_are_pinned_and_shells_have_no_text_of_a_pull_request(path):
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", step["uses"])
        assert not re.search(r"\$\{\{(?!\s*github\.event_name\b)", step.get("run", "")), (
            "pass it as a variable of `env`"
        )
    assert yaml.safe_load(path.read_text())["permissions"]["contents"] == "read"


def test_compare_starts_for_models_and_may_only_write_to_the_pull_request():
    content = yaml.safe_load((ROOT / ".github" / "workflows" / "compare.yml").read_text())
    assert content[True] == {"pull_request": {"paths": ["configs/*/**", "!configs/env/**"]}}, "YAML reads `on` as true"
    assert content["permissions"] == {"contents": "read", "pull-requests": "write"}
    checkout = content["jobs"]["compare"]["steps"][0]["with"]
    assert checkout == {"fetch-depth": 2, "persist-credentials": False}


@pytest.mark.parametrize(
    ("own", "may_comment", "call"),
    [
        ("", "true", "--method POST repos/o/r/issues/7/comments"),
        ("41\n42\n", "true", "--method PATCH repos/o/r/issues/comments/41"),
        ("", "false", None),
    ],
)
def test_a_pull_request_has_one_comment_and_one_from_a_fork_a_summary_only(tmp_path, own, may_comment, call):
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    (tmp_path / "own").write_text(own)
    (tmp_path / ".evergreen").mkdir()
    (tmp_path / ".evergreen" / "compare.md").write_text(f"{MARK}\n## A comparison\n")
    variables = {"NUMBER": "7", "MAY_COMMENT": may_comment, "GITHUB_REPOSITORY": "o/r", "RUNNER_TEMP": str(tmp_path)}
    env = {
        **os.environ,
        **variables,
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    script = steps(ROOT / ".github" / "workflows" / "compare.yml")[-1]["run"]
    assert MARK in script, "by this line the comment is found again"
    subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=env, check=True)
    assert (tmp_path / "summary").read_text().startswith(MARK)
    calls = (tmp_path / "calls").read_text().splitlines() if call else []
    assert [c for c in calls if "--method" in c] == (
        [f"api --silent {call} -F body=@{tmp_path}/comment.md"] if call else []
    )
