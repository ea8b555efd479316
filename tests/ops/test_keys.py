"""The table of every key of model.yaml is the schema's, and leaves none out."""

from typing import Any

import pytest
import yaml

from configs.load import configs_folder, model_names
from ops.keys import PAGE, keys, render, written


def test_the_page_holds_what_the_schema_says() -> None:
    assert written() == render(), f"run `python -m ops.keys --write`, and commit {PAGE.name}"


def test_every_key_has_a_meaning() -> None:
    lines = [line.split("|") for line in render().splitlines() if line.startswith("| `")]
    assert [parts[1] for parts in lines if not parts[4].strip()] == []


@pytest.mark.parametrize("model", model_names())
def test_every_key_that_a_model_uses_is_in_it(model: str) -> None:
    known = {path.replace("[]", "").replace(".<name>", "") for path, _ in keys()}
    content = yaml.safe_load((configs_folder() / model / "model.yaml").read_text())
    free = ("params", "kwargs", "floor", "candidates", "tables", "space", "policies", "dictionary")

    def used(value: Any, above: str) -> None:
        for part in value if isinstance(value, list) else [value]:
            for name, inner in part.items() if isinstance(part, dict) else ():
                path = f"{above}{name}"
                assert path in known, path
                if name in ("candidates", "tables"):
                    for each in inner.values():
                        used(each, f"{path}.")
                elif name not in free:
                    used(inner, f"{path}.")

    used(content, "")
