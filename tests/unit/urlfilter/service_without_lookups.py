"""A service whose lookups are computed by nobody: what the tests of statuses, limits and reloads ask.

A shard is a text file `urls-<i>.bin`; its parameters file holds one line, which stands for all parameters: another line
is another configuration, and its first word says which evaluation keys fit.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from starlette.types import ASGIApp, Message, Scope

from network_extension.pir.errors import PirError, SerializationError
from network_extension.pir.proto import api_pb2, he_pb2, pir_pb2
from network_extension.urlfilter.service.application import application
from network_extension.urlfilter.service.catalogue import ServedVersion
from network_extension.urlfilter.service.configuration import read_configuration
from network_extension.urlfilter.service.event_log import EventLog
from network_extension.urlfilter.service.loading import VersionFiles
from network_extension.urlfilter.service.refusals import Refusal, unauthorized
from network_extension.urlfilter.service.service import Service
from network_extension.urlfilter.service.settings import ServiceSettings
from network_extension.urlfilter.stores import Store, open_store

if TYPE_CHECKING:
    from network_extension.pir.he.keys import EvaluationKey as ParsedKey

USE_CASE = "com.example.app.url.filtering"
USER = "1D5E0C0C-3F3E-4F4A-9D4E-5B0F7C9F1A11"
USER_TOKEN = "c2VjcmV0IHVzZXIgdG9rZW4h"
AGENT = "com.apple.ciphermld/1.0 iOS/26.0"
HEADERS = {"user-identifier": USER, "user-agent": AGENT, "authorization": "good"}
DEFECT, MISFIT = 98, 99
"""Numbers of calls that make a shard fail: by a defect, and by a query that does not fit."""


class TextShard:
    """Answers with its own content, the key, and the query."""

    def __init__(self, content: bytes, gate: threading.Event) -> None:
        self._content = content
        self._gate = gate

    def answer(self, query: pir_pb2.EncryptedIndices, key: ParsedKey, threads: int = 1) -> pir_pb2.PIRResponse:
        self._gate.wait()
        if query.num_pir_calls == MISFIT:
            raise SerializationError("query: 99 indices; make the query for this database")
        if query.num_pir_calls == DEFECT:
            raise ZeroDivisionError(f"a defect that mentions {USER}")
        return response(self._content, cast(bytes, key), str(query.num_pir_calls).encode())


def response(*parts: bytes) -> pir_pb2.PIRResponse:
    """What a `TextShard` answers."""
    full = [he_pb2.SerializedCiphertext(full=he_pb2.SerializedFullCiphertext(polys=part)) for part in parts]
    return pir_pb2.PIRResponse(replies=[he_pb2.SerializedCiphertextVec(ciphertexts=full)])


@dataclass
class TextEngine:
    """Opens what this module's text describes. Lookups wait while `gate` is closed."""

    gate: threading.Event = field(default_factory=threading.Event)
    opened: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def open_version(self, files: VersionFiles) -> ServedVersion:
        self.opened.append(files.label)
        contents = [data.read_bytes() for data, _ in files.shards]
        parameters = [path.read_text() for _, path in files.shards]
        if "broken" in parameters:
            raise PirError("urls-0.params.txtpb: broken; build it again")
        config = api_pb2.PIRConfig(batch_size=2, evaluation_key_config_hash=key_identifier(parameters[0]))
        repeated = config.pir_shard_configs.repeated_shard_config
        repeated.shard_count = len(contents)
        repeated.shard_config.num_entries = int(hashlib.sha256(parameters[0].encode()).hexdigest()[:8], 16)
        if "double mod" in parameters[0]:
            config.keyword_pir_params.sharding_function.double_mod.other_shard_count = 7
        return ServedVersion(
            use_case=files.use_case,
            label=files.label,
            config=config,
            config_id=hashlib.sha256(config.SerializeToString(deterministic=True)).digest(),
            key_config=_key_config(parameters[0]),
            key_identifier=key_identifier(parameters[0]),
            shards=tuple(TextShard(content, self.gate) for content in contents),
        )

    def read_key(self, config: he_pb2.EvaluationKeyConfig, message: he_pb2.SerializedEvaluationKey) -> ParsedKey:
        if not message.HasField("relin_key"):
            raise SerializationError("evaluation key: no relinearisation key; send one")
        return cast("ParsedKey", message.SerializeToString())

    def key_bytes(self, key: ParsedKey) -> int:
        return 1000


def _key_config(parameters: str) -> he_pb2.EvaluationKeyConfig:
    return he_pb2.EvaluationKeyConfig(galois_elements=[len(parameters.partition(" ")[0])], has_relin_key=True)


def key_identifier(parameters: str = "keys") -> bytes:
    """The name of keys that fit a database with these parameters."""
    return hashlib.sha256(_key_config(parameters).SerializeToString()).digest()


