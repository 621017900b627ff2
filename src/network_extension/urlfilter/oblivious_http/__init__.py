"""Oblivious HTTP (RFC 9458): gateway, relay and client, with Binary HTTP (RFC 9292) and HPKE (RFC 9180).

A relay knows who asks and not what; the gateway knows what is asked and not by whom.
"""

from __future__ import annotations

from .binary_http import BinaryRequest, BinaryResponse, decode_request, decode_response, encode_request, encode_response
from .client import ObliviousClient
from .encapsulation import open_request, seal_request
from .errors import DecryptionFailed, MalformedMessage, ObliviousError, UnknownKey
from .key_configurations import GatewayKeys, KeyConfiguration, decode_list, encode_list

__all__ = [
    "BinaryRequest",
    "BinaryResponse",
    "DecryptionFailed",
    "GatewayKeys",
    "KeyConfiguration",
    "MalformedMessage",
    "ObliviousClient",
    "ObliviousError",
    "UnknownKey",
    "decode_list",
    "decode_request",
    "decode_response",
    "encode_list",
    "encode_request",
    "encode_response",
    "open_request",
    "seal_request",
]
