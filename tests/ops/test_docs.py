"""The commands in the docs are valid: targets, deployments with parameters, modules, settings and links exist.

tests/e2e/test_commands.py runs the commands.
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
from tests.commands import BLOCKS, COMMAND, IN_BLOCKS, NOT_RUN, ONLY_IN_PROSE, PAGES, REPLACEMENTS, Block
from tests.e2e.test_commands import AFTER, BEFORE, LONG_RUNNING
from tests.fleet import write_stores

OUTSIDE = (
    "EVERGREEN_TEST_",
    "EVERGREEN_NOTIFY_",
    "EVERGREEN_SERVING_TOKEN",
    "EVERGREEN_PERSONAL_KEY",
    "EVERGREEN_CONNECTION_",
    "EVERGREEN_STACK",
    "EVERGREEN_PROGRAM",
)
"""Variables of the tests, of deploying and of the stack, and secrets. All other variables are settings."""
COMMANDS = IN_BLOCKS + ONLY_IN_PROSE


def commands_with(start: str, without: str = " ") -> list[Any]:
    """Return the commands that begin with `start`, without preceding settings and without the program's folder."""
    commands = [(c, re.sub(r"^([A-Z_]+=\S+ )*(\.venv/bin/)?", "", c.text.replace("\\\n", " "))) for c in COMMANDS]
    return [
        pytest.param(text, id=f"{command.page}:{command.line}: {text[:70]}")
        for command, text in commands
        if text.startswith(start) and not text.startswith(without)
    ]


def test_the_pages_have_commands() -> None:
    assert len(IN_BLOCKS) > 70
    assert {command.page for command in IN_BLOCKS} >= {
        "README.md",
        "data/README.md",
        *(f"docs/{name}.md" for name in ("add-a-model", "audit", "backfills", "operate", "replay", "serving")),
    }


def test_a_block_of_commands_is_marked_as_one() -> None:
    """Otherwise the test that runs the commands would not find it."""
    assert {block.kind for block in BLOCKS} <= {"", "bash", "indented", "python", "yaml", "json", "sql"}
    others = [block for block in BLOCKS if block.kind not in ("bash", "indented")]
    assert [f"{b.page}:{b.line}" for b in others if any(COMMAND.match(line) for line in b.lines)] == []


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_the_syntax_of_a_block_is_valid(block: Block) -> None:
    if block.kind == "python":
        compile("\n".join(block.lines), block.page, "exec")
    elif block.commands():
        done = subprocess.run(["bash", "-n"], input="\n".join(block.lines), capture_output=True, text=True)
        assert done.stderr == ""


@pytest.mark.parametrize("begins", NOT_RUN)
def test_each_excluded_command_is_in_the_docs_and_its_other_test_exists(begins: str) -> None:
    assert any(command.begins(begins) for command in COMMANDS)
    instead = NOT_RUN[begins].instead
    assert not instead or (ROOT / instead).is_file()


@pytest.mark.parametrize("text", [replacement.text for replacement in REPLACEMENTS])
def test_each_replaced_part_of_a_command_is_in_the_docs(text: str) -> None:
    assert any(text in command.text for command in COMMANDS)


@pytest.mark.parametrize("part", [*BEFORE, *AFTER, *map(re.escape, LONG_RUNNING)])
def test_each_pattern_of_the_test_of_commands_matches_a_command_of_the_docs(part: str) -> None:
    assert any(re.search(part, command.text) for command in COMMANDS)


@pytest.mark.parametrize("line", commands_with("make "))
def test_a_make_target_and_its_variables_exist(line: str) -> None:
    _, target, *variables = shlex.split(line)
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target
    for name in (part.split("=")[0] for part in variables):
        assert f"$({name})" in makefile or name.startswith("EVERGREEN_"), name


@pytest.mark.parametrize("line", commands_with("prefect deployment run "))
def test_a_deployment_run_has_a_deployment_and_parameters_that_exist(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values are parsed as Prefect's command parses them: as JSON if possible, otherwise as text."""
    if "models=" in line:
        write_stores(tmp_path, ["a", "b"])
        monkeypatch.setenv("EVERGREEN_CONFIGS", str(tmp_path))
    _, _, _, name, *options = shlex.split(line)
    deployment = next(d for d in read_deployments() if f"{flow_of(d)}/{d['name']}" == name)
    path, function = deployment["entrypoint"].split(":")
    flow = getattr(import_module(path.removesuffix(".py").replace("/", ".")), function)
    pairs = [options[i + 1] for i, option in enumerate(options) if option in ("-p", "--param")]
    assert [o for o in options if o.startswith("-")] == [o for o in options if o in ("-p", "--param", "--watch")]
    parameters = {key: parse(value) for key, _, value in (pair.partition("=") for pair in pairs)}
    schema = flow.parameters.model_dump()["properties"]
    assert set(parameters) <= set(schema), f"{flow.name} takes {', '.join(schema)}"
    complete = {**deployment.get("parameters", {}), **parameters}
    assert set(flow.parameters.required) <= set(complete)
    flow.validate_parameters(complete)


def parse(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


@pytest.mark.parametrize("line", commands_with("python -m "))
def test_a_module_exists(line: str) -> None:
    assert find_spec(shlex.split(line)[2]), line


@pytest.mark.parametrize("line", commands_with("python -c ") + commands_with("python3 -c "))
def test_a_one_line_program_is_valid_python(line: str) -> None:
    compile(shlex.split(line)[2], line, "exec")


@pytest.mark.parametrize("line", commands_with("curl "))
def test_a_request_to_a_server_uses_a_documented_path(line: str) -> None:
    if "$PREFECT_API_URL/events" in line:
        return  # tests/e2e/test_arrivals.py sends such an event
    (url,) = [urlsplit(word) for word in shlex.split(line) if word.startswith("http")]
    if url.port == Settings.model_fields["metrics_port"].default:
        assert url.path == "/metrics"
        return
    assert url.port == Settings.model_fields["serving_port"].default
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    assert f"`{url.path.replace('/flights/', '/<model>/')}`" in page.replace("`POST ", "`")


@pytest.mark.long
@pytest.mark.parametrize("line", commands_with("prefect ", without="prefect deployment run "))
def test_other_commands_of_prefect_exist(line: str) -> None:
    words = [w for w in shlex.split(line)[1:] if not w.startswith("-")][:2]
    done = subprocess.run([ROOT / ".venv" / "bin" / "prefect", *words, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_settings_on_a_page_exist(page: Path) -> None:
    used = set(re.findall(r"EVERGREEN_[A-Z_]+", page.read_text(encoding="utf-8")))
    existing = {f"EVERGREEN_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in used if not name.startswith(OUTSIDE)} <= existing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    local = [target for target in targets if "://" not in target and not target.startswith(("mailto:", "data:"))]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_values_are_parsed_as_prefect_parses_them() -> None:
    assert TypeAdapter(int).validate_python(parse("3")) == 3
    assert parse("2013-05") == "2013-05"
    assert parse('{"a": 1}') == {"a": 1}


def test_every_variable_of_the_env_files_is_described_in_operate() -> None:
    text = (ROOT / "docs" / "operate.md").read_text()
    names = {name for env in ("dev", "prod") for name in load_env(env)}
    assert {name for name in names if f"`{name}`" not in text} == set()
