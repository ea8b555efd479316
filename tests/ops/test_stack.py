"""The stack: ports, variables, supervisord's configuration, and a real stack."""

import contextlib
import io
import lzma
import os
import re
import signal
import socket
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from configparser import RawConfigParser
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psutil
import pytest
from rich.console import Console

from configs.settings import ROOT, Settings
from ops import databases, stack, supervision
from ops.api import post
from ops.check import flow_of, read_deployments
from ops.deploy import LOST_RUNS
from ops.errors import PortTaken, ProgramDied, StackError
from ops.health import check_programs, tail
from ops.ports import check_ports, is_free
from ops.programs import HOME_MARK, child_environment, environment, programs
from ops.status_servers import read_schedules
from tasks.orchestration.schedules import active_schedules
from tasks.orchestration.schedules import read_deployments as read_deployments_of
from tests.copies import check_logs, length


def free_ports(count: int) -> list[int]:
    """Return ports on which no program listens."""
    with contextlib.ExitStack() as exits:
        sockets = [exits.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def settings_in(folder: Path, **more: Any) -> Settings:
    """Return settings of a separate stack: home and lake in a folder, on free ports."""
    names = ("prefect", "mlflow", "evidently", "pages", "serving", "metrics")
    ports = {f"{name}_port": port for name, port in zip(names, free_ports(len(names)), strict=True)}
    values: dict[str, Any] = {"home": folder / "home", "lake": str(folder / "lake"), **ports, **more}
    return Settings(**values)


def test_the_message_about_a_used_port_names_the_program_and_the_setting(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.mlflow_port))
        other.listen()
        with pytest.raises(PortTaken) as caught:
            check_ports(programs(settings))
    assert f"port {settings.mlflow_port} of mlflow is used by" in str(caught.value)
    assert f"EVERGREEN_MLFLOW_PORT={settings.mlflow_port + 1} make up" in str(caught.value)
    assert f"(process {os.getpid()})" in str(caught.value)


def test_up_starts_nothing_if_a_port_is_used(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.prefect_port))
        other.listen()
        with pytest.raises(PortTaken, match="EVERGREEN_PREFECT_PORT"):
            stack.up(settings, Console(file=io.StringIO()))
    assert supervision.find_processes(settings.home) == []


