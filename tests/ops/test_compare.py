"""`make compare`: a changed model beside that of a git revision, on history, as one Markdown comment."""

import io
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from configs.errors import ConfigError, UnknownModel
from configs.load import load_model
from ops import compare as command
from ops.base_revision import commit_of
from ops.compare import Request, changed_models, compare_model
from tasks.replay.change import PARTITION, Side, compare_sides
from tests.conftest import parcels
from tests.tasks.replay.test_standings import policy_run

PROGRESS = Console(file=io.StringIO())
START, END = "2024-03-10", "2024-03-16"


@pytest.fixture
def checkout(tiny: Path) -> Path:
    """The folder of the tiny model's configs as a git checkout with one commit on `main`."""
    git(tiny, "init", "-q", "-b", "main")
    git(tiny, "add", "configs")
    git(tiny, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "first")
    return tiny


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True)


def edit(folder: Path, old: str, new: str, file: str = "model.yaml") -> None:
    path = folder / "configs" / "tiny" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def run(folder: Path, name: str = "tiny", **options: str) -> tuple[str, bool]:
    """Compare with `main`; return the comment's lines as one text, and whether the changed model is valid."""
    configs, scratch = folder / "configs", folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    lines, valid = compare_model(name, Request("main", commit_of("main", configs), scratch, **options), PROGRESS)
    return "\n".join(lines), valid


@pytest.mark.slow
def test_a_change_of_parameters_is_compared_on_the_same_rows_and_production_stays_as_it_is(checkout):
    edit(checkout, "max_depth: 3", "max_depth: 1")
    edit(checkout, "cool_down: 3D", "cool_down: 3D, cost: 0.01")
    before = sorted(checkout.rglob("*"))
    comment, valid = run(checkout, start=START, end=END)
    assert valid
    assert f"on {START} to {END}" in comment
    assert r"| training.candidates.trees.params.max_depth | 3 | 1 |" in comment
    assert "| log_loss (judged) |" in comment
    assert "| roc_auc |" in comment
    assert "| log_loss plus cost |" in comment
    assert "on the same 1,029 rows with an outcome" in comment, "seven days of 150 rows, three without an outcome"
    assert "Smallest gain that the gate can see" in comment
    scratch = checkout / "scratch"
    new = [p for p in checkout.rglob("*") if p not in before and p != scratch and scratch not in p.parents]
    assert new == [], "lake, ledger and home of production"


@pytest.mark.slow
def test_a_change_of_the_sql_that_drops_rows_is_measured_on_the_rows_that_both_have(checkout):
    for file in ("source.sql", "labels.sql"):
        edit(checkout, "WHERE", "WHERE weight < 1 AND", file)
    comment, valid = run(checkout, start=START, end=END, policy="never")
    assert valid
    assert "| source.sql | 1 line removed | 1 line added |" in comment
    kept = sum(len(day[(day.weight < 1) & day.late.notna()]) for day in map(parcels, range(9, 16)))
    assert f"on the same {kept:,} rows" in comment
    assert f"Left out: {1029 - kept:,} rows that only the base scored, 0 that only the change scored" in comment


@pytest.mark.parametrize(
    ("old", "new", "text", "valid"),
    [
        ("name: tiny", "name: tiny", "Nothing has changed since main", True),
        ("name: tiny\n", "# a comment\nname: tiny\n", "Only comments, layout or descriptions have changed", True),
        ("max_depth: 3", "max_dept: 3", "not valid", False),
    ],
)
def test_without_a_valid_difference_there_is_no_replay(checkout, old, new, text, valid):
    edit(checkout, old, new)
    comment, is_valid = run(checkout)
    assert text in comment
    assert is_valid is valid
    assert not (checkout / "scratch" / "ledger.db").exists()


def test_an_invalid_model_is_described_with_file_and_key(checkout):
    edit(checkout, "splits: 1", "splits: none")
    comment, _ = run(checkout)
    assert re.search(r"    .*configs/tiny/model.yaml: training.splits", comment)


def test_a_new_model_has_no_base_and_an_unknown_one_is_an_error(checkout):
    shutil.copytree(checkout / "configs" / "tiny", checkout / "configs" / "small")
    path = checkout / "configs" / "small" / "model.yaml"
    path.write_text(path.read_text().replace("name: tiny", "name: small"))
    comment, valid = run(checkout, "small")
    assert "The model is new" in comment
    assert valid
    assert changed_models(commit_of("main", checkout / "configs")) == ["small"]
    with pytest.raises(UnknownModel, match="no model 'smal'"):
        run(checkout, "smal")


def test_a_base_that_was_invalid_is_nothing_to_compare_with(checkout):
    good = (checkout / "configs" / "tiny" / "model.yaml").read_text()
    edit(checkout, "max_depth: 3", "max_dept: 3")
    git(checkout, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qam", "second")
    (checkout / "configs" / "tiny" / "model.yaml").write_text(good)
    comment, valid = run(checkout)
    assert "is not valid with this code, so there is nothing to compare with" in comment
    assert valid


@pytest.mark.parametrize("base", ["mian", "--output=x", "main:configs"])
def test_an_unknown_base_is_an_error_that_says_what_to_do(checkout, base):
    with pytest.raises(ConfigError, match="is no revision of this repository; choose a branch"):
        commit_of(base, checkout / "configs")


def test_the_command_writes_the_comment_of_all_changed_models_and_fails_for_an_invalid_one(
    checkout, monkeypatch, capsys
):
    monkeypatch.setattr("sys.argv", ["compare", "main"])
    assert command.main() == 0
    assert "No model differs from main" in capsys.readouterr().out
    edit(checkout, "max_depth: 3", "max_dept: 3")
    assert command.main() == 1
    comment = capsys.readouterr().out
    assert comment.startswith("<!-- evergreen compare -->\n## Comparison of tiny with main")
    assert (checkout / ".evergreen" / "compare.md").read_text() == comment
    monkeypatch.setattr("sys.argv", ["compare", "nowhere"])
    assert command.main() == 2


def side(model, predictions: list[float], outcomes: list[int]) -> Side:
    """Return a side with rows of eight days, a row an hour."""
    times = pd.date_range("2024-03-01", periods=len(predictions), freq="h", tz="UTC").astype("datetime64[us, UTC]")
    rows = pd.DataFrame({"parcel": range(len(times)), "sent": times, "late": outcomes, "prediction": predictions})
    return Side(model, policy_run("live", [0.5]), rows.assign(**{PARTITION: "p0"}), 1.0)


def test_other_outcomes_or_another_kind_of_target_give_no_gain(tiny):
    model, truth = load_model("tiny"), [0, 1] * 96
    base = side(model, [0.5] * 192, truth)
    better = compare_sides(base, side(model, [0.4, 0.6] * 96, truth))
    # The loss falls from -log .5 to -log .6 for each row, so the gain has no error.
    assert better.gains["log_loss"].value == pytest.approx(0.18232, abs=1e-5)
    other = compare_sides(base, side(model, [0.5] * 192, [1, *truth[1:]]))
    assert "the outcome differs in 1 of 192 common rows" in other.impossible
    assert other.gains == {}
