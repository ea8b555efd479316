"""`make suggest MODEL=`: a diff of learned expectations, which writes nothing unless it is told to."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from configs.load import load_model
from ops.suggest import diff, main, suggestion
from tasks.contracts import Stage
from tasks.resources import LiveResources, open_resources
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance
from tasks.steps.validate import VALIDATE
from tests.ops.profiling.test_from_data import made
from tests.unseen import orders, write

SUGGESTED = "\n[+-]  - "


@pytest.fixture
def model(root: Path) -> Path:
    """A model that `make model` has written, with all partitions validated. Returns its model.yaml."""
    plan, _ = made(root, write(orders("binary"), root / "orders.parquet"))
    validate(plan.periods.keys)
    return root / "configs" / "unseen" / "model.yaml"


def validate(keys: tuple[str, ...]) -> LiveResources:
    res = open_resources("unseen")
    for key in keys:
        for step in (INGEST, VALIDATE):
            advance(step, res.ref(key), res)
    return res


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["unseen", *arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert re.search(old, text), old
    path.write_text(re.sub(old, new, text, count=1))


def test_a_changed_range_is_a_diff_that_git_applies_and_nothing_is_written(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suggestion_now, *_ = suggestion(open_resources("unseen"))
    model.write_text(suggestion_now)
    code, out, err = run(capsys)
    assert (code, out) == (0, "")
    assert "the expectations are those of" in err
    change(model, r"column: price, min_value: [^,]+, max_value: [^}]+", "column: price, min_value: -99, max_value: 99")
    before = model.read_text()
    code, out, err = run(capsys)
    assert code == 0
    assert model.read_text() == before
    removed, added = (
        [line for line in out.splitlines() if line.startswith(sign) and not line.startswith(sign * 3)] for sign in "-+"
    )
    assert len(removed) == len(added) == 1
    assert "min_value: -99, max_value: 99" in removed[0]
    assert "column: price, min_value: -9, max_value: 9.3" in added[0]
    assert "nothing is written" in err
    (model.parent / "change.diff").write_text(re.sub(r"^(---|\+\+\+) [ab]/.*$", r"\1 model.yaml", out, flags=re.M))
    subprocess.run(["patch", "-p0", "-i", "change.diff"], cwd=model.parent, check=True, capture_output=True)
    assert model.read_text() == suggestion_now


def test_apply_writes_it_and_the_model_loads(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(model, r"column: price, min_value: [^,]+, max_value: [^}]+", "column: price, min_value: -99, max_value: 99")
    _, shown, _ = run(capsys)
    code, out, err = run(capsys, "--apply", "1")
    assert (code, out) == (0, shown)
    assert f"wrote {model}" in err
    load_model("unseen")
    assert run(capsys)[1] == ""


def test_a_change_that_breaks_the_published_contract_is_a_note(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(model, r"column: price, min_value: [^,]+, max_value: [^}]+", "column: price, min_value: -2, max_value: 9")
    _, out, err = run(capsys)
    assert "column: price, min_value: -9" in out
    assert "note: " in err
    assert "breaks version 1 of the published contract" in err
    assert "raise contract.version to 2" in err


def test_lines_and_severities_of_a_person_stay(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = (
        "  - {type: expect_column_values_to_be_between, kwargs: {column: weight, min_value: -50, max_value: 50}} # ours"
    )
    change(model, r"  - \{type: expect_column_values_to_be_between[^\n]*column: weight[^\n]*", own)
    change(model, r"severity: warning, (kwargs: \{column: price, min_value:) [^,]+", r"severity: info, \1 -77")
    other = (
        "  - {type: expect_column_value_lengths_to_be_between, kwargs: {column: colour, min_value: 1, max_value: 9}}\n"
    )
    change(model, r"(\n)(\ntraining:)", "\n" + other + r"\2")
    _, out, _ = run(capsys, "--apply", "1")
    text = model.read_text()
    assert own in text
    assert other in text
    assert text.count("column: weight") == 1
    assert "column: weight" not in "".join(line for line in out.splitlines() if line.startswith(("+", "-")))
    assert re.search(r"severity: info, kwargs: \{column: price, min_value: -9, max", text)


def test_only_the_newest_partitions_count(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the newest four weeks prices are higher, and a new colour occurs."""
    frame = orders("binary")
    late = frame["ordered_at"] >= pd.Timestamp("2024-04-01")
    frame.loc[late, "price"] += 2.0
    frame.loc[late, "colour"] = np.where(np.arange(late.sum()) % 2, "violet", "red")
    write(frame, model.parents[2] / "orders.parquet")
    res = validate(("2024-W14", "2024-W15", "2024-W16", "2024-W17"))
    valid = pd.concat([res.lake.read(Stage.VALID, f"2024-W{week}") for week in (14, 15, 16, 17)])
    text, source, _ = suggestion(res, 4)
    assert source == f"{len(valid):,} valid rows of 2024-W14 to 2024-W17"
    assert f"expectations: # from {source}\n" in text
    assert "value_set: [red, violet]" in text
    line = next(line for line in text.splitlines() if "column: price" in line)
    assert f"all from {valid['price'].min():.4g} to {valid['price'].max():.4g}" in line
    assert "value_set: [red, violet]" not in suggestion(res)[0], "in all weeks violet is new"
    assert "column: colour, value_set" in diff(model, text)


