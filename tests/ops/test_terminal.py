"""Output of commands on a terminal and in a pipe: bars, colours, widths, exit codes, and errors with the next action."""

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
from ops import play, runs
from ops.errors import StackError
from ops.health import wait_for
from ops.terminal import Bar, print_error
from tasks.resources import open_resources
from tests.conftest import free_port
from tests.terminals import ESCAPES, WIDTH, Output, on_terminal, piped

SERVERS = ("PREFECT", "MLFLOW", "EVIDENTLY", "PAGES", "SERVING", "METRICS")


def screen() -> Console:
    """Return a console that behaves like a terminal and records its output."""
    return Console(file=io.StringIO(), force_terminal=True, width=WIDTH, highlight=False)


def pipe() -> Console:
    return Console(file=io.StringIO(), soft_wrap=True, highlight=False)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def at(bar: Bar, seconds: float) -> None:
    """Set the elapsed time of a bar."""
    (task,) = bar._progress.tasks
    began = task.start_time
    assert began is not None
    task._get_time = lambda: began + seconds
    bar._progress.refresh()


# Bars.


def test_a_bar_shows_its_progress_and_counts_the_time_left_down() -> None:
    console = screen()
    with Bar(console, "") as bar:
        at(bar, 60)
        bar.set_progress(1, 4)
        bar.describe("1 of 4 months done")
        console.print("a line above it")
        at(bar, 80)
        bar.set_progress(1, 4)
        console.print("another one")
    lines = Output(0, written(console)).lines
    assert any(re.search(r"1 of 4 months done .*━.* 0:01:00 +3 min left", line) for line in lines)
    assert any(re.search(r"1 of 4 months done .*━.* 0:01:20 +3 min left", line) for line in lines)
    assert "a line above it" in lines
    assert max(map(len, lines)) <= WIDTH


def test_a_bar_that_takes_longer_than_expected_shows_no_time_left() -> None:
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


def test_nested_bars_are_shown_below_each_other_and_removed_when_interrupted() -> None:
    console = screen()
    with pytest.raises(KeyboardInterrupt), Bar(console, "2 of 9 months done", 9), Bar(console, "") as below:  # noqa: PT012
        below.describe("process/tiny")
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
        bar.set_progress(3, 9)
        console.print("a line")
    assert written(console) == "a line\n"


def months(console: Console, monkeypatch: pytest.MonkeyPatch) -> str:
    """Play three months of flights without doing anything in them, and return the output."""
    played = play.Play(open_resources("flights"), console)

    def run_over(self: play.Play, keys: list[str], flow: str, deployment: str, partition: str) -> None:
        if flow == "process":
            self.console.print(f"  {deployment}    {partition}")

    monkeypatch.setattr(play.Play, "run_over", run_over)
    monkeypatch.setattr(play.Play, "wait_for_decisions", lambda *_: None)
    play.run_partitions(played, ["2013-04", "2013-05", "2013-06"], ["2013-03"])
    return written(console)


def test_the_demo_shows_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Output(0, months(screen(), monkeypatch)).lines
    assert any("0 of 3 months done" in line for line in lines)
    assert any("2 of 3 months done" in line for line in lines)
    assert "  process/flights    2013-05" in lines


def test_the_demo_in_a_pipe_prints_a_line_per_month_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = months(pipe(), monkeypatch).splitlines()
    assert [line.rstrip(" ─") for line in lines[::2]] == [
        "2013-04  (1 of 3)",
        "2013-05  (2 of 3, about 0 min left)",
        "2013-06  (3 of 3, about 0 min left)",
    ]


def test_waiting_for_servers_shows_which_are_missing_and_which_are_ready(tmp_path: Path) -> None:
    console, results = screen(), iter((False, True))
    with Bar(console, "waiting", 2, expected=20) as bar:
        wait_for({"mlflow": lambda: True, "worker": lambda: next(results)}, tmp_path, float("inf"), console, bar)
    lines = Output(0, written(console)).lines
    assert any("waiting for mlflow, worker" in line for line in lines)
    assert any("waiting for worker" in line and "left" in line for line in lines)
    assert "  mlflow       ready" in lines


