"""What commands say at a terminal and into a pipe: bars, colours, widths, exit codes, and errors that say what to do next."""

import io
import re
import shutil
import socket
from pathlib import Path

import httpx
import pytest
from prefect.exceptions import ObjectNotFound
from rich.console import Console

from configs.errors import ConfigError, UnknownModel
from configs.settings import ROOT, load_settings
from ops import demo, runs
from ops.errors import StackError
from ops.health import wait_for
from ops.terminal import Bar, complain
from tests.conftest import free_port
from tests.terminals import ESCAPES, WIDTH, Said, on_terminal, piped

SERVERS = ("PREFECT", "MLFLOW", "EVIDENTLY", "PAGES", "SERVING")


def screen() -> Console:
    """A terminal that keeps what is written to it."""
    return Console(file=io.StringIO(), force_terminal=True, width=WIDTH, highlight=False)


def pipe() -> Console:
    return Console(file=io.StringIO(), soft_wrap=True, highlight=False)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def at(bar: Bar, seconds: float) -> None:
    """Let so much time have passed since the bar began."""
    (task,) = bar._progress.tasks
    began = task.start_time
    assert began is not None
    task._get_time = lambda: began + seconds
    bar._progress.refresh()


# Bars.


def test_a_bar_says_how_far_it_is_and_counts_the_time_left_down() -> None:
    console = screen()
    with Bar(console, "") as bar:
        at(bar, 60)
        bar.reach(1, 4)
        bar.say("1 of 4 months done")
        console.print("a line above it")
        at(bar, 80)
        bar.reach(1, 4)
        console.print("another one")
    lines = Said(0, written(console)).lines
    assert any(re.search(r"1 of 4 months done .*━.* 0:01:00 +3 min left", line) for line in lines)
    assert any(re.search(r"1 of 4 months done .*━.* 0:01:20 +3 min left", line) for line in lines)
    assert "a line above it" in lines
    assert max(map(len, lines)) <= WIDTH


def test_a_bar_that_takes_longer_than_was_expected_promises_nothing() -> None:
    console = screen()
    with Bar(console, "waiting for prefect", 7, expected=20) as bar:
        at(bar, 5)
        bar.advance()
        console.print("in time")
        at(bar, 25)
        console.print("late")
    before, after = ESCAPES.sub("", written(console)).split("late")
    assert "15 s left" in before
    assert "left" not in after


def test_bars_stand_below_each_other_and_leave_nothing_behind_when_they_are_interrupted() -> None:
    console = screen()
    with pytest.raises(KeyboardInterrupt), Bar(console, "2 of 9 months done", 9), Bar(console, "") as below:  # noqa: PT012
        below.say("process/tiny")
        console.rule("2013-06", align="left")
        raise KeyboardInterrupt
    console.print("Stopped.")
    text = written(console)
    assert re.search(r"2 of 9 months done[^\n]*\n[^\n]*process/tiny", ESCAPES.sub("", text))
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is shown again"
    assert text.endswith("Stopped.\n")
    assert "months" not in text[text.rindex("\x1b[2K") :], "the bar's lines were erased"


def test_a_pipe_gets_no_bar() -> None:
    console = pipe()
    with Bar(console, "0 of 9 months done", 9) as bar:
        bar.reach(3, 9)
        console.print("a line")
    assert written(console) == "a line\n"


def months(console: Console, monkeypatch: pytest.MonkeyPatch) -> str:
    """Three months of a demo that does nothing in them."""
    played = demo.Demo.__new__(demo.Demo)
    played.console = console
    monkeypatch.setattr(demo.Demo, "month", lambda self, key: self.console.print(f"  process/flights    {key}"))
    demo.play_months(played, ["2013-04", "2013-05", "2013-06"])
    return written(console)


def test_the_demo_has_a_bar_of_its_months_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Said(0, months(screen(), monkeypatch)).lines
    assert any("0 of 3 months done" in line for line in lines)
    assert any("2 of 3 months done" in line for line in lines)
    assert "  process/flights    2013-05" in lines


def test_the_demo_in_a_pipe_is_a_line_a_month_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = months(pipe(), monkeypatch).splitlines()
    assert [line.rstrip(" ─") for line in lines[::2]] == [
        "2013-04  (1 of 3)",
        "2013-05  (2 of 3, some 0 min left)",
        "2013-06  (3 of 3, some 0 min left)",
    ]


