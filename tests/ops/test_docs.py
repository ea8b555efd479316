"""What the docs tell people to type exists: targets, deployments with parameters, modules, settings; every link leads somewhere."""

import json
import re
import shlex
import subprocess
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from configs.settings import ROOT, Settings
from ops.check import flow_of, read_deployments

PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OUTSIDE = ("EVERGREEN_TEST_", "EVERGREEN_NOTIFY_", "EVERGREEN_SERVING_TOKEN", "EVERGREEN_STACK", "EVERGREEN_PROGRAM")
"""Variables of the tests, of the deploying and of the stack itself; the others are settings."""


def commands() -> list[tuple[str, str]]:
    """Every command of every page, as page and line: what stands in an indented or fenced block, without its comment."""
    found = []
    for page in PAGES:
        block, kind = False, ""
        for line in page.read_text(encoding="utf-8").replace(" \\\n", " ").splitlines():
            if line.startswith("```"):
                block, kind = not block, line.removeprefix("```")
                continue
            if (block and kind in ("", "bash", "sh")) or (not block and line.startswith("    ")):
                text = line.split("  #")[0].strip()
                found += [
                    (page.name, part.strip())
                    for part in text.split(" / ")
                    if re.match(r"(make|prefect|python -m) ", part)
                ]
    return found


COMMANDS = commands()


def those(start: str) -> list[Any]:
    return [pytest.param(line, id=f"{page}: {line[:70]}") for page, line in COMMANDS if line.startswith(start)]


def test_the_pages_have_commands() -> None:
    assert len(COMMANDS) > 40
    assert {page for page, _ in COMMANDS} >= {"README.md", "operate.md", "backfills.md", "audit.md"}


@pytest.mark.parametrize("line", those("make "))
def test_a_target_is_in_the_makefile_and_takes_what_it_is_given(line: str) -> None:
    _, target, *given = shlex.split(line)
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target
    for name in (part.split("=")[0] for part in given):
        assert f"$({name})" in makefile or name.startswith("EVERGREEN_"), name


@pytest.mark.parametrize("line", those("prefect deployment run "))
def test_a_run_names_a_deployment_and_parameters_that_its_flow_takes(line: str) -> None:
    """Values are read as Prefect's command reads them: JSON where it can be, else text."""
    _, _, _, name, *options = shlex.split(line)
    deployment = next(d for d in read_deployments() if f"{flow_of(d)}/{d['name']}" == name)
    path, function = deployment["entrypoint"].split(":")
    flow = getattr(import_module(path.removesuffix(".py").replace("/", ".")), function)
    given = [options[i + 1] for i, option in enumerate(options) if option in ("-p", "--param")]
    assert [o for o in options if o.startswith("-")] == [o for o in options if o in ("-p", "--param", "--watch")]
    parameters = {key: read(value) for key, _, value in (one.partition("=") for one in given)}
    schema = flow.parameters.model_dump()["properties"]
    assert set(parameters) <= set(schema), f"{flow.name} takes {', '.join(schema)}"
    complete = {**deployment.get("parameters", {}), **parameters}
    assert set(flow.parameters.required) <= set(complete)
    flow.validate_parameters(complete)


def read(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


@pytest.mark.parametrize("line", those("python -m "))
def test_a_module_is_there(line: str) -> None:
    assert find_spec(shlex.split(line)[2]), line


@pytest.mark.parametrize(
    "line", [p for p in those("prefect ") if not p.values[0].startswith("prefect deployment run ")]
)
def test_other_commands_of_prefect_are_known_to_it(line: str) -> None:
    words = [w for w in shlex.split(line)[1:] if not w.startswith("-")][:2]
    said = subprocess.run([ROOT / ".venv" / "bin" / "prefect", *words, "--help"], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr[-500:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_a_page_names_exist(page: Path) -> None:
    named = set(re.findall(r"EVERGREEN_[A-Z_]+", page.read_text(encoding="utf-8")))
    known = {f"EVERGREEN_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in named if not name.startswith(OUTSIDE)} <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    inside = [target for target in targets if "://" not in target and not target.startswith(("mailto:", "data:"))]
    assert [target for target in inside if not (page.parent / target).exists()] == []


def test_the_adapter_reads_what_prefect_reads() -> None:
    assert TypeAdapter(int).validate_python(read("3")) == 3
    assert read("2013-05") == "2013-05"
    assert read('{"a": 1}') == {"a": 1}