def test_a_range_with_values_far_outside_becomes_a_check_that_only_reports(model: Path) -> None:
    """Its line had the learned severity, so it gets the new one."""
    frame = orders("binary")
    frame.loc[frame.index[frame["ordered_at"].between("2024-04-15", "2024-04-16")][:2], "weight"] = 900.0
    write(frame, model.parents[2] / "orders.parquet")
    change(model, r"severity: warning, (kwargs: \{column: weight)", r"severity: info, \1")
    model.write_text(model.read_text() + "contract: {version: 2}\n")
    validate(("2024-W16",))
    change(model, r"severity: info, (kwargs: \{column: weight)", r"severity: warning, \1")
    line = next(line for line in suggestion(open_resources("unseen"))[0].splitlines() if "column: weight" in line)
    assert "severity: info" in line
    assert "those far outside are reported only" in line


def test_quarantined_rows_are_not_learned_from_but_count_as_rows_of_a_partition(model: Path) -> None:
    frame = orders("binary")
    far = (frame["ordered_at"] >= pd.Timestamp("2024-04-15")) & (frame["price"] > 1)
    frame.loc[far, "price"] = 5_000.0
    write(frame, model.parents[2] / "orders.parquet")
    res = validate(("2024-W16", "2024-W17"))
    text, *_ = suggestion(res, 2)
    line = next(line for line in text.splitlines() if "column: price" in line)
    assert "5000" not in line
    rows = frame["ordered_at"].dt.strftime("%G-W%V").value_counts()[["2024-W16", "2024-W17"]]
    assert f"2 weeks had {rows.min()} to {rows.max()} rows" in text


def test_values_of_personal_columns_are_not_learned(model: Path) -> None:
    model.write_text(model.read_text() + "personal: [colour, price]\n")
    text, *_ = suggestion(open_resources("unseen"))
    assert "column: price" not in text
    assert "column: colour" not in text
    assert "column: weight" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--partitions", "few"], "PARTITIONS=few: is not a number"), (["--apply", "yes"], "APPLY=yes: write APPLY=1")],
)
def test_wrong_options_are_errors(
    model: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_model_without_validated_partitions_is_an_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(root, write(orders("binary"), root / "orders.parquet"))
    code, _, err = run(capsys)
    assert code == 2
    assert "no partition is validated, so there are no rows to learn from; run `backfill` or `process` first" in err


def test_a_model_without_expectations_gets_a_list(model: Path) -> None:
    text = re.sub(r"expectations:.*?(?=\ntraining:)", "", model.read_text(), flags=re.S)
    model.write_text(text.rstrip("\n"))
    suggested, *_ = suggestion(open_resources("unseen"))
    assert "\nexpectations:\n  - {type: expect_table_row_count_to_be_between" in suggested


def test_the_indentation_and_the_comments_of_a_list_stay(model: Path) -> None:
    """A column that has no expectation yet gets one after the last entry, before the comment of the next section."""
    text = model.read_text()
    entries = re.search(r"expectations:.*?\n(?=\ntraining:)", text, flags=re.S)
    assert entries
    kept = [line for line in entries[0].splitlines() if "column: weight" not in line]
    flush = "\n".join(line.removeprefix("  ") for line in kept) + "\n"
    model.write_text(text.replace(entries[0] + "\n", f"{flush}\n# how it is trained\n"))
    suggested, *_ = suggestion(open_resources("unseen"))
    added = next(line for line in suggested.splitlines() if "column: weight" in line)
    assert added.startswith("- {type: expect_column_values_to_be_between")
    assert f"{added}\n\n# how it is trained\ntraining:" in suggested


def test_a_list_on_one_line_is_an_error(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = "{type: expect_column_values_to_be_unique, columns: [order_id]}"
    model.write_text(
        re.sub(r"expectations:.*?(?=\ntraining:)", f"expectations: [{entry}]\n", model.read_text(), flags=re.S)
    )
    code, _, err = run(capsys)
    assert code == 2
    assert "expectations: the list is on one line in brackets; write each entry in a line" in err


def test_expectations_that_other_models_have_too_are_left_to_a_person(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = model.read_text()
    listed = text[text.index("expectations:") :]
    end = re.search(r"\n\w", listed)
    own = listed[: end.start() + 1] if end else listed
    (model.parents[1] / "base.yaml").write_text(own)
    model.write_text(text.replace(own, "extends: ../base.yaml\n"))
    code, _, err = run(capsys)
    assert code == 2
    assert f"its expectations are those of {model.parents[1] / 'base.yaml'}" in err
    (model.parents[1] / "base.yaml").write_text("description: of all\n")
    model.write_text(text.replace("description:", "extends: ../base.yaml\n# description:", 1))
    code, _, err = run(capsys)
    assert code == 0, err
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.yaml"]