def test_waiting_for_servers_names_those_that_are_missing_and_who_is_ready(tmp_path: Path) -> None:
    console, asked = screen(), iter((False, True))
    with Bar(console, "waiting", 2, expected=20) as bar:
        wait_for({"mlflow": lambda: True, "worker": lambda: next(asked)}, tmp_path, float("inf"), console, bar)
    lines = Said(0, written(console)).lines
    assert any("waiting for mlflow, worker" in line for line in lines)
    assert any("waiting for worker" in line and "left" in line for line in lines)
    assert "  mlflow       ready" in lines


# Errors and exit codes.


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), "Connection refused.*`make up` starts what is down$"),
        (ObjectNotFound(ValueError("404")), "knows no deployment process/tiny; `make deploy` tells it"),
    ],
)
def test_a_run_that_prefect_does_not_take_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(runs, "run_deployment", refuse)
    with pytest.raises(StackError, match=told):
        runs.run("process/tiny", {"partition": "2024-03-17"}, load_settings(), pipe())


def test_a_wrong_config_is_another_exit_code_than_a_stack_that_does_not_come_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert complain(UnknownModel(f"no model 'x:bell:': {'long ' * 40}")) == 2
    assert complain(StackError("[red] is no colour")) == 1
    assert capsys.readouterr() == ("", f"error: no model 'x:bell:': {'long ' * 40}\nerror: [red] is no colour\n")