# Errors and exit codes.


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), "Connection refused.*`make up` starts the others$"),
        (ObjectNotFound(ValueError("404")), "has no deployment process/tiny; `make deploy` creates"),
    ],
)
def test_the_message_about_a_run_that_prefect_refused_has_the_next_action(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(runs, "run_deployment", refuse)
    with pytest.raises(StackError, match=message):
        runs.run("process/tiny", {"partition": "2024-03-17"}, load_settings(), pipe())


def test_a_wrong_config_and_a_failed_start_have_different_exit_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert print_error(UnknownModel(f"no model 'x:bell:': {'long ' * 40}")) == 2
    assert print_error(StackError("[red] is no colour")) == 1
    assert capsys.readouterr() == ("", f"error: no model 'x:bell:': {'long ' * 40}\nerror: [red] is no colour\n")
    assert print_error(StackError("two\nlines\x1b[2J [/red] \\")) == 1
    assert capsys.readouterr().err.replace("\u2060", "") == "error: two\nlines\\x1b[2J [/red] \\\n"


def test_the_message_about_an_invalid_setting_has_the_next_action(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_PREFECT_PORT", "abc")
    monkeypatch.setenv("EVERGREEN_THREADS", "0")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    first, second = str(caught.value).splitlines()
    assert re.fullmatch("EVERGREEN_PREFECT_PORT=abc: .* integer; change it, or unset it", first)
    assert re.fullmatch("EVERGREEN_THREADS=0: .* 1; change it, or unset it", second)


@pytest.fixture
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate home, lake, models folder and ports for the commands of a test. No program runs there."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs", ignore=shutil.ignore_patterns("__pycache__", "electricity"))
    for name, where in (("HOME", "home"), ("LAKE", "lake"), ("CONFIGS", "configs")):
        monkeypatch.setenv(f"EVERGREEN_{name}", str(tmp_path / where))
    for name in SERVERS:
        monkeypatch.setenv(f"EVERGREEN_{name}_PORT", str(free_port()))
    for name in ("EVERGREEN_DATABASE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    [
        "ops.status",
        "ops.demo",
        "ops.play flights 2013-04 2013-05",
        "ops.stack up",
        "ops.audit flights",
        "ops.deploy",
        "serving",
    ],
)
def test_every_command_reports_a_wrong_setting_in_one_line(
    isolated: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("EVERGREEN_SERVING_PORT", "many")
    output = piped("-m", *command.split())
    assert (output.code, output.out) == (2, "")
    assert output.err.startswith("error: EVERGREEN_SERVING_PORT=many: ")
    assert output.err.count("\n") == 1


@pytest.mark.long
def test_the_status_of_stopped_servers_is_plain_in_a_pipe_and_has_the_command_to_start_them(isolated: Path) -> None:
    output = piped("-m", "ops.status")
    assert (output.code, output.err) == (1, "")
    assert "\x1b" not in output.out
    assert "\r" not in output.out
    first = "Alerts: 1 error\n  error: prefect, mlflow, evidently, pages, serving, metrics and worker are down\n"
    assert output.out.startswith(first + "    `make up` starts the programs that are down.\nModels\n")
    assert f"  prefect    down {load_settings().prefect_url}\n" in output.out
    assert "\n  flights: not started, 12 partitions, 2013-01 to 2013-12\n" in output.out
    assert output.out.count("flights") == 1, "a model that nobody has started takes one line"


@pytest.mark.long
def test_the_status_on_a_terminal_has_colours_and_fits_80_columns(isolated: Path) -> None:
    output = on_terminal("-m", "ops.status")
    assert output.code == 1
    assert "\x1b[31mdown\x1b[0m" in output.out
    assert "flights: not started, 12 partitions, 2013-01 to 2013-12" in output.out
    assert output.widest <= WIDTH


@pytest.mark.long
def test_the_status_of_one_model_has_the_command_that_starts_it(isolated: Path) -> None:
    output = piped("-m", "ops.status", "flights")
    assert (output.code, output.err) == (1, "")
    assert output.out.startswith("Model flights\nAlerts: 1 error, 1 action required\n")
    assert "\n    prefect deployment run process/flights\n" in output.out
    assert "\n  no champion yet; `prefect deployment run train/flights` trains one\n" in output.out
    assert "\n  the source has 12 partitions, 2013-01 to 2013-12; none is processed\n" in output.out
    unknown = piped("-m", "ops.status", "flihgts")
    assert unknown.code == 2
    assert "did you mean 'flights'?" in unknown.out


@pytest.mark.long
def test_the_status_loads_none_of_the_slow_libraries() -> None:
    slow = ("prefect", "mlflow", "pandas", "evidently", "great_expectations", "sklearn", "xgboost")
    code = f"import sys, ops.status, ops.status_model; print([name for name in {slow} if name in sys.modules])"
    assert piped("-c", code).out == "[]\n"


@pytest.mark.long
def test_an_invalid_model_is_reported_with_file_and_key_and_the_other_models_are_shown(isolated: Path) -> None:
    shutil.copytree(isolated / "configs" / "flights", isolated / "configs" / "trains")
    path = isolated / "configs" / "trains" / "model.yaml"
    path.write_text(path.read_text().replace("name: flights", "name: trains").replace("expectations:", "expectation:"))
    output = piped("-m", "ops.status")
    assert output.code == 2
    assert f"\n  error, trains: {path}: expectation: unknown key; did you mean 'expectations'?\n" in output.out
    assert "\n  flights: not started" in output.out
    alone = piped("-m", "ops.status", "trains")
    assert alone.code == 2
    assert alone.out.startswith(f"Model trains\n  error: {path}: expectation: unknown key; ")


@pytest.mark.long
def test_up_and_demo_end_with_a_message_about_a_used_port(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("EVERGREEN_MLFLOW_PORT", str(port))
        up, demo_run, on_screen = piped("-m", "ops.stack", "up"), piped("-m", "ops.demo"), on_terminal("-m", "ops.demo")
    assert (up.code, up.out) == (1, "")
    assert up.err.startswith(f"error: port {port} of mlflow is used by ")
    assert up.err.endswith(f"choose another port: EVERGREEN_MLFLOW_PORT={port + 1} make up\n")
    assert up.err.count("\n") == 1, "one line, so that the command can be copied"
    assert (demo_run.code, demo_run.out, demo_run.err) == (1, "", up.err)
    assert on_screen.code == 1
    assert on_screen.out.startswith("\x1b[31merror: port ")


@pytest.mark.long
def test_up_that_times_out_names_the_logs_and_stops_everything(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_START_TIMEOUT", "1")
    output = piped("-m", "ops.stack", "up")
    assert (output.code, output.out) == (1, "")
    assert output.err.startswith(
        f"error: no response in time from prefect; see {isolated / 'home' / 'logs'}, or wait longer: "
    )
    assert piped("-m", "ops.stack", "down").out == "Nothing was running.\n"


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "message"), [("ops.stack up", "`make status` shows"), ("ops.demo", "`make demo` continues")]
)
def test_an_interrupted_start_names_the_next_command_and_restores_the_terminal(
    isolated: Path, command: str, message: str
) -> None:
    output = on_terminal("-m", *command.split(), stop_at="0:00:01")
    assert output.code == 130
    assert message in output.out
    assert output.out.rindex("\x1b[?25h") > output.out.rindex("\x1b[?25l"), "the cursor is shown again"
    assert "Traceback" not in output.out
    assert piped("-m", "ops.stack", "down").out == "Nothing was running.\n"


@pytest.mark.long
def test_restarting_the_worker_of_a_stopped_stack_names_the_command_to_run(isolated: Path) -> None:
    output = piped("-m", "ops.stack", "restart-worker")
    assert (output.code, output.out, output.err) == (1, "", "error: nothing is running; run `make up`\n")


@pytest.mark.long
def test_an_audit_of_an_unknown_model_names_the_most_similar_one(isolated: Path) -> None:
    output = piped("-m", "ops.audit", "flihgts")
    assert (output.code, output.out) == (2, "")
    assert "did you mean 'flights'? (`make model NAME=flihgts` creates it)\n" in output.err


@pytest.mark.long
def test_an_audit_without_a_model_or_with_an_invalid_time_shows_the_usage(isolated: Path) -> None:
    no_model, bad_time = piped("-m", "ops.audit"), piped("-m", "ops.audit", "flights", "--at", "tuesday")
    assert (no_model.code, bad_time.code) == (2, 2)
    assert "usage: make audit MODEL=flights [AT=2013-06-15]" in no_model.err
    assert bad_time.err == "error: AT=tuesday is no date or time; write it as 2013-06-15 or 2013-06-15T12:00:00-04:00\n"


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "Trains",
            "NAME=Trains: a model's name has lower case letters, digits and _, starts with a letter, and has at most 40 characters",
        ),
        ("flights", "NAME=flights: configs/flights exists already; choose another name, or delete that first"),
        ("manual", "NAME=manual: prefect.yaml has deployments of that name already; choose another name"),
    ],
)
def test_a_new_model_with_an_invalid_or_used_name_is_refused_in_one_line(name: str, message: str) -> None:
    output = piped("-m", "ops.new_model", name)
    assert (output.code, output.out, output.err) == (2, "", f"error: {message}\n")


@pytest.mark.long
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("audit", "error: which model? make audit MODEL=flights AT=2013-06-15\n"),
        ("compare", "error: compare with which revision? make compare BASE=main MODEL=flights\n"),
        ("model", "error: which name? make model NAME=trains\n"),
        ("model NAME='two words'", "error: NAME=two words: a model's name has lower case letters, "),
        ("deploy ENV=moon", "error: ENV=moon: "),
    ],
)
def test_a_make_target_without_its_variable_shows_how_to_write_it(target: str, message: str) -> None:
    output = piped("bash", "-c", f"make -o setup {target}")
    assert (output.code, output.out) == (2, ""), "make's exit code for a failed command"
    assert output.err.startswith(message)
