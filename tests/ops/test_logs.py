"""Which records of a stack's logs count as errors. The lines have the formats of the real programs."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from ops.logs import archive_logs, log_errors, server_errors, summary
from ops.play import print_log_errors

RUN, OTHER = "ef6a7a2e-2f89-4f6f-b415-5a3a1eccc273", "8efc3a55-2ef4-49c8-bd80-d4ebaf2367d9"
LOCKED = "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database is locked"
LOGS = {
    "prefect": """\
 ___ ___ ___
Check out the dashboard at http://127.0.0.1:4200
2026-11-28 23:28:05.100 | WARNING | prefect.server.services - slow, but no ERROR of a level
2026-11-28 23:29:05.100 | ERROR   | prefect.server.services.scheduler - Unexpected error in: schedule_deployments
Traceback (most recent call last):
  File "scheduler.py", line 1, in run
sqlalchemy.exc.InvalidRequestError: Can't evaluate bulk DML statement
2026-11-28 23:30:05.100 | ERROR   | prefect.server.utilities.messaging.memory - Failed in consume_loop
2026-11-28 23:31:05.100 | INFO    | prefect.server - fine
""",
    "mlflow": """\
2026/11/28 23:27:55 INFO mlflow.store.db.utils: Creating initial MLflow database tables...
INFO:     127.0.0.1:53210 - "GET /health HTTP/1.1" 200 OK
2026/11/28 23:28:55 ERROR mlflow.server: Exception on /api/2.0/mlflow/runs/create [POST]
ERROR [alembic.util.messaging] Can't locate revision
[2026-11-28 23:29:00,123] ERROR in app: Exception on / [GET]
[2026-11-28 23:29:01 +0000] [12] [ERROR] Exception in worker process
""",
    "evidently": """\
INFO:     Started server process [1]
ERROR:    Exception in ASGI application
ERROR - 2026-11-28 23:29:00,123 - litestar - config - Uncaught exception
INFO:     127.0.0.1:53210 - "GET /api/projects HTTP/1.1" 500 Internal Server Error
""",
    "pages": """\
