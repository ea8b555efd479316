"""What the docs tell people to type exists: targets, deployments with parameters, modules, settings; every link leads somewhere.

That it does what it says is seen by tests/e2e/test_commands.py, which runs it.
"""

import json
import re
import shlex
import subprocess
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import TypeAdapter

from configs.settings import ROOT, Settings, load_env
from ops.check import flow_of, read_deployments
from tests.commands import BLOCKS, COMMAND, IN_BLOCKS, NOT_RUN, ONLY_IN_PROSE, OTHERWISE, PAGES, Block
from tests.e2e.test_commands import AFTER, BEFORE, LASTING

OUTSIDE = ("EVERGREEN_TEST_", "EVERGREEN_NOTIFY_", "EVERGREEN_SERVING_TOKEN", "EVERGREEN_STACK", "EVERGREEN_PROGRAM")
"""Variables of the tests, of the deploying and of the stack itself; the others are settings."""
COMMANDS = IN_BLOCKS + ONLY_IN_PROSE


def those(start: str, without: str = " ") -> list[Any]:
    """Every command of every block that begins so, the settings before it and its program's folder left out."""
    found = [(c, re.sub(r"^([A-Z_]+=\S+ )*(\.venv/bin/)?", "", c.text.replace("\\\n", " "))) for c in COMMANDS]
    return [
        pytest.param(text, id=f"{command.page}:{command.line}: {text[:70]}")
        for command, text in found
        if text.startswith(start) and not text.startswith(without)
    ]


def test_the_pages_have_commands() -> None:
    assert len(IN_BLOCKS) > 70
    assert {command.page for command in IN_BLOCKS} >= {
        "README.md",
        "data/README.md",
        *(f"docs/{name}.md" for name in ("add-a-model", "audit", "backfills", "operate", "replay", "serving")),
    }


def test_a_block_of_commands_says_that_it_is_one() -> None:
    """Else the test that runs them would not see it."""
    assert {block.kind for block in BLOCKS} <= {"", "bash", "indented", "python", "yaml", "json"}
    others = [block for block in BLOCKS if block.kind not in ("bash", "indented")]
    assert [f"{b.page}:{b.line}" for b in others if any(COMMAND.match(line) for line in b.lines)] == []


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_a_block_is_whole_as_its_language_has_it(block: Block) -> None:
    if block.kind == "python":
        compile("\n".join(block.lines), block.page, "exec")
    elif block.commands():
        said = subprocess.run(["bash", "-n"], input="\n".join(block.lines), capture_output=True, text=True)
        assert said.stderr == ""


@pytest.mark.parametrize("begins", NOT_RUN)
def test_what_is_not_run_is_in_the_docs_and_what_tests_it_instead_is_there(begins: str) -> None:
    assert any(command.begins(begins) for command in COMMANDS)
    instead = NOT_RUN[begins].instead
    assert not instead or (ROOT / instead).is_file()


@pytest.mark.parametrize("said", [other.said for other in OTHERWISE])
def test_what_is_run_otherwise_is_in_the_docs(said: str) -> None:
    assert any(said in command.text for command in COMMANDS)


@pytest.mark.parametrize("part", [*BEFORE, *AFTER, *map(re.escape, LASTING)])
def test_what_the_test_of_the_commands_knows_of_one_is_in_the_docs(part: str) -> None:
    assert any(re.search(part, command.text) for command in COMMANDS)


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


@pytest.mark.parametrize("line", those("python -c ") + those("python3 -c "))
def test_a_program_in_a_line_is_one(line: str) -> None:
    compile(shlex.split(line)[2], line, "exec")


@pytest.mark.parametrize("line", those("curl "))
def test_what_is_asked_of_the_scoring_server_is_one_of_its_paths(line: str) -> None:
    (url,) = [urlsplit(word) for word in shlex.split(line) if word.startswith("http")]
    assert url.port == Settings.model_fields["serving_port"].default
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    assert f"`{url.path.replace('/flights/', '/<model>/')}`" in page.replace("`POST ", "`")


@pytest.mark.parametrize("line", those("prefect ", without="prefect deployment run "))
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


def test_every_variable_of_the_env_files_is_described_in_operate() -> None:
    described = (ROOT / "docs" / "operate.md").read_text()
    names = {name for env in ("dev", "prod") for name in load_env(env)}
    assert {name for name in names if f"`{name}`" not in described} == set()
