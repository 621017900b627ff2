"""Private lookups at a service: from strings to whether its list has them. The asyncio side.

`LookupSession` says what is due, `Recovery` what follows when it fails; here each step is carried out:

    ISSUER_KEY      GET  /.well-known/private-token-issuer-directory, then the user's own key
    TOKENS          POST /issue
    CONFIGURATION   POST /config
    KEYS            a secret key and its evaluation key, made here
    UPLOAD          POST /key
    NOTHING         POST /queries

Only one lookup at a time prepares; all of them ask side by side. Tokens are fetched from the issuer directly, the rest
goes through `transport`, which may be oblivious (specification §1.1).
"""

from __future__ import annotations

import asyncio
import base64
import os
import random as chance
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..pir.errors import PirError
from .lookup_exchange import StepFailed, exchange
from .lookup_messages import (
    USER_AGENT,
    Question,
    UnreadableAnswer,
    configuration_request,
    key_upload,
    query_request,
    read_configuration,
    read_responses,
)
from .lookup_recovery import GiveUp, Outcome, Recovery, Stage
from .lookup_session import Basis, HeldConfiguration, HeldKeys, LookupSession, Need
from .url_filter_errors import LookupFailed
from .verdicts import StepLog, StepName
from .web_exchange import Transport, WebRequest

if TYPE_CHECKING:
    from ..pir.client import ClientKeys, KeywordClient
    from ..pir.proto import api_pb2

PATIENCE = 8.0
"""Seconds that a lookup looks for an answer: within the deadline of a filter's decision, which is 10."""
MOST_QUERIES = 16
"""Queries in one request: half a megabyte up, and as much down."""
FIRST_TOKENS = 4
"""Fetched when there is none: for the configuration, the key and a query, and one to spare."""

_STAGES = {
    Need.ISSUER_KEY: (Stage.ISSUER, StepName.ISSUER),
    Need.TOKENS: (Stage.TOKENS, StepName.TOKEN),
    Need.CONFIGURATION: (Stage.CONFIGURATION, StepName.CONFIGURATION),
    Need.KEYS: (Stage.KEY, StepName.KEY),
    Need.UPLOAD: (Stage.KEY, StepName.KEY),
    Need.NOTHING: (Stage.QUERY, StepName.QUERY),
}
_Values = list[bytes | None]


def seconds_since_boot() -> float:
    """A clock that goes on while the machine sleeps, and does not jump when the time of day is set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class TokenSource(Protocol):
    """Who gives anonymous tokens: an `IssuerAccount`."""

    url: str

    async def fetch_key(self) -> object:
        """The issuer's key, for `fetch_tokens`; its text says which it is. Raises StepFailed."""

    async def fetch_tokens(self, key: Any, count: int) -> list[bytes]:
        """That many tokens. Raises StepFailed."""


