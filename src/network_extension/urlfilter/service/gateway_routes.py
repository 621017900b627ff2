"""Oblivious HTTP in front of the service, in the same process: its keys are the store's."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from ..oblivious_http import GatewayKeys
from ..oblivious_http.gateway import KEYS_PATH, PATHS, Gateway
from ..oblivious_http.targets import in_process
from ..stores import Store
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

    @property
    def routes(self) -> tuple[BaseRoute, ...]:
        """For the service's application."""
        posts = [Route(path, self._gateway.exchange, methods=["POST"]) for path in PATHS]
        return (*posts, *(Route(path, self._gateway.key_list, methods=["GET"]) for path in (KEYS_PATH, PATHS[0])))
