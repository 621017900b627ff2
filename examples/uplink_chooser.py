r"""An app proxy that chooses the uplink of each flow: traffic to the networks around goes as ever, all else by another.

    netext run --provider examples/uplink_chooser.py --config uplink=wwan0 \
        -- ffmpeg -i video.mp4 -f mpegts udp://192.0.2.1:5000

The program is not changed and need not know: TCP and UDP alike leave by the interface that `uplink` names, except to
networks that this machine is connected to without a router. A program that has bound its socket to an interface keeps
it. The interface needs a default route of its own, with any metric:

    ip route add default via 198.51.100.1 dev wwan0 metric 500
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from network_extension import AppProxyFlow, AppProxyProvider, ConfigurationError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class UplinkChooser(AppProxyProvider):
    """Sends what is not local by the interface `uplink`."""

    async def start_proxy(self, options: Mapping[str, Any] | None) -> None:
        """Check the configuration."""
        self.uplink = str(self.configuration.get("uplink", ""))
        names = [name for _, name in socket.if_nameindex()]
        if self.uplink not in names:
            raise ConfigurationError(f"uplink: {self.uplink!r} is no interface; this machine has {', '.join(names)}")

    async def handle_new_flow(self, flow: AppProxyFlow) -> bool:
        """Choose, connect, and leave the rest to the kernel. A UDP flow is chosen by its first destination."""
        interface = None if flow.is_bound or is_local(flow) else self.uplink
        remote = await flow.connect(interface=interface)
        self.log(f"{flow.protocol} to {flow.remote_endpoint}: by {interface or 'the usual way'}")
        await flow.relay(remote)
        return True


def is_local(flow: AppProxyFlow) -> bool:
    """Whether the destination is in a network that this machine has an interface in."""
    address = flow.remote_endpoint.address
    return address is not None and any(address in network for network in connected_networks())


def connected_networks() -> Iterator[Network]:
    """Networks that are reached without a router, as they are now (proc_net(5); numbers there are hexadecimal)."""
    for _, target, gateway, _, _, _, _, mask, *_ in rows("/proc/net/route")[1:]:
        if int(mask, 16) and not int(gateway, 16):
            yield ipaddress.IPv4Network((bytes.fromhex(target)[::-1], int(mask, 16).bit_count()))
    for target, length, _, _, gateway, _, _, _, _, device in rows("/proc/net/ipv6_route"):
        if int(length, 16) and not int(gateway, 16) and device != "lo":
            yield ipaddress.IPv6Network((bytes.fromhex(target), int(length, 16)))


def rows(table: str) -> list[list[str]]:
    """The words of each line of a table in /proc."""
    return [line.split() for line in Path(table).read_text().splitlines()]
