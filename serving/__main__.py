"""Serve every model's champion over HTTP.

    python -m serving

Addresses and limits are settings (`EVERGREEN_SERVING_PORT`, ...); a token comes from EVERGREEN_SERVING_TOKEN alone.
"""

import argparse
import asyncio
import os
import resource
import sys

import uvicorn
from threadpoolctl import threadpool_limits

from configs.errors import ConfigError
from configs.settings import ROOT, Settings, disable_telemetry, load_settings
from serving.app import Service, make_app
from serving.follower import Follower
from serving.reading import Bodies, Limits
from serving.shadow import Shadow
from serving.sink import Sink
from tasks.log_format import set_up_logging
from tasks.storage.files import open_root
from tasks.storage.folders import make_home

TOKEN = "EVERGREEN_SERVING_TOKEN"  # noqa: S105  (a name, not a secret)
CONNECTIONS = 2_000
"""Connections and requests at the same time. More get a 503 response at once."""
LARGE_REQUESTS = 2
"""Large requests that are processed at the same time. Others wait."""
SHUTDOWN_SECONDS = 10
"""Seconds that open requests have to finish after a SIGTERM."""
SWITCH_INTERVAL = 0.0005
"""Seconds that a background thread may hold the interpreter lock while a request waits, a tenth of Python's default."""
REGISTRY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""Short limits for this process alone, because an unavailable registry must not delay the follower."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def make_service(settings: Settings, token: str = "") -> Service:
    """Build the objects that the routes use. Their threads are not started."""
    home = make_home(settings.path(settings.home)) / "serving"
    follower = Follower(home / "champions", settings.database)
    sink = Sink(home / "journals", open_root(settings.lake, ROOT), follower.configs, settings.serving_unwritten)
    limits = Limits(settings.serving_mb, settings.serving_rows, settings.serving_seconds)
    return Service(follower, sink, Shadow(sink), Bodies(limits), asyncio.Semaphore(LARGE_REQUESTS), token)


def allow_connections() -> None:
    """Raise the limit of open files for this process: each connection needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = 2 * CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 2 * CONNECTIONS)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))


def main() -> int:
    """Serve until a signal ends the process. Exit status 2 if the settings are not valid."""
    disable_telemetry()
    allow_connections()
    sys.setswitchinterval(SWITCH_INTERVAL)
    os.environ.update(REGISTRY)
    os.environ["OMP_NUM_THREADS"] = "1"  # for libraries that are imported later
    threadpool_limits(1)
    try:
        settings, token = load_settings(), os.environ.get(TOKEN, "")
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve every model's champion over HTTP.")
    parser.add_argument("--host", default=settings.host, help="address to listen on (%(default)s)")
    parser.add_argument("--port", default=settings.serving_port, type=int, help="port to listen on (%(default)s)")
    args = parser.parse_args()
    if args.host not in LOOPBACK and not token:
        print(
            f"error: the host {args.host} (EVERGREEN_HOST) would accept connections from other machines without a token; "
            f"set {TOKEN} to the bearer token that clients must send, or listen on 127.0.0.1 behind a proxy",
            file=sys.stderr,
        )
        return 2
    set_up_logging(settings)
    app = make_app(make_service(settings, token))
    uvicorn.run(
        app,
        host=args.host,
        port=args.port,
        access_log=False,
        log_config=None,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        backlog=CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
