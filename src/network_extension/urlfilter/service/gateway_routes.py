"""Oblivious HTTP in front of the service, in the same process: its keys are the store's, its limits the service's."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message

from ..oblivious_http import GatewayKeys
from ..oblivious_http.gateway import KEYS_PATH, PATHS, Gateway
from ..oblivious_http.targets import in_process
from ..stores import Store
from .bodies import BodyReader
from .exchange import Exchanges
from .key_documents import renewed_document

DOCUMENT = "gateway-keys"


class ServiceGateway:
    """Leads to `target` and nowhere else, whatever name a request gives. `clock` gives seconds since 1970."""

    def __init__(self, store: Store, target: ASGIApp, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock
        self._keys = GatewayKeys()
        self._gateway = Gateway(lambda: self._keys, {"*": in_process(target)})

    async def open(self) -> None:
        """Have a key: the store's, or a new one. Raises `StoreUnavailable`."""

        def renew(keys: GatewayKeys) -> GatewayKeys:
            return keys.renewed(self._clock())

        self._keys = await renewed_document(
            self._store, DOCUMENT, GatewayKeys.from_bytes, GatewayKeys(), renew, GatewayKeys.to_bytes
        )

    def routes(self, bodies: BodyReader, exchanges: Exchanges) -> tuple[BaseRoute, ...]:
        """For the service's application: sealed requests are read within the bounds of all others, and are counted."""

        async def exchange(request: Request) -> Response:
            body = await bodies.read(request)
            try:
                answer = await self._gateway.exchange(_with_body(request, body))
            finally:
                bodies.release(len(body))
            if answer.status_code >= 400:
                exchanges.note_refusal(
                    PATHS[1],
                    answer.status_code,
                    "the gateway could not open a message",
                    "none if it is rare: the client fetches the gateway's keys again; else see what is in front of it",
                )
            return answer

        posts = [exchanges.route("POST", path, exchange) for path in PATHS]
        return (*posts, *(exchanges.route("GET", path, self._gateway.key_list) for path in (KEYS_PATH, PATHS[0])))


def _with_body(request: Request, body: bytes) -> Request:
    """The request, whose body has been read already."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)
