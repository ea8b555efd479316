"""The HTTP side: MLflow's scoring protocol for every model, and what a load balancer, Prometheus and people ask."""

import asyncio
import hmac
import logging
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

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
from serving.answering import answer
from serving.envelope import Table, read_table
from serving.follower import ChampionState, Follower
from serving.journal import Call
from serving.openapi import document
from serving.problems import Problem, unavailable
from serving.reading import Bodies, client_id, request_id
from serving.shadow import Shadow
from serving.sink import Sink
from serving.versions import class_names

log = logging.getLogger("serving")

INLINE_BYTES, INLINE_ROWS = 64 << 10, 256
"""What is answered on the spot. Larger requests go to a thread, so that small ones need not wait for them."""
LATE = 5
"""Seconds after which a ledger that does not answer is told of."""
OPEN = ("/health", "/ready", "/ping")
"""What needs no token: it says nothing of the data, and probes send none."""


@dataclass(frozen=True)
class Service:
    """What the routes need."""

    follower: Follower
    sink: Sink
    shadow: Shadow
    bodies: Bodies
    large: asyncio.Semaphore
    """How many large requests are worked on at a time."""
    token: str = ""

    def config(self, model: str) -> ModelConfig:
        return self.follower.resources[model].config

    def reign(self, model: str) -> ChampionState:
        """Who answers for a model.

        Raises:
            Problem: there is no such model, or nobody answers for it now.
        """
        reign = self.follower.reigns.get(model)
        if reign is None:
            known = ", ".join(self.follower.reigns) or "none"
            raise Problem(404, "unknown-model", "No such model", f"no model {model[:100]!r}; this server has: {known}")
        if reign.champion is None:
            why = self.follower.problems.get(model) or (
                "it has no champion yet; run `train` first" if reign.settled else "it is being loaded"
            )
            raise unavailable("no-champion", "Nobody answers for this model", f"{model}: {why}")
        return reign


def make_app(service: Service) -> FastAPI:
    """The routes. Threads that follow and write begin when the server starts, and end when it has answered what it took."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.sink.start()
        service.shadow.start()
        service.follower.start()
        yield
        service.follower.stop()
        await asyncio.to_thread(service.shadow.stop)
        await asyncio.to_thread(service.sink.stop)

    app = FastAPIOffline(redoc_url=None, title="Evergreen serving", lifespan=lifespan, redirect_slashes=False)
    app.openapi = lambda: document(service.follower)
    if service.token:
        app.add_middleware(Guard, token=service.token)
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
    async def other(request: Request, error: HTTPException) -> Response:
        told_of = {
            404: "no such path; /docs lists those that are there",
            405: "the path is there, but not for this method",
        }
        detail = told_of.get(error.status_code, str(error.detail))
        found = Problem(error.status_code, "http", str(error.detail), detail, headers=error.headers)
        return found.response(request_id(request))


class Guard:
    """Asks for the token before anything else is done with a request."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.wanted = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN:
            given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            if not hmac.compare_digest(given, self.wanted):
                await REFUSAL.response()(scope, receive, send)
                return
        await self.app(scope, receive, send)


REFUSAL = Problem(
    401,
    "unauthorized",
    "A token is needed",
    "send the header `Authorization: Bearer <token>`, with the value of the server's EVERGREEN_SERVING_TOKEN",
    headers={"WWW-Authenticate": 'Bearer realm="evergreen"'},
)


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/docs")

    @app.get("/health")
    @app.get("/ping", include_in_schema=False)
    async def health() -> Response:
        return _json({"status": "ok"})

    @app.get("/ready")
    async def ready() -> Response:
        content = readiness(service)
        return _json(content, 503 if content["status"] == "not ready" else 200)

    @app.get("/metrics")
    async def prometheus() -> Response:
        metrics.LEDGER_AGE.set(service.follower.age)
        metrics.UNWRITTEN.set(service.sink.rows)
        metrics.WRITTEN.set(service.sink.written)
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def readiness(service: Service) -> dict[str, Any]:
    """Whether requests should come here. A problem beside a version that answers makes it degraded, and not unready."""
    follower, sink = service.follower, service.sink
    problems = [f"{name}: {why}" for name, why in follower.problems.items()]
    if follower.silence:
        problems.append(f"the ledger does not answer ({follower.silence}); what was champion goes on")
    elif LATE < follower.age < float("inf"):
        problems.append(f"the ledger has not answered for {follower.age:.0f} s; what was champion goes on")
    if sink.problem:
        problems.append(f"answers cannot be written ({sink.problem}); {sink.rows} wait in memory, {sink.most} may")
    unready = not follower.ready or sink.rows >= sink.most or _lacking(follower)
    status = "not ready" if unready else "degraded" if problems else "ready"
    models = {name: reign.champion.version if reign.champion else None for name, reign in dict(follower.reigns).items()}
    return {"status": status, "models": models, "problems": problems}


