"""The messages between the processes of `netext run`, as bytes. Sans-IO; `runtime/channel` carries them.

One message is one packet of an AF_UNIX SOCK_SEQPACKET socket, at most 64 KiB: a header of nine bytes (type
u8, flow id u64, little-endian, the id 0 when no flow is meant), then nothing or a compact JSON object in
UTF-8. Descriptors ride along by SCM_RIGHTS. What comes from another process is not to be trusted: decoding
raises WireError and nothing else, and the `*_field` functions check one field of a body each.

Flow channel, engine (E) and provider process (P); control channel, main process (M) and P:

    no.  type           from  body, descriptors
    ---  -------------  ----  ---------------------------------------------------------------------------
    1    HELLO          P     {"name", "kind", "settings": null | {"included", "excluded"}}, or with
                              "settings_size" and 1 fd: see `runtime/hello`, of filters `runtime/filter_hello`
    2    NEW_FLOW       E     {"proto", "local": [ip, port], "remote": [ip, port], "host", "name_source",
                              "process", "interface", "deadline": seconds}
    3    CLAIM          P     the provider keeps the flow: it returned True, or called connect()
    4    DECLINE        P     handle_new_flow returned False
    5    FAIL           P     {"error": one line}: it raised, or returned a wrong type, before it claimed
    6    OPEN           P     {"local": null | [ip, port]}; answer: OPENED, or CLOSED with an error
    7    OPENED         E     the program's connect() has completed
    8    ATTACH         P     asks for the program's side as a socket
    9    ATTACHED       E     TCP: 1 fd, a stream socket; UDP: none, the sockets come as PEER
    10   PEER           E     {"remote": [ip, port]}, 1 fd: datagrams between the program and this remote
    11   PEER_REQUEST   P     {"remote": [ip, port]}; answer: PEER, or ERROR with the same "remote"
    12   RELAY          P     1 fd, the remote socket; the engine opens the flow if need be; answer: CLOSED
    13   CLOSE          P     {"error": FlowErrorCode or 0, "direction": "both" | "read" | "write", "reason"?}
    14   CLOSED         E     {"error", "errno", "in", "out", "reason"}; the last message about the id
    15   UDP_EOF        E     the program closed its UDP socket
    16   ERROR          E     {"error", "reason", "for": type}: a request was not met, the flow lives on
    17   SHUT           P     half-close of the program's side, by the engine
    32   START          M     {"config", "options", "name"}; answer: READY or START_FAILED
    33   READY          P     {"name", "kind", "class"}
    34   START_FAILED   P     {"error": one line, "code": exit code}
    35   FLOWS          M     1 fd: a new flow channel, in place of the old one
    36   STOP           M     {"reason": StopReason, "grace": seconds}; answer: STOPPED
    37   STOPPED        P     {"cancelled": number of tasks cut off}
    38   SLEEP          M     answer: SLEPT
    39   SLEPT          P
    40   WAKE           M
    41   PATH           M     {"status", "interfaces", "ipv4", "ipv6", "dns", "expensive", "constrained"}
    42   CANCELLED      P     {"error": null | one line}: cancel_proxy_with_error was called
    43   LOG            P     {"level", "text"}
    44   CONFIG         M     {"config"}
    45   PING           M     answer: PONG, from the event loop
    46   PONG           P
    80   FILTER_EVENTS  E     binary, as the next two: see `runtime/filter_wire`
    81   FILTER_PART    E
    82   FILTER_ANSWERS P
    83   SETTINGS_HELD  E     {"serial"}: the filter settings of that HELLO are in force
"""

from __future__ import annotations

from enum import IntEnum
from json import JSONDecoder, JSONEncoder
from struct import Struct
from struct import error as struct_error
from typing import Any, NoReturn

from ..errors import PeerError

MAX_MESSAGE = 65536
MAX_FDS = 16  # descriptors in one message: an engine's kit has eleven
HEADER = Struct("<BQ")


class WireError(PeerError):
    """A message that is not one of ours; the text says what is wrong with it."""


class MessageType(IntEnum):
    """The first byte of a message; the table above says what each one is for."""

    HELLO = 1
    NEW_FLOW = 2
    CLAIM = 3
    DECLINE = 4
    FAIL = 5
    OPEN = 6
    OPENED = 7
    ATTACH = 8
    ATTACHED = 9
    PEER = 10
    PEER_REQUEST = 11
    RELAY = 12
    CLOSE = 13
    CLOSED = 14
    UDP_EOF = 15
    ERROR = 16
    SHUT = 17
    START = 32
    READY = 33
    START_FAILED = 34
    FLOWS = 35
    STOP = 36
    STOPPED = 37
    SLEEP = 38
    SLEPT = 39
    WAKE = 40
    PATH = 41
    CANCELLED = 42
    LOG = 43
    CONFIG = 44
    PING = 45
    PONG = 46
    KIT = 64
    ATTACH_PROVIDER = 65
    PROVIDER_STATE = 66
    FINISH = 67
    FINISHED = 68
    ENGINE_READY = 69
    FILTER_EVENTS = 80
    FILTER_PART = 81
    FILTER_ANSWERS = 82
    SETTINGS_HELD = 83


