"""What each endpoint does with one request. Specification §1.2; what is raised becomes an answer in `exchange`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...pir.proto.api_pb2 import ConfigRequest, EvaluationKeys, Requests
from .config_replies import config_response, requested_versions
from .content_codings import accepted_coding, encoded
from .metrics import CONTENT_TYPE
from .queries import answer_queries
from .refusals import Refusal, bad_request, unauthorized
from .reports import parse_report, write_report
from .service import Service
from .user_agents import reads_repeated_shards

LONGEST_USER_IDENTIFIER = 256
MOST_KEYS = 16
"""Evaluation keys in one body."""
MOST_USE_CASES = 64
LARGEST_TOKEN_REQUEST = 4096
LOOK_FOR_CLIENT = 0.5
"""Seconds between two looks whether the client of a lookup that waits is still there."""

_Message = TypeVar("_Message", bound=Message)
_Result = TypeVar("_Result")


class Endpoints:
    """Handlers, one for each route."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def config(self, request: Request) -> Response:
        """POST /config: ConfigRequest → ConfigResponse, compressed if the client takes that."""
        user, user_agent = await self._admit(request)
        async with self._body(request) as body:
            asked = _parsed(ConfigRequest, body)
        if len(asked.usecases) > MOST_USE_CASES:
            raise bad_request(f"{len(asked.usecases)} use cases; {MOST_USE_CASES} at most")
        versions = requested_versions(asked, self._service.catalogue)
        timestamps = await self._service.keys.timestamps(user, versions)
        reply = config_response(
            asked, versions, timestamps, reads_repeated_shards=reads_repeated_shards(user_agent)
        ).SerializeToString(deterministic=True)
        headers = {"vary": "accept-encoding"}
        if coding := accepted_coding(request.headers.get("accept-encoding", "")):
            reply = encoded(reply, coding)
            headers["content-encoding"] = coding
        return Response(reply, headers=headers)

    async def key(self, request: Request) -> Response:
        """POST /key: EvaluationKeys → 200 without a body, once they are on disk."""
        user, _ = await self._admit(request)
        async with self._body(request) as body:
            keys = _parsed(EvaluationKeys, body).keys
            if not 0 < len(keys) <= MOST_KEYS:
                raise bad_request(f"{len(keys)} evaluation keys in one body; 1 to {MOST_KEYS} are taken")
            for key in keys:
                await self._service.keys.put(user, key, self._service.catalogue)
                self._service.metrics.keys_stored.inc()
        return Response()

    async def queries(self, request: Request) -> Response:
        """POST /queries: Requests → Responses, in the same order."""
        service = self._service
        service.admission.check_room()  # before the token is spent
        user, _ = await self._admit(request)
        async with self._body(request) as body:
            asked = _parsed(Requests, body)
            answering = answer_queries(asked, user, service.catalogue, service.keys, service.admission)
            answers = await _while_there(request, answering)
        for query in asked.requests:
            service.metrics.lookups.labels(query.usecase).inc()
        return Response(answers.SerializeToString())

    async def report(self, request: Request) -> Response:
        """POST /report: a list of URLs → 200, once it is in a file. 404 when no reportDirectory is configured."""
        directory = self._service.configuration.report_directory
        if directory is None:
            raise Refusal(404, "Reports are not taken", next_step="name a reportDirectory in the service configuration")
        await self._redeem(request)
        async with self._body(request) as body:
            report = parse_report(body, request.headers.get("content-type", ""))
        user_agent = request.headers.get("user-agent", "")
        await asyncio.to_thread(write_report, directory, report, user_agent, self._service.clock())
        self._service.metrics.reports.inc()
        return Response()

    async def prefilter(self, request: Request) -> Response:
        """GET /prefilter?usecase=NAME: the property list that belongs to the newest version; its tag is the ETag.

        Without a name: that of the only use case.
        """
        catalogue = self._service.catalogue
        name = request.query_params.get("usecase", "")
        if not name and len(catalogue.versions) == 1:
            name = next(iter(catalogue.versions))
        prefilter = catalogue.newest(name).prefilter
        if prefilter is None:
            raise Refusal(404, "No prefilter", next_step="only directories of netext urlfilter build have one")
        tag = f'"{prefilter.tag}"'
        headers = {"etag": tag, "cache-control": "no-cache"}
        held = [item.strip().removeprefix("W/") for item in request.headers.get("if-none-match", "").split(",")]
        if tag in held or held == ["*"]:
            return Response(status_code=304, headers=headers)
        return Response(prefilter.content, headers=headers, media_type="application/x-plist")

    async def issuer_directory(self, request: Request) -> Response:
        """GET /.well-known/private-token-issuer-directory: the keys of all tiers."""
        return JSONResponse(self._service.tokens.directory(), media_type="application/private-token-issuer-directory")

    async def token_key(self, request: Request) -> Response:
        """GET /token-key-for-user-token: the key of the user's tier."""
        tier = self._service.users.tier(request.headers.get("authorization", ""))
        return Response(self._service.tokens.public_key(tier), media_type="application/octet-stream")

    async def issue(self, request: Request) -> Response:
        """POST /issue: TokenRequest → TokenResponse, signed with the key of the user's tier."""
        tier, user = self._service.users.user(request.headers.get("authorization", ""))
        self._service.issuance.take(user)
        async with self._body(request) as body:
            if len(body) > LARGEST_TOKEN_REQUEST:
                raise Refusal(422, "The body is no TokenRequest")
            reply = await self._service.tokens.issue(tier, body)
        self._service.metrics.tokens_issued.labels(tier).inc()
        return Response(reply, media_type="application/private-token-response")

    async def live(self, request: Request) -> Response:
        """GET /health/live: 200 while the process answers at all."""
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        """GET /health and /health/ready: 200 when requests are served: databases are open, the store answers."""
        service = self._service
        if service.is_ready:
            await service.store.check()
        versions = {name: [version.label for version in found] for name, found in service.catalogue.versions.items()}
        content = {"live": True, "ready": service.is_ready, "versions": versions}
        return JSONResponse(content, 200 if service.is_ready else 503)

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: for Prometheus."""
        return Response(self._service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def _admit(self, request: Request) -> tuple[str, str]:
        """User-Identifier and User-Agent of a request whose token counts. Raises `Refusal` 400 and 401."""
        authorization = self._authorization(request)
        user = request.headers.get("user-identifier", "")
        user_agent = request.headers.get("user-agent", "")
        if not user or len(user) > LONGEST_USER_IDENTIFIER:
            raise bad_request("The header User-Identifier is missing, or too long")
        if not user_agent:
            raise bad_request("The header User-Agent is missing")
        await self._count(authorization)
        return user, user_agent

    async def _redeem(self, request: Request) -> None:
        await self._count(self._authorization(request))

    def _authorization(self, request: Request) -> str:
        authorization = request.headers.get("authorization", "")
        if self._service.needs_tokens and not authorization:
            raise self._service.tokens.challenged(unauthorized("A PrivateToken is needed"))
        return authorization

    async def _count(self, authorization: str) -> None:
        if self._service.needs_tokens:
            await self._service.tokens.redeem(authorization)

    @asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """The body, which counts as memory in use until the block is left."""
        body = await self._service.bodies.read(request)
        try:
            yield body
        finally:
            self._service.bodies.release(len(body))


async def _while_there(request: Request, work: Coroutine[None, None, _Result]) -> _Result:
    """The result, unless the client goes away: then what still waits for a core is dropped. Raises `Refusal` 499."""
    try:
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(_look_for_client(request))
            result = await work
            looking.cancel()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    return result


async def _look_for_client(request: Request) -> None:
    while not await request.is_disconnected():  # noqa: ASYNC110  the server tells nobody who does not ask
        await asyncio.sleep(LOOK_FOR_CLIENT)
    raise Refusal(499, "The client is gone")


def _parsed(kind: type[_Message], body: bytes) -> _Message:
    try:
        return kind.FromString(body)
    except DecodeError:
        raise bad_request(f"The body is no {kind.DESCRIPTOR.name}") from None