def test_clients_get_the_addresses_of_this_stack_regardless_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "https://elsewhere.example/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://elsewhere.example")
    settings = settings_in(tmp_path)
    variables = environment(settings)
    assert variables["PREFECT_API_URL"] == f"http://127.0.0.1:{settings.prefect_port}/api"
    assert variables["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{settings.mlflow_port}"
    assert variables["PREFECT_HOME"] == str(tmp_path / "home" / "prefect")
    assert variables["EVERGREEN_LAKE"] == str(tmp_path / "lake")
    assert HOME_MARK not in variables, "`down` would stop a client with this variable"


def test_exported_variables_take_precedence_over_dev_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(tmp_path)
    monkeypatch.delenv("PREFECT_WORKER_QUERY_SECONDS", raising=False)
    assert environment(settings)["PREFECT_WORKER_QUERY_SECONDS"] == "1"
    monkeypatch.setenv("PREFECT_WORKER_QUERY_SECONDS", "3")
    assert environment(settings)["PREFECT_WORKER_QUERY_SECONDS"] == "3"


def test_settings_for_another_prefect_server_do_not_reach_the_stack(tmp_path: Path) -> None:
    base = {"PREFECT_PROFILE": "cloud", "PREFECT_API_KEY": "k", "PATH": "/bin"}
    variables = child_environment(settings_in(tmp_path), base)
    assert variables["PATH"] == "/bin"
    assert not {"PREFECT_PROFILE", "PREFECT_API_KEY"} & variables.keys()


def test_the_configuration_has_every_program_and_supports_percent_signs_in_folders(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "50% off")
    config = RawConfigParser()
    config.read_string(supervision.render(settings.home, programs(settings)))
    assert {f"program:{name}" for name in ("prefect", "mlflow", "evidently", "worker")} <= set(config.sections())
    assert "50%% off" in config["program:mlflow"]["command"]
    assert config["program:worker"]["autostart"] == "false"
    assert all(config[s]["stopasgroup"] == "true" for s in config.sections() if s.startswith("program:"))


def test_servers_listen_on_loopback_only(tmp_path: Path) -> None:
    servers = [program for program in programs(settings_in(tmp_path)) if program.port]
    assert [p.name for p in servers] == ["prefect", "mlflow", "evidently", "pages", "serving", "metrics"]
    assert all(re.search(r" --(host|bind) 127\.0\.0\.1 ", f"{program.command} ") for program in servers)


def test_the_path_of_the_socket_is_short_enough_for_a_deep_home(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    assert len(bytes(supervision.socket_of(deep))) <= supervision.LONGEST_SOCKET
    assert supervision.socket_of(deep) != supervision.socket_of(deep / "other")


def test_down_does_nothing_if_nothing_runs(tmp_path: Path) -> None:
    output = io.StringIO()
    stack.down(settings_in(tmp_path), Console(file=output))
    assert "Nothing was running" in output.getvalue()


def test_restarting_the_worker_of_a_stopped_stack_is_an_error_with_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="make up"):
        stack.restart_worker(settings_in(tmp_path))


def test_a_program_that_ended_is_reported_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mlflow.log").write_text("\n".join(f"line {i}" for i in range(40)))
    state = {"statename": "BACKOFF", "pid": 0, "spawnerr": "", "description": "exited too quickly"}
    monkeypatch.setattr(supervision, "states", lambda home: {"mlflow": state})
    with pytest.raises(ProgramDied, match="exited too quickly") as caught:
        check_programs(tmp_path, {})
    assert "line 39" in str(caught.value)
    assert "line 3\n" not in str(caught.value)
    assert str(tmp_path / "logs" / "mlflow.log") in str(caught.value)


def test_a_program_that_was_restarted_during_the_wait_counts_as_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"statename": "STARTING", "pid": 7, "spawnerr": "", "description": ""}
    monkeypatch.setattr(supervision, "states", lambda home: {"mlflow": state})
    pids: dict[str, int] = {}
    check_programs(tmp_path, pids)
    with pytest.raises(ProgramDied, match="mlflow"):
        check_programs(tmp_path, {"mlflow": 6})


def test_the_tail_of_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "no.log") == ""


def test_missing_databases_are_created_and_existing_ones_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "template_path", lambda vendor: tmp_path / f"{vendor}-1.db")
    for vendor in databases.VENDORS:
        with contextlib.closing(sqlite3.connect(tmp_path / f"{vendor}-1.db")) as template:
            template.execute("CREATE TABLE runs (name TEXT)")
    settings = settings_in(tmp_path)
    databases.create_databases(settings)
    path = tmp_path / "home" / "mlflow" / "mlflow.db"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO runs VALUES ('mine')")
    databases.create_databases(settings)
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT name FROM runs").fetchall() == [("mine",)]


# The following tests share one real stack. Its Prefect server migrates the database of v0.1 (Prefect 3.8.8).

PREFECT_DATABASE = ROOT / "tests" / "states" / "v0.1-prefect.db.xz"
killed: dict[str, int] = {}
"""Programs that a test killed, with the length of their log at that time."""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = settings_in(tmp_path_factory.mktemp("stack"), start_timeout=1800)  # the machine may be busy
    (settings.home / "prefect").mkdir(parents=True)
    (settings.home / "prefect" / "prefect.db").write_bytes(lzma.decompress(PREFECT_DATABASE.read_bytes()))
    try:
        stack.up(settings, Console(file=io.StringIO()))
        yield settings
    finally:
        stack.down(settings, Console(file=io.StringIO()))
        assert supervision.find_processes(settings.home) == []
        check_logs(settings.home, killed=killed)


def ask(settings: Settings, path: str) -> list[dict]:
    return post(settings, f"{path}/filter", {}, seconds=30)


@pytest.mark.servers
def test_up_starts_everything(real: Settings) -> None:
    assert stack.running(real) == dict.fromkeys(
        ("prefect", "mlflow", "evidently", "pages", "serving", "metrics", "worker"), True
    )
    deployed = {d["name"] for d in ask(real, "deployments")}
    assert {"manual", "flights"} <= deployed
    assert (real.home / "prefect" / "prefect.db").exists()
    assert real.home.stat().st_mode & 0o777 == 0o700, "the home existed with the rights that the umask left"


