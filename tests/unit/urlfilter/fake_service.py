"""A URL filter's service in memory: Apple's routes, statuses and states, and a cipher that hides nothing.

It shows what a client does; what a client computes is tested with the real service (tests/scenarios).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from network_extension.pir.proto import api_pb2, he_pb2, pir_pb2
from network_extension.urlfilter.lookup_client import LookupClient
from network_extension.urlfilter.lookup_exchange import exchange
from network_extension.urlfilter.lookup_recovery import Forget
from network_extension.urlfilter.web_exchange import ExchangeLost, WebAnswer, WebRequest

URL = "https://filter.example.org"
USE_CASE = "netext.url.filtering"


@dataclass(frozen=True)
class FakeKeys:
    identifier: bytes
    evaluation_key: he_pb2.SerializedEvaluationKey


@dataclass(frozen=True)
class FakeQuery:
    shard_index: int
    message: pir_pb2.EncryptedIndices


class FakeKeywordClient:
    """In place of pir.client.KeywordClient: the "ciphertext" is the keyword."""

    def __init__(self, config: api_pb2.PIRConfig) -> None:
        self.config = config

    def new_keys(self, random: Callable[[int], bytes]) -> FakeKeys:
        return FakeKeys(self.config.evaluation_key_config_hash, he_pb2.SerializedEvaluationKey())

    def query(self, keyword: bytes, keys: FakeKeys, random: Callable[[int], bytes]) -> FakeQuery:
        indices = pir_pb2.EncryptedIndices(num_pir_calls=1)
        indices.ciphertexts.add().seeded.poly0 = keyword
        return FakeQuery(0, indices)

    def value(self, query: FakeQuery, keys: FakeKeys, response: pir_pb2.PIRResponse) -> bytes | None:
        return response.stash.values[0] if response.stash.values else None


class FakeService:
    """A `Transport` whose other end is a service. `requests` are the paths that it was asked for."""

    def __init__(self, rows: Iterable[str] = ()) -> None:
        self.rows = set(rows)
        self.requests: list[str] = []
        self.pseudonyms: list[str] = []
        self.next_answers: dict[str, list[WebAnswer | Exception]] = {}
        """What the next requests to a path get, in place of an answer."""
        self.before_request: Callable[[int], None] = lambda number: None
        """Called with the number of each request, before it is looked at."""
        self.use_case, self.takes_tokens = USE_CASE, True
        self._numbers = itertools.count(1)
        self.issuer = self.version = self.key_version = 0
        self.stored: set[tuple[str, bytes]] = set()
        self._spent: set[bytes] = set()
        self.is_closed = False
        self.restart(Forget.TOKENS | Forget.CONFIGURATION)

    def restart(self, loses: Forget = Forget.NOTHING) -> None:
        """Begin anew, with or without parts of what it knew."""
        if Forget.TOKENS in loses:
            self.issuer = next(self._numbers)
        if Forget.CONFIGURATION in loses:
            self.version = next(self._numbers)
        if Forget.UPLOAD in loses:
            self.stored.clear()

    @property
    def key_hash(self) -> bytes:
        return hashlib.sha256(b"keys of %d" % self.key_version).digest()

    @property
    def config_id(self) -> bytes:
        return hashlib.sha256(b"configuration %d of %d" % (self.version, self.key_version)).digest()

    async def exchange(self, request: WebRequest) -> WebAnswer:
        path = urlsplit(request.url).path
        self.requests.append(path)
        self.before_request(len(self.requests))
        if self.next_answers.get(path):
            answer = self.next_answers[path].pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return self._answer(path, request)

    async def close(self) -> None:
        self.is_closed = True

    def _answer(self, path: str, request: WebRequest) -> WebAnswer:
        headers = dict(request.headers)
        if path == "/token-key-for-user-token":
            return ok(b"%d" % self.issuer) if headers["Authorization"] == "Bearer AAAA" else refused(401)
        if path == "/issue":
            number = next(self._numbers)
            return ok(b"%d token %d" % (self.issuer, number)) if request.body == b"%d" % self.issuer else refused(422)
        if self.takes_tokens and not self._spends(headers.get("Authorization", "")):
            return refused(401)
        self.pseudonyms.append(headers["User-Identifier"])
        return {"/config": self._config, "/key": self._key, "/queries": self._queries}[path](
            request.body, headers["User-Identifier"]
        )

    def _spends(self, authorization: str) -> bool:
        import base64

        token = base64.urlsafe_b64decode(authorization.removeprefix("PrivateToken token="))
        is_good = token.split()[:1] == [b"%d" % self.issuer] and token not in self._spent
        self._spent.add(token)
        return is_good

    def _config(self, body: bytes, user: str) -> WebAnswer:
        asked = api_pb2.ConfigRequest.FromString(body)
        if list(asked.usecases) != [self.use_case]:
            return refused(404, "no such use case")
        reply = api_pb2.ConfigResponse()
        config = reply.configs[self.use_case]
        config.config_id = self.config_id
        if list(asked.existing_config_ids) == [self.config_id]:
            config.reuse_existing_config = True
        else:
            config.pir_config.evaluation_key_config_hash = self.key_hash
        reply.key_info.add().timestamp = int((user, self.key_hash) in self.stored)
        return ok(reply.SerializeToString())

    def _key(self, body: bytes, user: str) -> WebAnswer:
        for key in api_pb2.EvaluationKeys.FromString(body).keys:
            self.stored.add((user, key.metadata.identifier))
        return ok(b"")

    def _queries(self, body: bytes, user: str) -> WebAnswer:
        replies = api_pb2.Responses()
        for request in api_pb2.Requests.FromString(body).requests:
            asked = request.pir_request
            if asked.configuration_hash != self.config_id:
                return refused(410)
            if (user, asked.evaluation_key_metadata.identifier) not in self.stored:
                return refused(400, "Evaluation key not found")
            reply = replies.responses.add().pir_response
            reply.SetInParent()
            if asked.query.ciphertexts[0].seeded.poly0.decode() in self.rows:
                reply.stash.values.append(b"1")
        return ok(replies.SerializeToString())


class FakeIssuer:
    """A `TokenSource` at a `FakeService`."""

    url = URL

    def __init__(self, service: FakeService) -> None:
        self._service = service

    async def fetch_key(self) -> bytes:
        headers = (("Authorization", "Bearer AAAA"),)
        return (await exchange(self._service, WebRequest("GET", f"{URL}/token-key-for-user-token", headers))).body

    async def fetch_tokens(self, key: bytes, count: int) -> list[bytes]:
        request = WebRequest("POST", f"{URL}/issue", (), key)
        return [(await exchange(self._service, request)).body for _ in range(count)]


def ok(body: bytes) -> WebAnswer:
    return WebAnswer(200, {}, body)


def refused(status: int, text: str = "", **headers: str) -> WebAnswer:
    return WebAnswer(status, headers, b'{"error":{"message":"%b"}}' % text.encode())


def busy(seconds: int) -> WebAnswer:
    return WebAnswer(503, {"retry-after": str(seconds)}, b"")


def lost() -> Exception:
    return ExchangeLost("connection reset")


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lookup_client(
    service: FakeService, clock: Callable[[], float] | None = None, *, tokens: bool = True, patience: float = 8.0
) -> LookupClient:
    """A client of the service in memory."""
    return LookupClient(
        URL,
        USE_CASE,
        service,
        FakeIssuer(service) if tokens else None,
        clock=clock or Clock(),
        patience=patience,
        fraction=lambda: 0.0,
        keyword_client=FakeKeywordClient,  # type: ignore[arg-type]  # what of it is used is the same
    )


def listed(values: dict[str, bytes | None] | object, keywords: Sequence[str]) -> list[bool]:
    """Whether each keyword has a value."""
    assert isinstance(values, dict)
    return [values[keyword] is not None for keyword in keywords]
