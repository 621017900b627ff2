"""Oblivious HTTP by itself: a gateway before services on the network, and a relay before a gateway.

`netext urlfilter serve` has a gateway of its own, in the same process. These are for a gateway on another machine than
the service, and for trying out a chain as Apple runs it. Both are served by `service.serving.serve`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..errors import ConfigurationError
from .oblivious_http import GatewayKeys
from .oblivious_http.binary_http import is_authority
from .oblivious_http.gateway import KEYS_PATH, PATHS, Gateway, authority_of
from .oblivious_http.relay import Relay
from .oblivious_http.targets import at_origin, checked_origin
from .service.event_log import EventLog
from .service.gateway_routes import DOCUMENT
from .service.key_documents import renewed_document
from .stores import Store, StoreUnavailable

if TYPE_CHECKING:
    import aiohttp

MOST_AT_A_TIME = 64
"""Exchanges: each may hold a body of 10 MiB, more than once."""
HOUSEKEEPING_SECONDS = 600.0
ANSWER_SECONDS = 35.0
"""A little longer than a gateway gives its target."""

Endpoint = Callable[[Request], Awaitable[Response]]


class ObliviousService:
    """What gateway and relay have in common: connections, a bound on what runs at a time, and the log.

    No line of the log holds an address, a header or a body: status and route are all.
    """

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.is_ready = False
        self._session: aiohttp.ClientSession | None = None
        self._running = 0

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """What it answers, beside /health."""
        return ()

    @property
    def application(self) -> Starlette:
        """For a web server."""
        return Starlette(routes=[*self.routes, Route("/health", self._health)])

    async def start(self) -> None:
        """Have connections. Raises what a derived service raises."""
        import aiohttp

        # Cookies would tie together what is to look unrelated.
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        self.is_ready = True
        self.log.write("started")

    async def watch(self) -> None:
        """Nothing changes by itself."""

    async def keep_house(self) -> None:
        """Nothing is to be kept."""

    async def reload(self) -> None:
        """Nothing is read again."""

    async def stop(self) -> None:
        """After the last request."""
        self.is_ready = False
        if self._session is not None:
            await self._session.close()
        self.log.write("stopped")

    def session(self) -> aiohttp.ClientSession:
        """The connections. Only between `start` and `stop`."""
        if self._session is None:
            raise RuntimeError("start comes first")
        return self._session

    def bounded(self, endpoint: Endpoint) -> Endpoint:
        """`endpoint`, MOST_AT_A_TIME at a time; refusals are in the log."""

        async def answer(request: Request) -> Response:
            if self._running >= MOST_AT_A_TIME:
                response = Response("too much to do; ask again\n", 503, {"retry-after": "1"})
            else:
                self._running += 1
                try:
                    response = await endpoint(request)
                finally:
                    self._running -= 1
            if response.status_code >= 400:
                level = "error" if response.status_code >= 500 else "warning"
                self.log.write("refused", level=level, status=response.status_code)
            return response

        return answer

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"ready": self.is_ready}, 200 if self.is_ready else 503)


class GatewayService(ObliviousService):
    """A gateway before origins: `targets` by the names that clients have for them (`named_target`).

    `store` keeps the keys; with one that is shared, so are the keys. `ConfigurationError`: a target that is none.
    """

    def __init__(self, targets: Mapping[str, str], store: Store, clock: Callable[[], float], log: EventLog) -> None:
        super().__init__(log)
        self._store, self._clock, self._keys = store, clock, GatewayKeys()
        leads = {name: at_origin(origin, self.session) for name, origin in targets.items()}
        self._gateway = Gateway(lambda: self._keys, leads)

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """Requests are posted; the keys are got."""
        posts = [Route(path, self.bounded(self._gateway.exchange), methods=["POST"]) for path in PATHS]
        return [*posts, *(Route(path, self._gateway.key_list) for path in (PATHS[0], KEYS_PATH))]

    async def start(self) -> None:
        """Have keys: the store's, or new ones. Raises `StoreUnavailable`, and `ConfigurationError` for damaged keys."""
        await self.reload()
        await super().start()

    async def reload(self) -> None:
        """Take over the store's keys; make a new one in time."""

        def renew(keys: GatewayKeys) -> GatewayKeys:
            return keys.renewed(self._clock())

        before = self._keys.public_list
        self._keys = await renewed_document(
            self._store, DOCUMENT, GatewayKeys.from_bytes, GatewayKeys(), renew, GatewayKeys.to_bytes
        )
        if self._keys.public_list != before:
            self.log.write("key", key_id=self._keys.keys[0].key_id, still_opened=len(self._keys.keys) - 1)

    async def keep_house(self) -> None:
        """Renew the keys in time. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            try:
                await self.reload()
            except StoreUnavailable as error:
                self.log.write("housekeeping failed", level="warning", cause=str(error))

    async def stop(self) -> None:
        """After the last request."""
        await super().stop()
        await self._store.close()


class RelayService(ObliviousService):
    """A relay before the gateway at `gateway_url`, whose path is the gateway's."""

    def __init__(self, gateway_url: str, log: EventLog) -> None:
        super().__init__(log)
        parts = urlsplit(gateway_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.fragment:
            raise ConfigurationError(f"gateway {gateway_url}: a URL is wanted, such as https://gateway.example/gateway")
        self.gateway_url = gateway_url if parts.path not in ("", "/") else gateway_url.rstrip("/") + PATHS[0]
        self._relay = Relay(self.gateway_url, self.session)

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """Requests are posted to the root, or where a gateway would take them."""
        return [Route(path, self.bounded(self._relay.exchange), methods=["POST"]) for path in ("/", *PATHS)]


def named_target(text: str) -> tuple[str, str]:
    """Name and origin of `ORIGIN` or `NAME=ORIGIN`; without a name of its own it has that of the origin.

    `ConfigurationError`: it is neither.
    """
    name, is_named, origin = text.rpartition("=")
    origin = checked_origin(origin)
    if is_named and not (name and is_authority(name)):
        raise ConfigurationError(f"target {text}: its name is none; a host, and its port where it has one, is wanted")
    parts = urlsplit(origin)
    return authority_of(name or parts.netloc, parts.scheme), origin
