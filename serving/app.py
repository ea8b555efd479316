"""The HTTP routes: MLflow's scoring protocol for every model, probes for load balancers, metrics and descriptions of the models."""

import asyncio
import hmac
import logging
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from configs.schema import ModelConfig
from serving import metrics
from serving.answering import score_request
from serving.envelope import Table, read_table
from serving.follower import ChampionState, Follower
from serving.journal import Call
from serving.openapi import openapi_document
from serving.problems import Problem, unavailable
from serving.reading import Bodies, client_id, request_id
from serving.shadow import Shadow
from serving.sink import Sink
from serving.versions import class_names

log = logging.getLogger("serving")
Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Response]])

INLINE_BYTES, INLINE_ROWS = 64 << 10, 256
"""The largest request that is scored in the event loop. Larger ones are scored in a thread and do not delay small ones."""
LEDGER_TIMEOUT = 5
"""Seconds without a response of the ledger after which `/ready` reports it."""
PUBLIC_PATHS = ("/health", "/ready", "/ping")
"""Paths that need no token: they contain nothing of the data, and probes send no token."""


@dataclass(frozen=True)
class Service:
    """The objects that the routes use."""

    follower: Follower
    sink: Sink
    shadow: Shadow
    bodies: Bodies
    large: asyncio.Semaphore
    """Limits how many large requests are processed at the same time."""
    token: str = ""

    def config(self, model: str) -> ModelConfig:
        """Return the config with which a model is served now."""
        return self.follower.resources[model].config

    def state(self, model: str) -> ChampionState:
        """Return the versions that serve a model.

        Raises:
            Problem: There is no such model, or it has no champion in memory now.
        """
        state = self.follower.states.get(model)
        if state is None:
            names = ", ".join(self.follower.states) or "none"
            raise Problem(404, "unknown-model", "No such model", f"no model {model[:100]!r}; this server has: {names}")
        if state.champion is None:
            problem = self.follower.problems.get(model) or (
                "it has no champion yet; run `train` first" if state.checked else "its champion is being loaded"
            )
            raise unavailable("no-champion", "No version serves this model", f"{model}: {problem}")
        return state


def make_app(service: Service) -> FastAPI:
    """Build the application. Its background threads start with the server and stop after the last accepted request."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.sink.start()
        service.shadow.start()
        service.follower.start()
        yield
        service.follower.stop()
        await asyncio.to_thread(service.shadow.stop)
        await asyncio.to_thread(service.sink.stop)

    app = FastAPIOffline(redoc_url=None, title="Evergreen serving", lifespan=lifespan, redirect_slashes=False)
    app.openapi = lambda: openapi_document(service.follower)  # type: ignore[method-assign]  # FastAPI documents it so
    if service.token:
        app.add_middleware(TokenAuth, token=service.token)
    _handle_problems(app)
    _add_invocations(app, service)
    _add_probes(app, service)
    _add_models(app, service)
    return app


def _handle_problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return error.response(request_id(request))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        details = {
            404: "no such path; /docs lists the paths of this server",
            405: "the path does not support this method; /docs lists the methods",
        }
        detail = details.get(error.status_code, str(error.detail))
        problem = Problem(error.status_code, "http", str(error.detail), detail, headers=error.headers)
        return problem.response(request_id(request))


class TokenAuth:
    """Middleware that refuses requests without the token before their body is read."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 if a request outside `PUBLIC_PATHS` lacks the token, else pass it on."""
        if scope["type"] == "http" and scope["path"] not in PUBLIC_PATHS:
            sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            if not hmac.compare_digest(sent, self.expected):
                await UNAUTHORIZED.response()(scope, receive, send)
                return
        await self.app(scope, receive, send)


UNAUTHORIZED = Problem(
    401,
    "unauthorized",
    "A token is required",
    "send the header `Authorization: Bearer <token>`, with the value of the server's EVERGREEN_SERVING_TOKEN",
    headers={"WWW-Authenticate": 'Bearer realm="evergreen"'},
)


def _get(app: FastAPI, path: str) -> Callable[[Handler], Handler]:
    """Decorate a handler as the route of a path, for GET and HEAD. The server sends no body to HEAD."""
    return app.api_route(path, methods=["GET", "HEAD"])


def _add_probes(app: FastAPI, service: Service) -> None:
    @_get(app, "/")
    async def root() -> Response:
        return RedirectResponse("/docs")

    @_get(app, "/health")
    @_get(app, "/ping")
    async def health() -> Response:
        return _json({"status": "ok"})

    @_get(app, "/ready")
    async def ready() -> Response:
        content = readiness(service)
        return _json(content, 503 if content["status"] == "not ready" else 200)

    @_get(app, "/metrics")
    async def prometheus() -> Response:
        metrics.LEDGER_AGE.set(service.follower.age)
        metrics.UNWRITTEN.set(service.sink.rows)
        metrics.WRITTEN.set(service.sink.written)
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def readiness(service: Service) -> dict[str, Any]:
    """Return the content of `/ready`. A problem makes the server degraded, not unready, while a version can still be served."""
    follower, sink = service.follower, service.sink
    problems = [f"{name}: {problem}" for name, problem in follower.problems.items()]
    if follower.ledger_error:
        problems.append(f"the ledger does not respond ({follower.ledger_error}); the last champions stay in use")
    elif LEDGER_TIMEOUT < follower.age < float("inf"):
        problems.append(f"the ledger has not responded for {follower.age:.0f} s; the last champions stay in use")
    if sink.problem:
        problems.append(
            f"predictions cannot be recorded ({sink.problem}); {sink.rows} of at most {sink.max_rows} rows wait in memory"
        )
    unready = not follower.ready or sink.rows >= sink.max_rows or _is_unserved(follower)
    status = "not ready" if unready else "degraded" if problems else "ready"
    models = {name: state.champion.version if state.champion else None for name, state in dict(follower.states).items()}
    return {"status": status, "models": models, "problems": problems}


