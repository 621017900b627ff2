"""A flow as a content filter sees it (NEFilterFlow, NEFilterSocketFlow, reference §2.16), and reports about it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple

from .endpoint import Endpoint
from .filter_verdicts import FilterAction, FilterReportEvent
from .metadata import FlowMetadata
from .rules import Direction

if TYPE_CHECKING:
    import uuid


class FilterFlow:
    """One flow. The same object comes with every callback about the flow; compare it by identity.

    Endpoints and names may be filled in later: the host name when the bytes tell it (SNI, QUIC, HTTP), the remote
    endpoint of an unconnected UDP socket when a datagram does.
    """

    __slots__ = (
        "_identifier",
        "direction",
        "interface",
        "local_endpoint",
        "metadata",
        "remote_endpoint",
        "remote_hostname",
        "socket_family",
        "socket_protocol",
        "socket_type",
        "url",
        "__weakref__",
    )

    def __init__(
        self,
        *,
        remote_endpoint: Endpoint | None = None,
        local_endpoint: Endpoint | None = None,
        direction: Direction = Direction.OUTBOUND,
        socket_family: int = socket.AF_INET,
        socket_type: int = socket.SOCK_STREAM,
        socket_protocol: int = socket.IPPROTO_TCP,
        remote_hostname: str | None = None,
        url: str | None = None,
        interface: str | None = None,
        metadata: FlowMetadata | None = None,
        identifier: uuid.UUID | None = None,
    ) -> None:
        self.remote_endpoint, self.local_endpoint = remote_endpoint, local_endpoint
        self.direction = direction
        """Who began it: OUTBOUND for a program of this machine."""
        self.socket_family, self.socket_type, self.socket_protocol = socket_family, socket_type, socket_protocol
        self.remote_hostname = remote_hostname
        """The name of the far side as far as it is known, lower case; `host_name_source` says how."""
        self.url = url
        """Of a plain HTTP request, once its head has been seen."""
        self.interface = interface
        """The network interface that it uses, where that is known."""
        self.metadata = metadata or FlowMetadata()
        self._identifier = identifier

    @property
    def identifier(self) -> uuid.UUID:
        """What names the flow; made when it is asked for first, which few filters do."""
        if self._identifier is None:
            import uuid  # takes milliseconds

            self._identifier = uuid.uuid4()
        return self._identifier

    @property
    def host_name_source(self) -> str | None:
        """ "dns", "hosts", "tls", "tls-ech-outer", "quic", "http", or None while there is no name."""
        return self.metadata.name_source

    @property
    def source_app_identifier(self) -> str:
        """The program's identifier, stable across its versions; on Linux the name of its executable."""
        return self.metadata.source_app_signing_identifier

    @property
    def source_app_unique_identifier(self) -> bytes:
        """SHA-256 of the program's file (see FlowMetadata)."""
        return self.metadata.source_app_unique_identifier

    @property
    def source_app_audit_token(self) -> tuple[int, int, int] | None:
        """(pid, start time, uid) of the program."""
        return self.metadata.source_app_audit_token

    source_process_audit_token = source_app_audit_token

    def __repr__(self) -> str:
        protocol = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}.get(self.socket_protocol, "raw")
        arrow = "←" if self.direction is Direction.INBOUND else "→"
        there = self.remote_endpoint
        name = self.remote_hostname or (there.host if there else "?")
        return (
            f"<FilterFlow {self.source_app_identifier or '?'} {arrow} {name}:{there.port if there else 0} {protocol}>"
        )


class FilterSocketFlow(FilterFlow):
    """A flow of a socket: every flow here is one."""

    __slots__ = ()


class FilterReport(NamedTuple):
    """What became of a flow (NEFilterReport)."""

    flow: FilterFlow
    action: FilterAction
    event: FilterReportEvent
    bytes_inbound_count: int = 0
    """Not 0 for the events FLOW_CLOSED and STATISTICS only."""
    bytes_outbound_count: int = 0
