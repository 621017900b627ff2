"""Interfaces, addresses, routes and policy rules of the current network namespace, over rtnetlink (rtnetlink(7)).

Only what a sandbox needs: a veth pair or a dummy for an interface of its own, its addresses, a default route, refusing
routes, and the local table that brings marked packets to the loopback interface.
"""

from __future__ import annotations

import socket
import struct

from .netlink import NLM_F_CREATE, NLM_F_EXCL, NetlinkSocket, attribute, nested

RTM_NEWLINK, RTM_SETLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWRULE = 16, 19, 20, 24, 32
IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO = 3, 4, 18
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_NODAD = 0x02
RTA_DST, RTA_OIF, RTA_PREFSRC, RTA_TABLE = 1, 4, 7, 15
FRA_PRIORITY, FRA_FWMARK, FRA_TABLE, FRA_FWMASK = 6, 10, 15, 16
IFF_UP, IFF_NOARP = 0x1, 0x80
RTN_UNICAST, RTN_LOCAL, RTN_THROW = 1, 2, 9
RT_TABLE_MAIN, RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE = 254, 254, 253, 0
ROUTE_PROTOCOL = (
    0x4E  # ours ('N'), so that `ip route` shows who made a route; unassigned in rtnetlink.h up to Linux 6.18
)

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_U32 = struct.Struct("=I")


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _prefix(text: str) -> tuple[int, bytes, int]:
    """Family, address bytes and length of `a.b.c.d/n`."""
    address, _, length = text.partition("/")
    family = _family(address)
    packed = socket.inet_pton(family, address)
    return family, packed, int(length) if length else len(packed) * 8


class Interfaces:
    """Changes to the interfaces and routes of the namespace in which it was made. Raises DatapathError."""

    def __init__(self) -> None:
        self._netlink = NetlinkSocket(socket.NETLINK_ROUTE)

    def add_veth(self, name: str, peer: str, mtu: int) -> None:
        """Make the pair `name`, `peer`, without address resolution, `mtu` in bytes."""
        ends = [
            _IFINFO.pack(0, 0, 0, IFF_NOARP, IFF_NOARP) + attribute(IFLA_IFNAME, end.encode() + b"\0")
            for end in (name, peer)
        ]
        size = attribute(IFLA_MTU, _U32.pack(mtu))
        info = nested(
            IFLA_LINKINFO,
            attribute(IFLA_INFO_KIND, b"veth\0"),
            nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, ends[1] + size)),
        )
        self._netlink.request(f"interface {name}", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ends[0] + size + info)

    def add_dummy(self, name: str, mtu: int) -> None:
        """Make a dummy interface: the second choice where the kernel has no veth."""
        body = _IFINFO.pack(0, 0, 0, IFF_NOARP, IFF_NOARP) + attribute(IFLA_IFNAME, name.encode() + b"\0")
        body += attribute(IFLA_MTU, _U32.pack(mtu)) + nested(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, b"dummy\0"))
        self._netlink.request(f"interface {name}", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)

    def bring_up(self, name: str) -> int:
        """Set the interface up; its index."""
        index = socket.if_nametoindex(name)
        self._netlink.request(f"interface {name}", RTM_SETLINK, 0, _IFINFO.pack(0, 0, index, IFF_UP, IFF_UP))
        return index

    def add_address(self, index: int, prefix: str) -> None:
        """Give the interface an address, e.g. `192.0.0.2/32`, usable at once (no duplicate address detection)."""
        family, packed, length = _prefix(prefix)
        body = _IFADDR.pack(family, length, 0, RT_SCOPE_UNIVERSE, index)
        body += (
            attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed) + attribute(IFA_FLAGS, _U32.pack(IFA_F_NODAD))
        )
        self._netlink.request(f"address {prefix}", RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body)

    def add_route(
        self,
        prefix: str,
        *,
        index: int = 0,
        kind: int = RTN_UNICAST,
        table: int = RT_TABLE_MAIN,
        source: str | None = None,
    ) -> None:
        """Add a route for `prefix`: through interface `index`, or of a `kind` that needs none (RTN_THROW)."""
        family, packed, length = _prefix(prefix)
        scope = {RTN_LOCAL: RT_SCOPE_HOST, RTN_UNICAST: RT_SCOPE_LINK}.get(kind, RT_SCOPE_UNIVERSE)
        body = _RTMSG.pack(family, length, 0, 0, 0, ROUTE_PROTOCOL, scope, kind, 0)
        body += attribute(RTA_TABLE, _U32.pack(table))
        if length:
            body += attribute(RTA_DST, packed)
        if index:
            body += attribute(RTA_OIF, _U32.pack(index))
        if source:
            body += attribute(RTA_PREFSRC, socket.inet_pton(family, source))
        self._netlink.request(f"route {prefix}", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body)

    def add_mark_rule(self, family: int, mark: int, mask: int, table: int, priority: int) -> None:
        """Look packets marked `mark`/`mask` up in `table`."""
        body = _RTMSG.pack(family, 0, 0, 0, 0, ROUTE_PROTOCOL, 0, RTN_UNICAST, 0)
        body += attribute(FRA_FWMARK, _U32.pack(mark)) + attribute(FRA_FWMASK, _U32.pack(mask))
        body += attribute(FRA_TABLE, _U32.pack(table)) + attribute(FRA_PRIORITY, _U32.pack(priority))
        self._netlink.request(f"rule fwmark {mark:#x}", RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, body)

    def close(self) -> None:
        """Close the netlink socket."""
        self._netlink.close()

    def __enter__(self) -> Interfaces:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