def _is_unserved(follower: Follower) -> bool:
    """Whether the champion of any model could not be loaded and no earlier version is in use."""
    return any(state.problem and state.champion is None for state in dict(follower.states).values())


def _add_models(app: FastAPI, service: Service) -> None:
    @_get(app, "/models")
    async def models() -> Response:
        return _json([_describe(name, state, service) for name, state in dict(service.follower.states).items()])

    @_get(app, "/models/{model}")
    async def one(model: str) -> Response:
        if model not in service.follower.states:
            service.state(model)
        return _json(_describe(model, service.follower.states[model], service))

    @_get(app, "/models/{model}/ping")
    @_get(app, "/models/{model}/health")
    async def ping(model: str) -> Response:
        service.state(model)
        return _json({"status": "ok"})

    @_get(app, "/models/{model}/version")
    async def version(model: str) -> Response:
        champion = service.state(model).champion
        return Response(champion.version if champion else "", media_type="text/plain")


def _add_invocations(app: FastAPI, service: Service) -> None:
    """Add the scoring route: a plain Starlette route before all others, because FastAPI's parsing takes time and is not used."""

    async def invocations(request: Request) -> Response:
        started, model = time.perf_counter(), request.path_params["model"]
        call = Call(request_id(request), client_id(request), datetime.now(UTC))
        state = None
        try:
            state = service.state(model)
            async with service.bodies.body(request) as body:
                response = await _invoke(body, request, state, call, service)
        except ClientDisconnect:
            response = Response(status_code=400)  # it cannot be sent
        except Problem as problem:
            response = problem.response(call.id)
        except Exception as error:  # noqa: BLE001  (its text may contain values of the request, so only the traceback is logged)
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error(
                "request %s to %s failed with %s at\n%s",
                call.id,
                model,
                type(error).__name__,
                frames,
                extra={"model": model},
            )
            detail = f"the server's log has the traceback of request {call.id}"
            response = Problem(500, "internal", "The server failed", detail).response(call.id)
        label = model if state else "unknown"
        response.headers["X-Request-ID"] = call.client_id or call.id
        metrics.with_labels(metrics.REQUESTS, label, str(response.status_code)).inc()
        metrics.with_labels(metrics.LATENCY, label).observe(time.perf_counter() - started)
        return response

    app.router.routes.insert(0, Route("/models/{model}/invocations", invocations, methods=["POST"]))


async def _invoke(body: bytes, request: Request, state: ChampionState, call: Call, service: Service) -> Response:
    """Score small requests in the event loop and all others in a thread, so that no client waits for the large request of another."""
    kind, limits = request.headers.get("content-type", ""), service.bodies.limits
    if len(body) > INLINE_BYTES:
        async with service.large:  # a parsed body takes many times its size
            return await asyncio.to_thread(lambda: _score(read_table(body, kind, limits.rows), state, call, service))
    table = read_table(body, kind, limits.rows)
    if table.rows > INLINE_ROWS or state.canary or not (state.champion and state.champion.plan):
        return await asyncio.to_thread(_score, table, state, call, service)
    return _score(table, state, call, service)


def _score(table: Table, state: ChampionState, call: Call, service: Service) -> Response:
    content = score_request(table, state, call, service.sink, service.shadow)
    versions = ",".join(sorted({content["version"], *content.get("versions", ())}))
    return Response(orjson.dumps(content), media_type="application/json", headers={"X-Model-Version": versions})


def _describe(name: str, state: ChampionState, service: Service) -> dict[str, Any]:
    """Return the content of `/models/<model>`."""
    content: dict[str, Any] = {"model": name, "problem": service.follower.problems.get(name), "champion": None}
    if name not in service.follower.resources:
        return content
    config = service.config(name)
    content |= {"description": config.description.strip(), "classes": class_names(config) or None}
    for role, served in (("champion", state.champion), ("challenger", state.challenger)):
        if served:
            content[role] = {
                "version": served.version,
                "as_of": served.ref.as_of.isoformat(),
                "features": list(served.features.all),
                "compiled": served.plan is not None,
                "why_not_compiled": served.no_plan_reason or None,
                "not_checked_here": list(served.contract.unchecked),
            }
    if state.canary:
        content["canary"] = {
            "share": state.canary.rule.share,
            "broken": state.canary.broken or None,
            **state.canary.evidence(),
        }
    return content


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
