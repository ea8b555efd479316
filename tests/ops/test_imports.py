"""Import rules that import-linter cannot check: which modules are loaded at run time."""

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
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    foreign = {name for name in modules if not f"{name}.".startswith("tasks.contracts.")}
    assert {name.partition(".")[0] for name in foreign} <= sys.stdlib_module_names


@pytest.mark.long
@pytest.mark.parametrize("module", SERVING)
def test_modules_for_serving_load_neither_prefect_nor_a_slow_library(module: str) -> None:
    slow = ("prefect", "mlflow", "evidently", "great_expectations")
    code = f"import sys, {module}; print(*[name for name in {slow} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


@pytest.mark.long
def test_the_stack_does_not_import_prefect() -> None:
    code = "import sys, ops.stack; print('prefect' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"
