"""Sends packets that we made to programs in the sandbox: resets, ICMP errors, echo replies."""

from __future__ import annotations

import socket

from ..core.packets import address_text


class PacketInjector:
    """Two raw sockets inside the sandbox's namespace. What cannot be sent is dropped, as a network would."""

    def __init__(self, raw4: socket.socket, raw6: socket.socket) -> None:
        self._sockets = {4: raw4, 16: raw6}
        self.failures = 0

    def send(self, packet: bytes, destination: bytes) -> None:
        """Send one whole IP packet to an address of the sandbox (4 or 16 bytes)."""
        try:
            self._sockets[len(destination)].sendto(packet, (address_text(destination), 0))
        except OSError:
            self.failures += 1
