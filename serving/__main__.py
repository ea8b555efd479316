"""Serve every model's champion over HTTP.

    python -m serving

Addresses and limits are settings (`EVERGREEN_SERVING_PORT`, ...); a token comes from EVERGREEN_SERVING_TOKEN alone.
"""

import argparse
import asyncio
import logging
import os
import resource
import sys

import uvicorn
from threadpoolctl import threadpool_limits

from configs.errors import ConfigError
from configs.settings import ROOT, Settings, load_settings, silence_vendors
from serving.app import Service, make_app
from serving.follower import Follower
from serving.reading import Bodies, Limits
from serving.shadow import Shadow
from serving.sink import Sink
from tasks.storage.files import open_root

TOKEN = "EVERGREEN_SERVING_TOKEN"  # noqa: S105  (a name, not a secret)
CONNECTIONS = 2_000
"""Connections and requests at a time; more are answered 503 at once."""
LARGE = 2
"""Large requests at a time; others of them wait."""
DRAIN = 10
"""Seconds that requests in flight have after a SIGTERM."""
SWITCH = 0.0005
"""Seconds that a thread in the background may hold the interpreter while a request waits for it, a tenth of Python's default."""
REGISTRY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""Whatever the others have: a registry that is down must not hold up what follows the ledger."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def make_service(settings: Settings, token: str = "") -> Service:
    """Everything behind the routes, not yet begun."""
    home = settings.path(settings.home) / "serving"
    follower = Follower(home / "champions", settings.database)
    sink = Sink(home / "journals", open_root(settings.lake, ROOT), follower.configs, settings.serving_unwritten)
    limits = Limits(settings.serving_mb, settings.serving_rows, settings.serving_seconds)
    return Service(follower, sink, Shadow(sink), Bodies(limits), asyncio.Semaphore(LARGE), token)


def allow_connections() -> None:
    """Let this process have as many files open as it may: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 2 * CONNECTIONS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> int:
    silence_vendors()
    allow_connections()
    sys.setswitchinterval(SWITCH)
    os.environ.update(REGISTRY)
    os.environ["OMP_NUM_THREADS"] = "1"  # read by what is loaded later
    threadpool_limits(1)
    try:
        settings, token = load_settings(), os.environ.get(TOKEN, "")
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve every model's champion over HTTP.")
    parser.add_argument("--host", default=settings.host, help="address to listen on (%(default)s)")
    parser.add_argument("--port", default=settings.serving_port, type=int, help="port to listen on (%(default)s)")
    asked = parser.parse_args()
    if asked.host not in LOOPBACK and not token:
        print(
            f"error: the host {asked.host} (EVERGREEN_HOST) would let others in; set {TOKEN} to what they must send as a bearer token, "
            f"or leave the host at 127.0.0.1 and put a proxy before it",
            file=sys.stderr,
        )
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    app = make_app(make_service(settings, token))
    uvicorn.run(
        app,
        host=asked.host,
        port=asked.port,
        access_log=False,
        log_config=None,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        backlog=CONNECTIONS,
        timeout_graceful_shutdown=DRAIN,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
