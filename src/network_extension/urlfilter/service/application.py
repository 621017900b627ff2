"""The service on ASGI: which handler answers which route."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from .endpoints import Endpoints
from .exchange import Exchanges
from .refusals import Refusal
from .service import Service

_NOT_ROUTED = {404: "Not found", 405: "Method not allowed"}


def application(service: Service, *gateway: BaseRoute) -> Starlette:
    """All that one instance answers; `gateway` are the routes of Oblivious HTTP. Its lifespan starts and stops the
    service, for servers that run one; `serving.serve` does that itself.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    whole = _application(service, [*_device_routes(service), *_operator_routes(service), *gateway])
    whole.router.lifespan_context = lifespan
    return whole


def device_application(service: Service) -> Starlette:
    """What devices ask for, and nothing of an operator's: this is what the Oblivious HTTP gateway leads to."""
    return _application(service, _device_routes(service))


def _device_routes(service: Service) -> list[BaseRoute]:
    """Lookups and tokens, as Apple's service has them (specification §1.2), and the prefilter."""
    endpoints, route = Endpoints(service), Exchanges(service.metrics, service.log).route
    return [
        route("POST", "/config", endpoints.config),
        route("POST", "/key", endpoints.key),
        route("POST", "/queries", endpoints.queries),
        route("POST", "/report", endpoints.report),
        route("GET", "/prefilter", endpoints.prefilter),
        route("GET", "/.well-known/private-token-issuer-directory", endpoints.issuer_directory),
        route("GET", "/token-key-for-user-token", endpoints.token_key),
        route("POST", "/issue", endpoints.issue),
    ]


def _operator_routes(service: Service) -> list[BaseRoute]:
    """Health and metrics."""
    endpoints, route = Endpoints(service), Exchanges(service.metrics, service.log).route
    return [
        route("GET", "/health", endpoints.ready),
        route("GET", "/health/live", endpoints.live),
        route("GET", "/health/ready", endpoints.ready),
        route("GET", "/metrics", endpoints.metrics),
    ]


def _application(service: Service, routes: list[BaseRoute]) -> Starlette:
    exchanges = Exchanges(service.metrics, service.log)

    async def not_routed(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        service.metrics.requests.labels("other", status).inc()
        return exchanges.refuse(Refusal(status, _NOT_ROUTED.get(status, "Not found")), "other")

    return Starlette(routes=routes, exception_handlers={HTTPException: not_routed})