@pytest.mark.servers
def test_a_second_up_changes_nothing_and_deploys_nothing(real: Settings) -> None:
    pids = {name: state["pid"] for name, state in supervision.states(real.home).items()}
    log = (real.home / "logs" / "deploy.log").stat().st_mtime_ns
    stack.up(real, Console(file=io.StringIO()))
    assert {name: state["pid"] for name, state in supervision.states(real.home).items()} == pids
    assert (real.home / "logs" / "deploy.log").stat().st_mtime_ns == log


@pytest.mark.slow
@pytest.mark.servers
def test_deploying_again_makes_no_duplicates(real: Settings) -> None:
    before = _deployed(real)
    (real.home / "deployed").unlink()
    stack.up(real, Console(file=io.StringIO()))
    assert _deployed(real) == before
    assert before[1].count(LOST_RUNS) == 1


def _deployed(settings: Settings) -> tuple[list[tuple[str, str, int]], list[str]]:
    """Return deployments with the number of their schedules, and the names of automations."""
    deployments = ask(settings, "deployments")
    return (
        sorted((d["entrypoint"], d["name"], len(d["schedules"])) for d in deployments),
        sorted(a["name"] for a in ask(settings, "automations")),
    )


def field_matches(field: str, value: int) -> bool:
    if field.startswith("*/"):
        return value % int(field[2:]) == 0
    return field == "*" or int(field) == value  # the schedules use no other cron syntax


def cron_times(cron: str, timezone: str, begin: datetime, end: datetime) -> list[datetime]:
    """Return every minute at which a cron line is due, by testing each minute, independently of Prefect's implementation."""
    minute, hour, day, month, weekday = cron.split()
    assert "*" in (day, weekday), "day and weekday together are not supported here"
    zone, times = ZoneInfo(timezone), []
    moment = begin.replace(second=0, microsecond=0) + timedelta(minutes=1)
    while moment < end:
        local = moment.astimezone(zone)
        fields = (
            (minute, local.minute),
            (hour, local.hour),
            (day, local.day),
            (month, local.month),
            (weekday, local.isoweekday() % 7),
        )
        if all(field_matches(*field) for field in fields):
            times.append(moment)
        moment += timedelta(minutes=1)
    return times


@pytest.mark.servers
def test_every_schedule_of_prefect_yaml_has_a_planned_run_at_the_time_of_its_cron_and_zone(
    real: Settings,
) -> None:
    expected_schedules = {
        (f"{flow_of(d)}/{d['name']}", s["cron"], s["timezone"])
        for d in read_deployments()
        for s in d.get("schedules", ())
    }
    assert expected_schedules
    deadline, ask_api = time.monotonic() + 180, partial(post, real)
    while any(s.next_run is None for s in active_schedules(read_deployments_of(ask_api), ask_api)):
        assert time.monotonic() < deadline, "Prefect's scheduler has planned no run of an active schedule"
        time.sleep(2)
    before, schedules = datetime.now(UTC), active_schedules(read_deployments_of(ask_api), ask_api)
    moments = before, datetime.now(UTC)  # at a minute of a cron line, the response can be from before or after it
    assert {(s.deployment, s.rule, s.timezone) for s in schedules} == expected_schedules
    for s in schedules:
        expected = {cron_times(s.rule, s.timezone, moment, moment + timedelta(days=32))[0] for moment in moments}
        assert s.next_run in expected, s.deployment
        assert not s.is_missing()


@pytest.mark.servers
def test_status_shows_the_next_run_of_each_schedule(real: Settings) -> None:
    printed = io.StringIO()
    read = read_schedules(real)
    for model in ("flights", ""):
        read.print(model, Console(file=printed, soft_wrap=True))
    lines = {line.split()[0]: line for line in printed.getvalue().splitlines()}
    assert re.search(r"0 6 2 \* \*, next run \d{4}-\d\d-02 06:00 America/New_York", lines["process/flights"])
    assert re.search(r"17 \* \* \* \*, next run \d{4}-\d\d-\d\d \d\d:17 UTC", lines["remind/all"])
    assert lines["train/flights"].endswith("by hand or event")
    assert "backfill/manual" not in lines, "it has no schedule"
    assert {s.model for s in read.schedules_of("flights")} == {"flights"}


