"""What import-linter cannot see: what is really loaded, and that importing does nothing."""

import ast
import subprocess
import sys

import pytest

from configs.settings import ROOT

SERVING = (
    "configs.load",
    "tasks.contracts",
    "tasks.errors",
    "tasks.models.features",
    "tasks.storage.lake",
    "tasks.ledger",
    "tasks.registry",
)


def test_contracts_import_the_standard_library_and_each_other_only() -> None:
    files = sorted((ROOT / "tasks" / "contracts").glob("*.py"))
    assert files
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    foreign = {name for name in named if not name.startswith("tasks.contracts.")}
    assert {name.partition(".")[0] for name in foreign} <= sys.stdlib_module_names


@pytest.mark.parametrize("module", SERVING)
def test_what_serving_needs_loads_neither_prefect_nor_a_slow_vendor(module: str) -> None:
    slow = ("prefect", "mlflow", "evidently", "great_expectations")
    code = f"import sys, {module}; print(*[name for name in {slow} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_the_stack_comes_without_prefect() -> None:
    code = "import sys, ops.stack; print('prefect' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"
