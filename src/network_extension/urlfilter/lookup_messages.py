"""The bodies of a client's requests, and what the answers hold (specification §1.2, §1.3). Sans-IO.

What comes from the service is outside data: a size is bounded where it is received, and whatever cannot be read here
raises UnreadableAnswer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

from ..errors import PeerError
from ..pir.proto import api_pb2, he_pb2, pir_pb2

SHA256_SIZE = 32
USER_AGENT = "network-extension (Linux; speaks as iOS/26.4)"
"""Services read the system's version from it, to know which configurations a client understands."""

AnyMessage = TypeVar("AnyMessage", bound=Message)


class UnreadableAnswer(PeerError):
    """A service's answer that is not what was asked for."""


class ConfigurationAnswer(NamedTuple):
    """What the service said about its database."""

    identifier: bytes
    content: api_pb2.PIRConfig | None
    """None: the one that the client has is still good."""
    key_hash: bytes
    """Which evaluation keys fit; empty where `content` is None."""
    has_key: bool | None
    """Whether the service has the client's evaluation key; None where it does not say."""


class Question(NamedTuple):
    """One query of a request."""

    shard_index: int
    query: pir_pb2.EncryptedIndices


def configuration_request(use_case: str, existing: bytes | None) -> bytes:
    """Ask for the configuration; `existing` is the identifier of the one that the client has."""
    message = api_pb2.ConfigRequest(usecases=[use_case], existing_config_ids=[existing] if existing else [])
    return message.SerializeToString()


def read_configuration(data: bytes, use_case: str, existing: bytes | None) -> ConfigurationAnswer:
    """Read ConfigResponse. Raises UnreadableAnswer."""
    message = _parse(api_pb2.ConfigResponse, data, "configuration")
    if use_case not in message.configs:
        names = ", ".join(sorted(message.configs))[:200]
        raise UnreadableAnswer(f"the configuration is not of {use_case} but of {names or 'nothing'}")
    found = message.configs[use_case]
    if found.reuse_existing_config:
        if existing is None:
            raise UnreadableAnswer("the configuration refers to an existing one, and there is none")
        return ConfigurationAnswer(existing, None, b"", _has_key(message))
    if found.WhichOneof("config") != "pir_config" or len(found.config_id) != SHA256_SIZE:
        raise UnreadableAnswer("the configuration has no PIR configuration, or no identifier of 32 bytes")
    content = found.pir_config
    if len(content.evaluation_key_config_hash) != SHA256_SIZE:
        raise UnreadableAnswer("the configuration does not say which evaluation keys fit")
    return ConfigurationAnswer(found.config_id, content, content.evaluation_key_config_hash, _has_key(message))


def _has_key(message: api_pb2.ConfigResponse) -> bool | None:
    """A timestamp of 0 means that there is none. One use case is asked for, so all that is said is about it."""
    return all(status.timestamp for status in message.key_info) if message.key_info else None


def key_upload(identifier: bytes, key: he_pb2.SerializedEvaluationKey) -> bytes:
    """The body of /key. The service dates keys itself, so no time of this machine is told."""
    metadata = api_pb2.EvaluationKeyMetadata(identifier=identifier)
    upload = api_pb2.EvaluationKey(metadata=metadata, evaluation_key=key)
    return api_pb2.EvaluationKeys(keys=[upload]).SerializeToString()


def query_request(use_case: str, questions: Sequence[Question], key: bytes, configuration: bytes) -> bytes:
    """The body of /queries; `key` and `configuration` are the identifiers of what they rest on."""
    requests = [
        api_pb2.Request(
            usecase=use_case,
            pir_request=api_pb2.PIRRequest(
                shard_index=question.shard_index,
                query=question.query,
                evaluation_key_metadata=api_pb2.EvaluationKeyMetadata(identifier=key),
                configuration_hash=configuration,
            ),
        )
        for question in questions
    ]
    return api_pb2.Requests(requests=requests).SerializeToString()


def read_responses(data: bytes, count: int) -> list[pir_pb2.PIRResponse]:
    """Read Responses: as many as were asked for, in the same order. Raises UnreadableAnswer."""
    message = _parse(api_pb2.Responses, data, "responses")
    if len(message.responses) != count:
        raise UnreadableAnswer(f"{len(message.responses)} responses to {count} queries")
    if any(response.WhichOneof("response") != "pir_response" for response in message.responses):
        raise UnreadableAnswer("a response that is none to a PIR query")
    return [response.pir_response for response in message.responses]


def _parse(kind: type[AnyMessage], data: bytes, what: str) -> AnyMessage:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise UnreadableAnswer(f"the {what} cannot be read ({len(data)} bytes, beginning {data[:16]!r})") from None
