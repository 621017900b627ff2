"""A flow as a person writes it: `curl → example.com:443`, for explanations and tests.

    [PROGRAM] (→ | -> | to) HOST[:PORT][/tcp | /udp | /icmp]      a program of this machine begins it
    [PROGRAM] (← | <- | from) HOST[:PORT][/…]                     it comes in

PROGRAM is a name or a path; HOST a name, an address, or [an IPv6 address]. Without a port it is 443, without a protocol
TCP. What the text does not say (the user, the parents, the interface) the caller fills in.
"""

from __future__ import annotations

from ..endpoint import Endpoint
from ..errors import ConfigurationError
from ..filter_flow import FilterFlow, FilterSocketFlow
from ..metadata import FlowMetadata, ProcessInfo
from ..rules import Direction, Protocol
from .rule_matching import FlowFacts, is_loopback

PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}
DEFAULT_PORT = 443
UNKNOWN_ADDRESS = bytes((192, 0, 2, 1))
"""What a name is taken to lead to, where nobody has asked (RFC 5737)."""
_RULE_PROTOCOLS = {6: Protocol.TCP, 17: Protocol.UDP}
_SOCKET_TYPES = {6: 1, 17: 2}  # SOCK_STREAM, SOCK_DGRAM; anything else is SOCK_RAW, 3
_ARROWS = {
    "→": Direction.OUTBOUND,
    "->": Direction.OUTBOUND,
    "to": Direction.OUTBOUND,
    "←": Direction.INBOUND,
    "<-": Direction.INBOUND,
    "from": Direction.INBOUND,
}
_EXAMPLE = "write it as: curl → example.com:443"


def parse_flow(text: str, *, process: ProcessInfo | None = None) -> FilterSocketFlow:
    """The flow that `text` describes; `process` stands for the program that it names.

    A host that is a name becomes `remote_hostname` with the source "dns", and the remote endpoint is unknown (None)
    unless the text gives an address. Raises ConfigurationError.
    """
    program, direction, target = _parts(text)
    target, protocol = _protocol(target, text)
    try:
        there = Endpoint.parse(target, None if protocol in _SOCKET_TYPES and _has_port(target) else DEFAULT_PORT)
    except ConfigurationError as error:
        raise ConfigurationError(f"flow {text!r}: {error}") from None
    port = there.port if protocol in _SOCKET_TYPES else 0
    name = there.hostname
    if process is None and program:
        process = ProcessInfo(0, executable=program, arguments=(program,))
    return FilterSocketFlow(
        remote_endpoint=Endpoint(there.host, port),
        remote_hostname=name.lower().rstrip(".") if name else None,
        direction=direction,
        socket_family=10 if ":" in there.host else 2,
        socket_type=_SOCKET_TYPES.get(protocol, 3),
        socket_protocol=protocol,
        metadata=FlowMetadata(process, "dns" if name else None),
    )


def facts_of(flow: FilterFlow) -> FlowFacts:
    """What rules can know of a flow. One whose address is not known is taken to go far away, not to loopback."""
    there = flow.remote_endpoint
    address = there.address if there else None
    packed = address.packed if address else UNKNOWN_ADDRESS
    return FlowFacts(
        _RULE_PROTOCOLS.get(flow.socket_protocol, Protocol.ANY),
        packed,
        there.port if there else 0,
        flow.remote_hostname,
        is_loopback(packed),
        flow.direction,
    )


def _parts(text: str) -> tuple[str, Direction, str]:
    """Program, direction and target, around the first arrow that stands alone."""
    words = text.split()
    for index, word in enumerate(words):
        if word in _ARROWS:
            if len(words) != index + 2:
                raise ConfigurationError(f"flow {text!r}: one target is needed after {word}; {_EXAMPLE}")
            return " ".join(words[:index]), _ARROWS[word], words[-1]
    if len(words) == 1:
        return "", Direction.OUTBOUND, words[0]
    raise ConfigurationError(f"flow {text!r}: no arrow in it; {_EXAMPLE}")


def _protocol(target: str, text: str) -> tuple[str, int]:
    target, slash, name = target.partition("/")
    if not slash:
        return target, PROTOCOLS["tcp"]
    if (number := PROTOCOLS.get(name.lower())) is None:
        raise ConfigurationError(f"flow {text!r}: protocol {name!r} is none of {', '.join(PROTOCOLS)}")
    return target, number


def _has_port(target: str) -> bool:
    host, colon, port = target.rpartition(":")
    return bool(colon) and (host.endswith("]") or ":" not in host) and bool(port)