Serving HTTP on 127.0.0.1 port 8300 (http://127.0.0.1:8300/) ...
127.0.0.1 - - [28/Nov/2026 23:27:58] "GET / HTTP/1.1" 200 -
::1 - - [28/Nov/2026 23:27:59] "GET /ERROR HTTP/1.1" 404 -
""",
    "serving": "Traceback (most recent call last):\n  File \"a.py\", line 1\nKeyError: 'x'\n",
    "supervisord": """\
2026-11-28 23:27:49,394 CRIT Supervisor is running as root.  Privileges were not dropped because no user is specified.
2026-11-28 23:27:49,397 CRIT Server 'unix_http_server' running without any HTTP authentication checking
2026-11-28 23:29:49,397 WARN exited: prefect (terminated by SIGKILL; not expected)
2026-11-28 23:29:50,397 INFO exited: worker (exit status 0; expected)
2026-11-28 23:29:55,397 INFO gave up: mlflow entered FATAL state, too many start retries too quickly
""",
    "worker": f"""\
Worker 'local' started!
2026-11-28 23:29:09.356 | INFO    | Flow run 'flights 2013-01' ({RUN}) - 3 ERROR: no level
2026-11-28 23:29:10.356 | ERROR   | Flow run 'flights 2013-01' ({RUN}) - Finished in state Failed('blocked')
2026-11-28 23:29:11.356 | ERROR   | prefect.flow_runs.worker - Reported flow run '{RUN}' as crashed
2026-11-28 23:29:12.356 | ERROR   | prefect.flow_runs.worker - Lost connection to flow run 'flights 2013-01' infrastructure.
2026-11-28 23:29:13.356 | ERROR   | Task run "record ann's request" ({OTHER}) - no
2026-11-28 23:29:14.356 | ERROR   | prefect.runner.flow_run_executor - Process exited with status code: -9. It was killed.
2026-11-28 23:29:15.356 | INFO    | prefect.flow_runs.worker - Reported flow run '{OTHER}' as crashed: killed
2026-11-28 23:29:16.356 | ERROR   | prefect.worker - the server does not answer about {RUN}
""",
}  # fmt: skip


def home_with(tmp_path: Path, logs: dict[str, str], folder: str = "logs") -> Path:
    (tmp_path / folder).mkdir()
    for name, text in logs.items():
        (tmp_path / folder / f"{name}.log").write_text(text)
    return tmp_path


def test_errors_and_tracebacks_are_detected_in_the_format_of_each_program(tmp_path: Path) -> None:
    errors = log_errors(home_with(tmp_path, LOGS))
    lines = {program: [e.line for e in errors if e.program == program] for program in LOGS}
    assert lines == {
        "prefect": [4, 8], "mlflow": [3, 4, 5, 6], "evidently": [2, 3, 4], "pages": [], "serving": [1],
        "supervisord": [3, 5], "worker": [3, 4, 5, 6, 7, 9],
    }  # fmt: skip
    scheduler, serving = (next(e for e in errors if e.program == name) for name in ("prefect", "serving"))
    assert scheduler.text.endswith("Can't evaluate bulk DML statement"), "a record includes its traceback"
    assert str(serving).endswith("serving.log:1: KeyError: 'x'"), (
        "a traceback without a log line is shown by its exception"
    )


def test_records_about_a_run_have_its_id_and_are_not_errors_of_a_server(tmp_path: Path) -> None:
    home = home_with(tmp_path, {"worker": LOGS["worker"]})
    assert [error.run for error in log_errors(home)] == [RUN, RUN, RUN, OTHER, OTHER, ""]
    assert [error.line for error in server_errors(home)] == [9]


@pytest.mark.parametrize(
    ("program", "message", "exempt"),
    [
        ("prefect", f"Worker channel heartbeat persistence failed: work_pool=a\nTraceback\n{LOCKED}\n[SQL: x]", True),
        (
            "prefect",
            f"Worker channel setup failed due to a transient server error: work_pool=a\nTraceback\n{LOCKED}",
            True,
        ),
        ("prefect", "Worker channel setup failed due to a transient server error\nTraceback\nKeyError: 'x'", False),
        ("prefect", f"Encountered error during state validation\nTraceback\n{LOCKED}", True),
        ("prefect", f"docket.dependencies - monitor_worker_health()\nTraceback\n{LOCKED}", True),
        ("prefect", "docket.dependencies - schedule_deployments()\nTraceback\nInvalidRequestError: bulk DML", False),
        ("prefect", "Encountered error during state validation\nTraceback\nKeyError: 'database is locked'", False),
        ("prefect", f"Failed in consume_loop\nTraceback\n{LOCKED}", False),
        ("worker", f"Encountered error during state validation\nTraceback\n{LOCKED}", False),
    ],
)
def test_an_exemption_is_only_for_its_program_message_and_error(
    tmp_path: Path, program: str, message: str, exempt: bool
) -> None:
    home = home_with(
        tmp_path,
        {
            program: f"2026-11-28 23:29:05.100 | ERROR   | {message if message.startswith('docket') else 'prefect.server - ' + message}\n"
        },
    )
    assert (log_errors(home) == []) is exempt


def test_the_summary_counts_the_errors_of_each_program_and_shows_the_oldest(tmp_path: Path) -> None:
    home = home_with(tmp_path, {"prefect": LOGS["prefect"], "serving": LOGS["serving"]})
    (home / "logs" / "prefect.log.1").write_text("2026-11-27 23:29:05.100 | CRITICAL | prefect - rotated\n")
    one, two = summary(log_errors(home))
    assert (
        one
        == f"prefect: 3 errors in its log, first {home}/logs/prefect.log.1:1: 2026-11-27 23:29:05.100 | CRITICAL | prefect - rotated"
    )
    assert two == f"serving: 1 error in its log, first {home}/logs/serving.log:1: KeyError: 'x'"


def test_logs_of_an_earlier_start_are_archived(tmp_path: Path) -> None:
    home = home_with(tmp_path, {"mlflow": LOGS["mlflow"]})
    archive_logs(home)
    assert log_errors(home) == []
    assert len(log_errors(home, folder="logs/previous")) == 4
    archive_logs(home)
    assert log_errors(home, folder="logs/previous") == []


def test_the_demo_shows_the_programs_whose_logs_have_errors(tmp_path: Path) -> None:
    home, printed = home_with(tmp_path, {"worker": LOGS["worker"], "pages": LOGS["pages"]}), io.StringIO()
    print_log_errors(home, Console(file=printed, soft_wrap=True))
    heading, line = printed.getvalue().strip().splitlines()
    assert heading == "The logs should have no errors, but have:"
    assert line.strip().startswith("worker: 6 errors in its log, first ")


def json_line(level: str, message: str, **more: str) -> str:
    entry = {"time": "2026-11-28T23:29:10.356Z", "level": level, "logger": "serving", "message": message, **more}
    return json.dumps(entry) + "\n"


def test_errors_in_json_logs_are_those_of_text(tmp_path: Path) -> None:
    about = {"run": RUN, "run_name": "process flights 2013-01"}
    traceback = "Traceback (most recent call last):\nKeyError: 'x'"
    logs = {
        "serving": json_line("INFO", "3 ERROR: no level")
        + json_line("ERROR", "it failed\nin two lines", model="flights")
        + json_line("WARNING", "with a traceback", exception=traceback)
        + '{"time": "2026-11-28T23:29:1',
        "worker": "Worker 'local' started!\n"
        + json_line("ERROR", "Finished in state Failed('blocked')", **about)
        + json_line("ERROR", "no", **about, task="score 2013-01")
        + json_line("ERROR", "the server does not answer"),
    }
    home = home_with(tmp_path, logs)
    assert [(e.program, e.line, e.run) for e in log_errors(home)] == [
        ("serving", 2, ""), ("serving", 3, ""), ("worker", 2, RUN), ("worker", 3, RUN), ("worker", 4, ""),
    ]  # fmt: skip
    assert [e.line for e in server_errors(home) if e.program == "worker"] == [4]
    first, *_ = log_errors(home)
    assert str(first) == f"{home}/logs/serving.log:2: 2026-11-28 23:29:10.356 | ERROR   | serving - it failed"