def test_a_setting_that_cannot_be_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_PREFECT_PORT", "abc")
    monkeypatch.setenv("EVERGREEN_THREADS", "0")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    first, second = str(caught.value).splitlines()
    assert re.fullmatch("EVERGREEN_PREFECT_PORT=abc: .* integer; change it, or unset it", first)
    assert re.fullmatch("EVERGREEN_THREADS=0: .* 1; change it, or unset it", second)


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that are started have a home, a lake, models and ports of their own; nothing runs there."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs", ignore=shutil.ignore_patterns("__pycache__", "electricity"))
    for name, where in (("HOME", "home"), ("LAKE", "lake"), ("CONFIGS", "configs")):
        monkeypatch.setenv(f"EVERGREEN_{name}", str(tmp_path / where))
    for name in SERVERS:
        monkeypatch.setenv(f"EVERGREEN_{name}_PORT", str(free_port()))
    for name in ("EVERGREEN_DATABASE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "command", ["ops.status", "ops.demo", "ops.stack up", "ops.audit flights", "ops.deploy", "serving"]
)
def test_every_command_tells_a_wrong_setting_in_a_line(
    apart: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("EVERGREEN_SERVING_PORT", "many")
    said = piped("-m", *command.split())
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: EVERGREEN_SERVING_PORT=many: ")
    assert said.err.count("\n") == 1


def test_the_status_of_what_is_down_is_plain_in_a_pipe_and_says_what_starts_it(apart: Path) -> None:
    said = piped("-m", "ops.status")
    assert (said.code, said.err) == (1, "")
    assert "\x1b" not in said.out
    assert "\r" not in said.out
    assert "  `make up` starts what is down.\n" in said.out
    assert f"  prefect    down {load_settings().prefect_url}\n" in said.out
    assert "  no champion yet; `prefect deployment run train/flights` trains one\n" in said.out


def test_the_status_on_a_terminal_has_colours_and_fits_80_columns(apart: Path) -> None:
    said = on_terminal("-m", "ops.status")
    assert said.code == 1
    assert "\x1b[31mdown\x1b[0m" in said.out
    assert "\x1b[1mModel flights\x1b[0m" in said.out
    assert any(line.split() == ["2013-12", "missing", *"." * 8] for line in said.lines)
    assert said.widest <= WIDTH


def test_a_model_that_cannot_be_read_is_told_with_file_field_and_way_out_and_hides_no_other(apart: Path) -> None:
    shutil.copytree(apart / "configs" / "flights", apart / "configs" / "trains")
    path = apart / "configs" / "trains" / "model.yaml"
    path.write_text(path.read_text().replace("name: flights", "name: trains").replace("expectations:", "expectation:"))
    said = piped("-m", "ops.status")
    assert said.code == 2
    assert f"Model trains\n  error: {path}: expectation: unknown key; did you mean 'expectations'?\n" in said.out
    assert "\nModel flights\n  no champion yet" in said.out


def test_a_taken_port_ends_up_and_demo_with_what_to_do(apart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("EVERGREEN_MLFLOW_PORT", str(port))
        up, play, shown = piped("-m", "ops.stack", "up"), piped("-m", "ops.demo"), on_terminal("-m", "ops.demo")
    assert (up.code, up.out) == (1, "")
    assert up.err.startswith(f"error: port {port}, where mlflow should listen, is taken by ")
    assert up.err.endswith(f"choose another port: EVERGREEN_MLFLOW_PORT={port + 1} make up\n")
    assert up.err.count("\n") == 1, "one line, however long, to be copied from"
    assert (play.code, play.out, play.err) == (1, "", up.err)
    assert shown.code == 1
    assert shown.out.startswith("\x1b[31merror: port ")


def test_up_that_waits_in_vain_says_where_to_look_and_leaves_nothing_running(
    apart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_START_TIMEOUT", "1")
    said = piped("-m", "ops.stack", "up")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(
        f"error: no answer in time from prefect; see {apart / 'home' / 'logs'}, or wait longer: "
    )
    assert piped("-m", "ops.stack", "down").out == "Nothing was running.\n"


@pytest.mark.parametrize(
    ("command", "told"), [("ops.stack up", "`make status` says"), ("ops.demo", "`make demo` continues")]
)
def test_a_start_that_is_interrupted_says_what_to_do_and_leaves_the_terminal_as_it_was(
    apart: Path, command: str, told: str
) -> None:
    said = on_terminal("-m", *command.split(), stop_at="0:00:01")
    assert said.code == 130
    assert told in said.out
    assert said.out.rindex("\x1b[?25h") > said.out.rindex("\x1b[?25l"), "the cursor is shown again"
    assert "Traceback" not in said.out
    assert piped("-m", "ops.stack", "down").out == "Nothing was running.\n"


def test_restarting_the_worker_of_nothing_says_what_to_run(apart: Path) -> None:
    said = piped("-m", "ops.stack", "restart-worker")
    assert (said.code, said.out, said.err) == (1, "", "error: nothing is running; run `make up`\n")


def test_an_audit_of_an_unknown_model_names_the_nearest_one(apart: Path) -> None:
    said = piped("-m", "ops.audit", "flihgts")
    assert (said.code, said.out) == (2, "")
    assert "did you mean 'flights'? (`make model NAME=flihgts` makes one)\n" in said.err


def test_an_audit_of_no_model_or_moment_says_how_to_ask(apart: Path) -> None:
    nobody, never = piped("-m", "ops.audit"), piped("-m", "ops.audit", "flights", "--at", "tuesday")
    assert (nobody.code, never.code) == (2, 2)
    assert "usage: make audit MODEL=flights [AT=2013-06-15]" in nobody.err
    assert never.err == "error: AT=tuesday is no moment; write it as 2013-06-15 or 2013-06-15T12:00:00-04:00\n"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Trains", "NAME=Trains: a model's name is lower case letters, digits and _, a letter first, at most 40"),
        ("flights", "NAME=flights: configs/flights exists already; choose another name, or delete that first"),
        ("manual", "NAME=manual: prefect.yaml has deployments of that name already; choose another name"),
    ],
)
def test_a_new_model_of_a_bad_or_taken_name_is_refused_in_a_line(name: str, told: str) -> None:
    said = piped("-m", "ops.new_model", name)
    assert (said.code, said.out, said.err) == (2, "", f"error: {told}\n")


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("audit", "error: which model? make audit MODEL=flights AT=2013-06-15\n"),
        ("model", "error: which name? make model NAME=trains\n"),
        ("model NAME='two words'", "error: NAME=two words: a model's name is lower case letters, "),
        ("deploy ENV=moon", "error: ENV=moon: "),
    ],
)
def test_a_target_without_what_it_needs_says_how_to_write_it(target: str, told: str) -> None:
    said = piped("bash", "-c", f"make -o setup {target}")
    assert (said.code, said.out) == (2, ""), "make's own code of a command that failed"
    assert said.err.startswith(told)