def _lacking(follower: Follower) -> bool:
    """Whether a model that has a champion is not served at all."""
    return any(reign.problem and reign.champion is None for reign in dict(follower.reigns).values())


def _add_models(app: FastAPI, service: Service) -> None:
    @app.get("/models")
    async def models() -> Response:
        return _json([_about(name, reign, service) for name, reign in dict(service.follower.reigns).items()])

    @app.get("/models/{model}")
    async def one(model: str) -> Response:
        if model not in service.follower.reigns:
            service.reign(model)
        return _json(_about(model, service.follower.reigns[model], service))

    @app.get("/models/{model}/ping", include_in_schema=False)
    @app.get("/models/{model}/health", include_in_schema=False)
    async def ping(model: str) -> Response:
        service.reign(model)
        return _json({"status": "ok"})

    @app.get("/models/{model}/version", include_in_schema=False)
    async def version(model: str) -> Response:
        champion = service.reign(model).champion
        return Response(champion.version if champion else "", media_type="text/plain")


def _add_invocations(app: FastAPI, service: Service) -> None:
    """The one route that has to be fast: a plain one, since FastAPI's would only add its parsing, and looked at before all others."""

    async def invocations(request: Request) -> Response:
        began, model = time.perf_counter(), request.path_params["model"]
        call = Call(request_id(request), client_id(request), datetime.now(UTC))
        reign = None
        try:
            reign = service.reign(model)
            async with service.bodies.body(request) as body:
                response = await _invoke(body, request, reign, call, service)
        except ClientDisconnect:
            response = Response(status_code=400)  # nobody is there to read it
        except Problem as problem:
            response = problem.response(call.id)
        except Exception as error:  # noqa: BLE001  (its text may hold values of the request, so only the places are logged)
            places = "".join(traceback.format_tb(error.__traceback__))
            log.error("request %s to %s failed with %s at\n%s", call.id, model, type(error).__name__, places)
            detail = f"it is on record as request {call.id}, and the server's log has where it failed"
            response = Problem(500, "internal", "The server failed", detail).response(call.id)
        known = model if reign else "unknown"
        response.headers["X-Request-ID"] = call.client_id or call.id
        metrics.of(metrics.REQUESTS, known, str(response.status_code)).inc()
        metrics.of(metrics.LATENCY, known).observe(time.perf_counter() - began)
        return response

    app.router.routes.insert(0, Route("/models/{model}/invocations", invocations, methods=["POST"]))


async def _invoke(body: bytes, request: Request, reign: ChampionState, call: Call, service: Service) -> Response:
    """Answer on the spot what takes no time, and the rest in a thread: nobody waits for another's challenger or thousand rows."""
    kind, limits = request.headers.get("content-type", ""), service.bodies.limits
    if len(body) > INLINE_BYTES:
        async with service.large:  # what is read of a body is many times its size
            return await asyncio.to_thread(lambda: _answered(read_table(body, kind, limits.rows), reign, call, service))
    table = read_table(body, kind, limits.rows)
    if table.rows > INLINE_ROWS or reign.trial or not (reign.champion and reign.champion.plan):
        return await asyncio.to_thread(_answered, table, reign, call, service)
    return _answered(table, reign, call, service)


def _answered(table: Table, reign: ChampionState, call: Call, service: Service) -> Response:
    content = answer(table, reign, call, service.sink, service.shadow)
    versions = ",".join(sorted({content["version"], *content.get("versions", ())}))
    return Response(orjson.dumps(content), media_type="application/json", headers={"X-Model-Version": versions})


def _about(name: str, reign: ChampionState, service: Service) -> dict[str, Any]:
    """What is served of a model, for people and programs."""
    found: dict[str, Any] = {"model": name, "problem": service.follower.problems.get(name), "champion": None}
    if name not in service.follower.resources:
        return found
    config = service.config(name)
    found |= {"description": config.description.strip(), "classes": class_names(config) or None}
    for role, served in (("champion", reign.champion), ("challenger", reign.challenger)):
        if served:
            found[role] = {
                "version": served.version,
                "as_of": served.pick.as_of.isoformat(),
                "features": list(served.features.all),
                "compiled": served.plan is not None,
                "why_not_compiled": served.why_no_plan or None,
                "not_checked_here": list(served.contract.unchecked),
            }
    if reign.trial:
        found["canary"] = {
            "share": reign.trial.rule.share,
            "broken": reign.trial.broken or None,
            **reign.trial.evidence(),
        }
    return found


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