@pytest.mark.servers
def test_a_schedule_in_new_york_keeps_its_local_hour_when_clocks_change(real: Settings) -> None:
    """Runs of next spring: 6:00 is 11:00 UTC before the second Sunday of March, and 10:00 UTC after it."""
    year = datetime.now(UTC).year + 1
    flights = read_deployments_of(partial(post, real))["process/flights"]["id"]
    between = {
        "start_time": f"{year}-02-20T00:00:00Z",
        "end_time": f"{year}-04-20T00:00:00Z",
        "max_runs": 10,
        "min_runs": 2,
    }
    post(real, f"deployments/{flights}/schedule", between)
    planned = {
        "deployment_id": {"any_": [flights]},
        "expected_start_time": {"after_": between["start_time"], "before_": between["end_time"]},
    }
    runs = post(real, "flow_runs/filter", {"flow_runs": planned, "sort": "EXPECTED_START_TIME_ASC"})
    times = [datetime.fromisoformat(run["expected_start_time"]) for run in runs]
    assert times == [datetime(year, 3, 2, 11, tzinfo=UTC), datetime(year, 4, 2, 10, tzinfo=UTC)]


@pytest.mark.servers
def test_a_schedule_starts_a_run_that_the_worker_completes(real: Settings) -> None:
    """The test starts no run. The scheduler plans a run every ten seconds, and the worker runs it."""
    remind = read_deployments_of(partial(post, real))["remind/all"]["id"]
    added = {"active": True, "schedule": {"interval": 10, "timezone": "UTC"}}
    (schedule,) = post(real, f"deployments/{remind}/schedules", [added])
    ended_runs = {"deployment_id": {"any_": [remind]}, "state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}
    deadline, runs = time.monotonic() + 300, list[dict]()
    try:
        while not runs:
            assert time.monotonic() < deadline, "no run of the schedule has ended"
            time.sleep(1)
            ended = post(real, "flow_runs/filter", {"flow_runs": ended_runs})
            runs = [run for run in ended if (run["created_by"] or {}).get("id") == schedule["id"]]
    finally:
        url = f"{real.prefect_url}/api/deployments/{remind}/schedules/{schedule['id']}"
        for wait in (1, 3, 10, None):  # Prefect answers 503 while its SQLite is locked
            try:
                urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=30).close()
                break
            except urllib.error.HTTPError:
                if wait is None:
                    raise
                time.sleep(wait)
    assert runs[0]["state_type"] == "COMPLETED", runs[0]["state"]
    assert runs[0]["created_by"]["type"] == "SCHEDULE"
    assert runs[0]["auto_scheduled"]


@pytest.mark.servers
def test_a_second_stack_on_the_same_ports_is_refused(real: Settings, tmp_path: Path) -> None:
    with pytest.raises(PortTaken, match="EVERGREEN_PREFECT_PORT"):
        stack.up(real.model_copy(update={"home": tmp_path}), Console(file=io.StringIO()))
    assert all(stack.running(real).values())


@pytest.mark.servers
def test_down_stops_everything_even_after_a_kill(real: Settings) -> None:
    pid = supervision.states(real.home)["mlflow"]["pid"]
    orphans = psutil.Process(pid).children(recursive=True)
    check_logs(real.home)
    killed["mlflow"] = length(real.home / "logs" / "mlflow.log")
    os.kill(pid, signal.SIGKILL)
    assert orphans, "mlflow has a child process, which keeps running when its parent is killed"
    began = time.monotonic()
    stack.down(real, Console(file=io.StringIO()))
    assert not any(orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE for orphan in orphans)
    assert not any(stack.running(real).values())
    assert all(
        is_free("127.0.0.1", port)
        for port in (real.prefect_port, real.mlflow_port, real.evidently_port, real.pages_port, real.serving_port)
    )
    assert time.monotonic() - began < 120
