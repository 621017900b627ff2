"""POST /queries: many lookups in one body, answered in their order."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from ...pir.errors import PirError
from ...pir.proto.api_pb2 import PIRRequest, Request, Requests, Response, Responses
from ...pir.proto.pir_pb2 import EncryptedIndices, PIRResponse
from .admission import Admission
from .catalogue import Catalogue, ServedShard, ServedVersion
from .evaluation_keys import EvaluationKeys
from .refusals import Refusal, bad_request

if TYPE_CHECKING:
    from ...pir.he.keys import EvaluationKey


async def answer_queries(
    requests: Requests, user: str, catalogue: Catalogue, keys: EvaluationKeys, admission: Admission
) -> Responses:
    """The answers. One request that cannot be answered refuses all, as Apple's service does.

    Raises `Refusal` with the statuses of specification §1.2, 503 among them, and `StoreUnavailable`.
    """
    asked = [_checked(request, catalogue) for request in requests.requests]
    stored = {version.key_identifier: version for version, query, _ in asked if not query.HasField("evaluation_key")}
    found = await asyncio.gather(*(keys.get(user, version) for version in stored.values()))
    held = dict(zip(stored, found, strict=True))
    jobs = []
    for version, query, shard in asked:
        if query.HasField("evaluation_key"):
            key = await keys.inline(query.evaluation_key, version)
        else:
            key = held[version.key_identifier]
        jobs.append(partial(_answer, shard, query.query, key))
    answers = await admission.run(jobs)
    return Responses(responses=[Response(pir_response=answer) for answer in answers])


def _checked(request: Request, catalogue: Catalogue) -> tuple[ServedVersion, PIRRequest, ServedShard]:
    """What is asked, of which version and shard. Raises `Refusal`."""
    if not request.HasField("pir_request"):
        raise bad_request("A request without pir_request; only keyword lookups are served")
    query = request.pir_request
    if query.HasField("shard_id") and query.shard_id:
        raise Refusal(501, "Shards by id are not supported")
    version = catalogue.asked(request.usecase, query.configuration_hash)
    if query.shard_index >= len(version.shards):
        raise bad_request(f"Shard {query.shard_index} does not exist; there are {len(version.shards)}")
    named = query.evaluation_key_metadata.identifier
    if named not in (b"", version.key_identifier):
        raise bad_request("The evaluation key that is named is for another configuration")
    return version, query, version.shards[query.shard_index]


def _answer(shard: ServedShard, query: EncryptedIndices, key: EvaluationKey, threads: int) -> PIRResponse:
    """In a thread of the admission."""
    try:
        return shard.answer(query, key, threads=threads)
    except PirError as error:
        raise bad_request("The query does not fit the database", cause=str(error)) from error