class LookupClient:
    """One client of one service. For one event loop."""

    def __init__(
        self,
        server_url: str,
        use_case: str,
        transport: Transport,
        issuer: TokenSource | None,
        *,
        patience: float = PATIENCE,
        clock: Callable[[], float] = seconds_since_boot,
        random: Callable[[int], bytes] = os.urandom,
        fraction: Callable[[], float] = chance.random,
        keyword_client: Callable[[api_pb2.PIRConfig], KeywordClient] | None = None,
    ) -> None:
        """`issuer` None: a service without users, which takes no tokens. `fraction` scatters pauses."""
        self._keyword_client = keyword_client or _keyword_client
        self._server, self._use_case, self._transport, self._issuer = server_url, use_case, transport, issuer
        self._patience, self._clock, self._random, self._fraction = patience, clock, random, fraction
        self.session: LookupSession[KeywordClient, ClientKeys, object] = LookupSession(uses_tokens=issuer is not None)
        self._preparing = asyncio.Lock()
        self._pseudonym = self._new_pseudonym()
        self._is_away = False

    async def prepare(self, log: StepLog) -> None:
        """Do all that comes before a query. Raises LookupFailed."""
        await self._work(log, None)

    async def lookup(self, keywords: Sequence[str], log: StepLog) -> Mapping[str, bytes | None]:
        """The value of each keyword that the service's list has; None for the others. Raises LookupFailed."""
        values: dict[str, bytes | None] = {}
        for at in range(0, len(keywords), MOST_QUERIES):
            some = keywords[at : at + MOST_QUERIES]
            values.update(zip(some, await self._work(log, some), strict=True))
        return values

    async def maintain(self, log: StepLog) -> None:
        """What is best done while nobody waits: an old key's successor, and a stock of tokens. Raises LookupFailed."""
        async with self._preparing:
            now = self._clock()
            if self.session.rotation_is_due(now) and self.session.need(now) is Need.NOTHING:
                self._pseudonym = self._new_pseudonym()
                failure = await self._try(log, StepName.KEY, self._rotate())
                if failure is not None:
                    raise LookupFailed(Stage.KEY.value, str(failure), is_permanent=False) from failure
            if self.session.wanted_tokens(now) and self.session.issuer_key is not None:
                failure = await self._try(log, StepName.TOKEN, self._fetch_tokens(self.session.wanted_tokens(now)))
                if failure is not None:
                    raise LookupFailed(Stage.TOKENS.value, str(failure), is_permanent=False) from failure

    # One lookup

    async def _work(self, log: StepLog, keywords: Sequence[str] | None) -> _Values:
        """Take steps until the keywords are answered (None: until they could be asked)."""
        # Nobody else waits for a service that was away for a whole lookup; each tries it once.
        recovery = Recovery(self._clock(), 0.0 if self._is_away else self._patience, self._fraction)
        while True:
            values: _Values = []
            need, basis, failure = await self._step(log, keywords, values)
            if failure is None:
                self._is_away = False
                if need is Need.NOTHING:
                    return values
                continue
            stage = _STAGES[need][0]
            if failure.outcome is Outcome.UNAUTHORIZED and self._issuer is None:
                text = f"{failure}: the service takes tokens, and there is no user token to get some with"
                raise LookupFailed(Stage.TOKENS.value, text, is_permanent=True) from failure
            answer = recovery.after(stage, failure.outcome, self._clock(), failure.retry_after)
            if isinstance(answer, GiveUp):
                self._is_away = failure.outcome is Outcome.LOST
                raise LookupFailed(stage.value, str(failure), is_permanent=answer.is_permanent) from failure
            self.session.forget(answer.forget, basis)
            if answer.delay:
                await asyncio.sleep(answer.delay)

    async def _step(
        self, log: StepLog, keywords: Sequence[str] | None, values: _Values
    ) -> tuple[Need, Basis, StepFailed | None]:
        """The step that is due; what it rested on, and how it failed, if it did. Answers go into `values`."""
        async with self._preparing:
            now = self._clock()
            need, basis = self.session.need(now), self.session.basis()
            name = _STAGES[need][1]
            if (rest := self.session.quiet_until - now) > 0:
                return need, basis, StepFailed(Outcome.BUSY, f"the service asked for {rest:.0f} s of quiet", rest)
            if need is not Need.NOTHING:
                return need, basis, await self._try(log, name, self._prepare(need))
            if keywords is None:
                return need, basis, None
            asking = self._ask(self._held_configuration(), self._held_keys(), list(keywords), values)
        return need, basis, await self._try(log, name, asking)

    async def _try(self, log: StepLog, name: StepName, work: Awaitable[str]) -> StepFailed | None:
        try:
            with log.step(name) as step:
                step.text = await work
        except StepFailed as failure:
            if failure.outcome is Outcome.BUSY and failure.retry_after:
                self.session.quiet_until = self._clock() + failure.retry_after
            return failure
        return None

    # Steps: each returns what came of it, in one line, or raises StepFailed

    async def _prepare(self, need: Need) -> str:
        if need is Need.ISSUER_KEY:
            return await self._fetch_issuer_key()
        if need is Need.TOKENS:
            return await self._fetch_tokens(FIRST_TOKENS)
        if need is Need.CONFIGURATION:
            return await self._fetch_configuration()
        if need is Need.KEYS:
            return await self._make_keys()
        return await self._upload(self._held_keys())

    async def _fetch_issuer_key(self) -> str:
        assert self._issuer is not None
        self.session.issuer_key = await self._issuer.fetch_key()
        return f"{self._issuer.url}: {self.session.issuer_key}"

    async def _fetch_tokens(self, count: int) -> str:
        assert self._issuer is not None and self.session.issuer_key is not None
        for token in await self._issuer.fetch_tokens(self.session.issuer_key, count):
            self.session.add_token(token, self._clock())
        return f"{count} issued"

    async def _fetch_configuration(self) -> str:
        existing = self.session.configuration
        identifier = existing.identifier if existing else None
        body = configuration_request(self._use_case, identifier)
        data = await self._post("/config", body, self._authorized(self._pseudonym))
        try:
            found = read_configuration(data, self._use_case, identifier)
            if found.content is None:
                assert existing is not None
                held = existing
            else:
                client = await asyncio.to_thread(self._keyword_client, found.content)
                held = HeldConfiguration(found.identifier, found.key_hash, client)
        except (UnreadableAnswer, PirError) as error:
            raise StepFailed(Outcome.UNREADABLE, f"POST /config: {error}") from error
        self.session.configured(held)
        if found.has_key is False:
            self.session.server_lacks_keys()
        return f"{held.identifier.hex()[:16]}{' as before' if held is existing else ''}"

    async def _make_keys(self) -> str:
        if self.session.keys is not None:
            self._pseudonym = self._new_pseudonym()
        self.session.keys = await self._new_keys()
        return "made"

    async def _new_keys(self) -> HeldKeys[ClientKeys]:
        configuration = self._held_configuration()
        try:
            material = await asyncio.to_thread(configuration.content.new_keys, self._random)
        except PirError as error:
            raise StepFailed(Outcome.UNREADABLE, f"no key can be made for this configuration: {error}") from error
        return HeldKeys(configuration.key_hash, material, self._pseudonym, self._clock())

    async def _upload(self, keys: HeldKeys[ClientKeys]) -> str:
        body = key_upload(keys.material.identifier, keys.material.evaluation_key)
        await self._post("/key", body, self._authorized(keys.pseudonym))
        self.session.uploaded(keys)
        return f"uploaded, {len(body) / 1000:.0f} kB"

    async def _rotate(self) -> str:
        keys = await self._new_keys()
        return f"rotated: {await self._upload(keys)}"

    async def _ask(
        self,
        configuration: HeldConfiguration[KeywordClient],
        keys: HeldKeys[ClientKeys],
        keywords: list[str],
        values: _Values,
    ) -> str:
        client, material = configuration.content, keys.material
        headers = self._authorized(keys.pseudonym)
        try:
            queries = await asyncio.to_thread(
                lambda: [client.query(keyword.encode(), material, self._random) for keyword in keywords]
            )
            questions = [Question(query.shard_index, query.message) for query in queries]
            body = query_request(self._use_case, questions, material.identifier, configuration.identifier)
            data = await self._post("/queries", body, headers)
            responses = read_responses(data, len(queries))
            pairs = list(zip(queries, responses, strict=True))
            values += await asyncio.to_thread(
                lambda: [client.value(query, material, response) for query, response in pairs]
            )
        except (UnreadableAnswer, PirError) as error:
            raise StepFailed(Outcome.UNREADABLE, f"POST /queries: {error}") from error
        found = sum(value is not None for value in values)
        sizes = f"{len(body) / 1000:.0f} kB up, {len(data) / 1000:.0f} kB down"
        return f"{len(keywords)} asked, {found} on the list; {sizes}"

    # Exchanges

    def _authorized(self, pseudonym: str) -> tuple[tuple[str, str], ...]:
        """The headers of a request, with a token that is spent with it."""
        headers = (("User-Agent", USER_AGENT), ("User-Identifier", pseudonym))
        token = self.session.take_token(self._clock())
        if token is None:
            return headers
        return (*headers, ("Authorization", f"PrivateToken token={base64.urlsafe_b64encode(token).decode()}"))

    async def _post(self, path: str, body: bytes, headers: tuple[tuple[str, str], ...]) -> bytes:
        answer = await exchange(self._transport, WebRequest("POST", f"{self._server}{path}", headers, body))
        return answer.body

    def _held_configuration(self) -> HeldConfiguration[KeywordClient]:
        assert self.session.configuration is not None
        return self.session.configuration

    def _held_keys(self) -> HeldKeys[ClientKeys]:
        assert self.session.keys is not None
        return self.session.keys

    def _new_pseudonym(self) -> str:
        return str(uuid.UUID(bytes=self._random(16), version=4)).upper()


def _keyword_client(content: api_pb2.PIRConfig) -> KeywordClient:
    from ..pir.client import KeywordClient

    return KeywordClient(content)
