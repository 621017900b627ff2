"""What the rules look at: one flow, made plain and quick to compare."""

from __future__ import annotations

import socket
from typing import NamedTuple

from ...filter_flow import FilterFlow
from ...metadata import ProcessInfo
from ...rules import Direction

OWN_SOURCES = frozenset(("tls", "tls-ech-outer", "quic", "http"))
"""Sources of a name that are the flow's own bytes, rather than what somebody asked DNS for."""
_MAPPED = 0xFFFF << 32  # ::ffff:0:0/96, RFC 4291 §2.5.5.2


class FlowFacts(NamedTuple):
    """One flow. What is not known is empty, None, or -1."""

    program: str = ""
    """Full path of the executable."""
    process: ProcessInfo | None = None
    uid: int = -1
    host: str | None = None
    """Name of the far side, lower case, no final dot."""
    version: int = 0
    """4, 6, or 0 when the far side's address is not known."""
    address: int = -1
    port: int = -1
    """Of the service: the far side's for an outbound flow, ours for an inbound one; -1 where there are no ports."""
    protocol: int = socket.IPPROTO_TCP
    is_outbound: bool = True
    interface: str = ""
    may_look: bool = False
    """Whether the first bytes have not been looked at yet, so that a name may still come."""
    has_own_name: bool = False
    """Whether the name comes from the flow's own bytes."""

    @property
    def name(self) -> str:
        """The last part of the executable's path."""
        return self.program.rpartition("/")[2]

    @property
    def arguments(self) -> str:
        """The command line, joined by spaces."""
        return " ".join(self.process.arguments) if self.process else ""

    @property
    def address_text(self) -> str:
        """The far side's address; "" when it is not known."""
        if self.version == 4:
            return socket.inet_ntop(socket.AF_INET, self.address.to_bytes(4, "big"))
        return socket.inet_ntop(socket.AF_INET6, self.address.to_bytes(16, "big")) if self.version else ""

    @property
    def target(self) -> str:
        """The far side as a person would call it: its name, or else its address."""
        return self.host or self.address_text or "?"

    @property
    def protocol_name(self) -> str:
        """ "tcp", "udp", "icmp", or the number."""
        return _PROTOCOL_NAMES.get(self.protocol, str(self.protocol))

    def __str__(self) -> str:
        target = f"[{self.target}]" if ":" in self.target else self.target
        port = f":{self.port}" if self.port >= 0 else ""
        return f"{self.name or '?'} {'→' if self.is_outbound else '←'} {target}{port} {self.protocol_name}"


_PROTOCOL_NAMES = {
    socket.IPPROTO_TCP: "tcp",
    socket.IPPROTO_UDP: "udp",
    socket.IPPROTO_ICMP: "icmp",
    socket.IPPROTO_ICMPV6: "icmp",
}
WITH_PORTS = frozenset((socket.IPPROTO_TCP, socket.IPPROTO_UDP, 33, 132, 136))
"""TCP, UDP, DCCP, SCTP, UDP-Lite."""


def facts_of(flow: FilterFlow, *, may_look: bool = True) -> FlowFacts:
    """The facts of a flow. `may_look` is False once its first bytes have been seen, or cannot be."""
    process, protocol = flow.metadata.process, flow.socket_protocol
    is_outbound = flow.direction is not Direction.INBOUND
    there, service = flow.remote_endpoint, flow.remote_endpoint if is_outbound else flow.local_endpoint
    version, address = numeric(there.host) if there is not None else (0, -1)
    host = flow.remote_hostname
    if host is None and there is not None and not version:
        host = there.host
    return FlowFacts(
        process.executable if process else "",
        process,
        process.uid if process else -1,
        host.lower().rstrip(".") or None if host else None,
        version,
        address,
        service.port if service is not None and protocol in WITH_PORTS else -1,
        protocol,
        is_outbound,
        flow.interface or "",
        may_look and is_outbound and protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP),
        host is not None and flow.metadata.name_source in OWN_SOURCES,
    )


def numeric(text: str) -> tuple[int, int]:
    """IP version and number of an address; (0, -1) for anything else. A mapped IPv4 address is an IPv4 one."""
    if ":" not in text:
        try:
            return 4, int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big")
        except (OSError, ValueError):
            return 0, -1
    try:
        number = int.from_bytes(socket.inet_pton(socket.AF_INET6, text.partition("%")[0]), "big")
    except (OSError, ValueError):
        return 0, -1
    return (4, number & 0xFFFFFFFF) if number >> 32 << 32 == _MAPPED else (6, number)