# A dict look-up takes a tenth of the time of MessageType(number).
_TYPES = {int(kind): kind for kind in MessageType}
_NO_BODY: dict[str, Any] = {}


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_encode_json = JSONEncoder(separators=(",", ":"), check_circular=False, allow_nan=False).encode
_decode_json = JSONDecoder(parse_constant=_not_json).decode


def encode(kind: MessageType, flow: int = 0, body: dict[str, Any] | None = None) -> bytes:
    """One message. Raises WireError if the body is no JSON or too large, or the id does not fit 64 bits."""
    try:
        data = HEADER.pack(kind, flow)
        if body:
            data += _encode_json(body).encode("ascii")
    except (ValueError, TypeError, RecursionError, struct_error) as error:
        raise WireError(f"{kind.name} cannot be encoded: {error}") from None
    if len(data) > MAX_MESSAGE:
        raise WireError(f"{kind.name} has {len(data)} bytes, more than {MAX_MESSAGE}")
    return data


def decode(data: bytes | bytearray | memoryview) -> tuple[MessageType, int, dict[str, Any]]:
    """Type, flow id and body of one message; the body is {} where there is none. Raises only WireError."""
    size = len(data)
    if size < HEADER.size or size > MAX_MESSAGE:
        raise WireError(f"a message of {size} bytes; {HEADER.size} to {MAX_MESSAGE} are allowed")
    number, flow = HEADER.unpack_from(data)
    kind = _TYPES.get(number)
    if kind is None:
        raise WireError(f"message type {number} is not known")
    if size == HEADER.size:
        return kind, flow, _NO_BODY.copy()
    try:
        body = _decode_json(str(data[HEADER.size :], "utf-8"))
    except (ValueError, RecursionError) as error:
        raise WireError(f"{kind.name}: the body is not JSON: {error}") from None
    if type(body) is not dict:
        raise WireError(f"{kind.name}: the body is a {type(body).__name__}, not an object")
    return kind, flow, body


def text_field(body: dict[str, Any], key: str, default: str | None = None) -> str:
    """A text, or WireError; `default` stands for an absent one."""
    value = body.get(key, default)
    if not isinstance(value, str):
        raise WireError(f"{key}: a text is needed, not {type(value).__name__}")
    return value


def optional_text_field(body: dict[str, Any], key: str) -> str | None:
    """A text, or None for null or an absent one, or WireError."""
    return None if body.get(key) is None else text_field(body, key)


def int_field(body: dict[str, Any], key: str, default: int | None = None, low: int = 0, high: int = 2**64 - 1) -> int:
    """A whole number from `low` to `high`, or WireError; `default` stands for an absent one."""
    value = body.get(key, default)
    if type(value) is not int or not low <= value <= high:
        raise WireError(f"{key}: a number from {low} to {high} is needed, not {_shown(value)}")
    return value


def seconds_field(body: dict[str, Any], key: str, default: float | None = None) -> float:
    """A time in seconds, at least 0 and at most a year, or WireError."""
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 31_536_000:
        raise WireError(f"{key}: seconds are needed, not {_shown(value)}")
    return float(value)


def object_field(body: dict[str, Any], key: str) -> dict[str, Any]:
    """An object, {} for null or an absent one, or WireError."""
    value = body.get(key)
    if value is None:
        return {}
    if type(value) is not dict:
        raise WireError(f"{key}: an object is needed, not {type(value).__name__}")
    return value


def endpoint_field(body: dict[str, Any], key: str) -> tuple[str, int]:
    """[address, port], or WireError. The address is checked where it is used; here only its length is."""
    value = body.get(key)
    if type(value) is not list or len(value) != 2:
        raise WireError(f"{key}: [address, port] is needed, not {_shown(value)}")
    host, port = value
    if type(host) is not str or not 0 < len(host) <= 255:
        raise WireError(f"{key}[0]: an address is needed, not {_shown(host)}")
    if type(port) is not int or not 0 <= port <= 65535:
        raise WireError(f"{key}[1]: a port is needed, not {_shown(port)}")
    return host, port


def optional_endpoint_field(body: dict[str, Any], key: str) -> tuple[str, int] | None:
    """[address, port], or None for null or an absent one, or WireError."""
    return None if body.get(key) is None else endpoint_field(body, key)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
