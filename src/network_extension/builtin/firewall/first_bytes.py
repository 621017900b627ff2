"""The name in a flow's first bytes: TLS, QUIC, or HTTP.

The runtime looks for names itself before it asks, and mostly this finds the name there already. It keeps count of its
own because only that tells whether to wait: a hello may come in pieces, and be held until it is complete. For
`PATIENCE` at most: what is half a hello for longer is decided without a name, so that nobody gets past the rules by
never finishing one.
"""

from __future__ import annotations

import socket
from asyncio import TimerHandle

from ...filter_flow import FilterFlow

MOST_LOOKED_AT = 65536
MOST_DATAGRAMS = 8
PATIENCE = 3.0  # seconds


class FirstBytes:
    """What has been seen of one flow so far."""

    __slots__ = ("_is_stream", "_pieces", "_seen", "_sniffer", "name", "timer")

    def __init__(self, flow: FilterFlow) -> None:
        from ...core.name_sniffing import NameSniffer  # what reads QUIC is not imported before somebody needs it

        port = flow.remote_endpoint.port if flow.remote_endpoint else 0
        self._sniffer = NameSniffer(flow.socket_protocol, port)
        self._is_stream = flow.socket_protocol == socket.IPPROTO_TCP
        self._seen = self._pieces = 0
        self.name: str | None = None
        self.timer: TimerHandle | None = None

    def look(self, data: bytes) -> bool:
        """Look at all bytes that are held; whether it takes more to tell the name."""
        new, self._seen = data[self._seen :], len(data)
        self._pieces += 1
        if new and not self._sniffer.done:
            found = self._sniffer.feed(new)
            if found is not None and found.host:
                self.name = found.host.lower().rstrip(".")
                return False
        if self._sniffer.done or len(data) >= MOST_LOOKED_AT:
            return False
        return self._is_stream or self._pieces < MOST_DATAGRAMS
