"""What all endpoints have in common: refusals become answers, each with a line in the log; everything is counted."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from time import monotonic

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..stores import StoreUnavailable
from .event_log import EventLog
from .metrics import Metrics
from .refusals import Refusal, busy

Handler = Callable[[Request], Awaitable[Response]]

STORE_RETRY = 2
"""Seconds after which a store that was away may be back."""


class Exchanges:
    """Makes routes of handlers."""

    def __init__(self, metrics: Metrics, log: EventLog) -> None:
        self._metrics = metrics
        self._log = log

    def route(self, method: str, path: str, handler: Handler) -> Route:
        """`handler` at `path`. What it raises is answered: `Refusal`, `StoreUnavailable` (503), all else (500)."""

        async def endpoint(request: Request) -> Response:
            began = monotonic()
            try:
                response = await handler(request)
            except Exception as error:
                response = self.refuse(self._refusal(error), path)
            self._metrics.requests.labels(path, response.status_code).inc()
            self._metrics.seconds.labels(path).observe(monotonic() - began)
            return response

        return Route(path, endpoint, methods=[method])

    def refuse(self, refusal: Refusal, route: str) -> Response:
        """The answer, in the form of Apple's service; and the line."""
        self.note_refusal(route, refusal.status, refusal.cause, refusal.next_step, refusal.retry_after)
        headers = dict(refusal.headers)
        if refusal.retry_after is not None:
            headers["retry-after"] = str(refusal.retry_after)
        return JSONResponse({"error": {"message": refusal.message}}, refusal.status, headers)

    def note_refusal(
        self, route: str, status: int, cause: str, next_step: str = "", retry_after: int | None = None
    ) -> None:
        """The line of one request that was not served."""
        self._log.write(
            "refused",
            level="error" if status >= 500 else "warning",
            route=route,
            status=status,
            cause=cause,
            next_step=next_step or None,
            retry_after=retry_after,
        )

    def _refusal(self, error: Exception) -> Refusal:
        if isinstance(error, Refusal):
            return error
        if isinstance(error, StoreUnavailable):
            self._metrics.store_failures.inc()
            cause, _, step = str(error).partition("; ")
            return busy("The service is busy", cause=cause, next_step=step, retry_after=STORE_RETRY)
        # The text of an exception may hold what a client sent; where it came from does not.
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        places = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
        return Refusal(
            500,
            "Internal error",
            cause=f"{type(error).__name__} at {' < '.join(reversed(places))}",
            next_step="this is a defect of the service: report this line",
        )