class WordGate:
    """Takes the word "good" always, and what begins with it once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.tiers: set[str] = set()

    async def open(self, tiers: set[str]) -> None:
        self.tiers = tiers

    async def redeem(self, authorization: str) -> None:
        if not authorization.startswith("good"):
            raise self.challenged(unauthorized("The token is not valid"))
        if authorization != "good" and not await self._store.spend(authorization.encode(), 4e9):
            raise self.challenged(unauthorized("The token was used before"))

    def challenged(self, refusal: Refusal) -> Refusal:
        refusal.headers["www-authenticate"] = "PrivateToken challenge=x"
        return refusal

    def directory(self) -> Mapping[str, object]:
        return {"issuer-request-uri": "/issue", "token-keys": []}

    def public_key(self, tier: str) -> bytes:
        return tier.encode()

    async def issue(self, tier: str, body: bytes) -> bytes:
        return b"signed for " + tier.encode()


def write_database(directory: Path, content: str = "rows", parameters: str = "keys", shards: int = 2) -> Path:
    """Shards with this content, and a service configuration that names them; its path."""
    directory.mkdir(exist_ok=True)
    for index in range(shards):
        # As a tool that is careful does it: a reader sees the old file or the new one.
        for name, text in ((f"urls-{index}.bin", f"{content} {index}"), (f"urls-{index}.params.txtpb", parameters)):
            (directory / f"{name}.new").write_text(text)
            (directory / f"{name}.new").rename(directory / name)
    use_case = {"name": USE_CASE, "fileStem": "urls", "shardCount": shards}
    users = [{"tier": "tier1", "tokens": [USER_TOKEN]}]
    path = directory / "service-config.json"
    path.write_text(json.dumps({"users": users, "usecases": [use_case], "reportDirectory": "reports"}))
    return path


class Running:
    """A service in the test's process, with its log."""

    def __init__(self, configuration: Path, store: Store | None = None, **settings: Any) -> None:
        self.engine = TextEngine()
        self.lines = io.StringIO()
        self.store = store or open_store(str(configuration.parent / "state.sqlite3"))
        self.service = Service(
            read_configuration(configuration),
            self.store,
            self.engine,
            WordGate(self.store),
            settings=ServiceSettings(**{"workers": 2} | settings),
            log=EventLog(self.lines),
        )
        self.app = application(self.service)

    async def __aenter__(self) -> Running:
        await self.service.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.engine.gate.set()
        await self.service.stop()

    @property
    def config_id(self) -> bytes:
        """Of the newest version."""
        return self.service.catalogue.newest(USE_CASE).config_id

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines.getvalue().splitlines()]

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, **more: str
    ) -> Answer:
        """One request. `headers` are a good device's by default; `more` replaces some, with `_` for a hyphen."""
        replaced = {name.replace("_", "-"): value for name, value in more.items()}
        return await ask(self.app, method, path, body, {**(HEADERS if headers is None else headers), **replaced})

    async def upload(self, user: str = USER) -> None:
        assert (await self.ask("POST", "/key", key_body(), user_identifier=user)).status == 200


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> str:
        """Of a refusal."""
        text: str = json.loads(self.body)["error"]["message"]
        return text

    @property
    def answers(self) -> list[list[bytes]]:
        """Of /queries: what the shards said."""
        replies = [
            item.pir_response.replies[0].ciphertexts for item in api_pb2.Responses.FromString(self.body).responses
        ]
        return [[part.full.polys for part in parts] for parts in replies]


async def ask(
    app: ASGIApp, method: str, path: str, body: bytes, headers: Mapping[str, str], leaves: asyncio.Event | None = None
) -> Answer:
    """One request without a network, by a client that goes away when `leaves` says so."""
    path, _, query = path.partition("?")
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    # In pieces, as bodies come from a network.
    pieces = [body[index : index + 65_536] for index in range(0, len(body), 65_536)] or [b""]
    sent: list[Message] = []

    async def receive() -> Message:
        if not pieces:
            await (leaves or asyncio.Event()).wait()
            return {"type": "http.disconnect"}
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return Answer(
        sent[0]["status"],
        {name.decode(): value.decode() for name, value in sent[0]["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


def key_message(content: bytes = b"my key", parameters: str = "keys") -> api_pb2.EvaluationKey:
    """An evaluation key that fits a database with these parameters."""
    key = he_pb2.SerializedEvaluationKey()
    key.relin_key.relin_key.key_switch_key.ciphertexts.add().full.polys = content
    metadata = api_pb2.EvaluationKeyMetadata(timestamp=1, identifier=key_identifier(parameters))
    return api_pb2.EvaluationKey(metadata=metadata, evaluation_key=key)


def key_body(content: bytes = b"my key", parameters: str = "keys") -> bytes:
    """The body of /key."""
    return api_pb2.EvaluationKeys(keys=[key_message(content, parameters)]).SerializeToString()


def parsed_key(content: bytes = b"my key") -> bytes:
    """What the engine makes of `key_message(content)`."""
    return key_message(content).evaluation_key.SerializeToString()


def query_body(config_id: bytes, *calls: int, shard: int = 0, use_case: str = USE_CASE, **fields: Any) -> bytes:
    """The body of /queries: one lookup for each of `calls`."""
    requests = [
        api_pb2.Request(
            usecase=use_case,
            pir_request=api_pb2.PIRRequest(
                shard_index=shard,
                query=pir_pb2.EncryptedIndices(num_pir_calls=call),
                configuration_hash=config_id,
                **fields,
            ),
        )
        for call in calls
    ]
    return api_pb2.Requests(requests=requests).SerializeToString()


async def until(condition: Callable[[], Any]) -> None:
    """Let the others run until it is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  what is waited for knows nothing of events
            await asyncio.sleep(0.001)


def config_body(*use_cases: str, existing: tuple[bytes, ...] = ()) -> bytes:
    """The body of /config."""
    return api_pb2.ConfigRequest(usecases=use_cases, existing_config_ids=existing).SerializeToString()
