"""The table of the keys of model.yaml matches the schema and is complete."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.load import configs_folder, model_names
from ops.keys import PAGE, current_table, generated, keys, render


def test_the_table_on_the_page_is_up_to_date() -> None:
    assert current_table() == render(), f"run `python -m ops.keys --write`, and commit {PAGE.name}"


@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_a_generated_file_is_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == generated()[path], "run `python -m ops.keys --write`, and commit it"


def test_every_key_has_a_description() -> None:
    lines = [line.split("|") for line in render().splitlines() if line.startswith("| `")]
    assert [parts[1] for parts in lines if not parts[4].strip()] == []


@pytest.mark.parametrize("model", model_names())
def test_every_key_that_a_model_uses_is_in_the_table(model: str) -> None:
    paths = {path.replace("[]", "").replace(".<name>", "") for path, _ in keys()}
    content = yaml.safe_load((configs_folder() / model / "model.yaml").read_text())
    free_form = ("params", "kwargs", "floor", "candidates", "tables", "space", "policies", "dictionary")

    def check_keys(value: Any, prefix: str) -> None:
        for part in value if isinstance(value, list) else [value]:
            for name, inner in part.items() if isinstance(part, dict) else ():
                path = f"{prefix}{name}"
                assert path in paths, path
                if name in ("candidates", "tables"):
                    for each in inner.values():
                        check_keys(each, f"{path}.")
                elif name not in free_form:
                    check_keys(inner, f"{path}.")

    check_keys(content, "")
