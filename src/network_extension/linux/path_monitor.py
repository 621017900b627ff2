"""The host's network path, when it changes (rtnetlink multicast groups, rtnetlink(7)), and the gaps that sleep leaves.

`read_path` looks at /proc only: cheap, and right at the moment of asking. `PathMonitor` says when to look again.
`SleepDetector` compares two clocks: CLOCK_BOOTTIME runs on while the machine is suspended, CLOCK_MONOTONIC does not;
and a timer that fires far too late tells of a frozen process (a stopped container, a paused virtual machine).
"""

from __future__ import annotations

import errno
import socket

from ..path import Path, PathStatus

RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE = (
    0x1,
    0x10,
    0x40,
    0x100,
    0x400,
)
GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE
_UP, _REJECT = 0x1, 0x200  # RTF_UP, RTF_REJECT (linux/route.h)


def read_path(name_servers: tuple[str, ...] = ()) -> Path:
    """The path now: satisfied when an interface that is up carries a route to the outside."""
    four, six = _default_interfaces4(), _default_interfaces6()
    routed = tuple(dict.fromkeys([*four, *six]))
    others = [] if routed else _interfaces_with_addresses()
    interfaces = routed or tuple(others)
    status = PathStatus.SATISFIED if interfaces else PathStatus.UNSATISFIED
    return Path(status, interfaces, bool(four) or bool(others), bool(six), name_servers)


def _default_interfaces4() -> list[str]:
    """Interfaces of IPv4 default routes, best metric first, by /proc/net/route."""
    found = []
    for row in _rows("/proc/net/route")[1:]:
        default = len(row) > 7 and row[1] == "00000000" and row[7] == "00000000"
        # An `unreachable` or `blackhole` default route leads nowhere; its interface is "*".
        if default and row[0] != "*" and int(row[3], 16) & (_UP | _REJECT) == _UP and _is_up(row[0]):
            found.append((int(row[6]), row[0]))
    return [name for _, name in sorted(found)]


def _default_interfaces6() -> list[str]:
    """The same of IPv6, by /proc/net/ipv6_route."""
    found = []
    for row in _rows("/proc/net/ipv6_route"):
        default = len(row) == 10 and row[0] == "0" * 32 and row[1] == "00"
        if default and row[9] != "lo" and not int(row[8], 16) & _REJECT and _is_up(row[9]):
            found.append((int(row[5], 16), row[9]))
    return [name for _, name in sorted(found)]


def _interfaces_with_addresses() -> list[str]:
    """Interfaces other than lo that are up and have a connected route."""
    names = dict.fromkeys(row[0] for row in _rows("/proc/net/route")[1:] if row)
    return [name for name in names if name not in ("lo", "*") and _is_up(name)]


def _is_up(name: str) -> bool:
    """Whether the interface has a carrier; one that is not under /sys (another namespace) counts as up."""
    try:
        with open(f"/sys/class/net/{name}/operstate") as file:
            return file.read().strip() in ("up", "unknown")
    except OSError:
        return True


def _rows(path: str) -> list[list[str]]:
    try:
        with open(path) as table:
            return [line.split() for line in table]
    except OSError:
        return []


class PathMonitor:
    """Readable when links, addresses or routes of the present namespace have changed."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, GROUPS))

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._socket.fileno()

    def drain(self) -> bool:
        """Read what came; whether anything did. A full socket (ENOBUFS) counts as a change."""
        changed = False
        while True:
            try:
                changed = bool(self._socket.recv(65536)) or changed
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                changed = True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class SleepDetector:
    """Finds sleep in the gaps between looks. Call `look` every `interval` seconds with both clocks.

    `boot` is CLOCK_BOOTTIME and `now` CLOCK_MONOTONIC, in seconds. A gap is `tolerance` seconds more than expected.
    """

    def __init__(self, interval: float, boot: float, now: float, tolerance: float = 2.0) -> None:
        self._interval, self._boot, self._now, self._tolerance = interval, boot, now, tolerance

    def look(self, boot: float, now: float) -> float:
        """Seconds that this machine, or this process, was asleep since the last look; 0.0 if it was not."""
        suspended = (boot - self._boot) - (now - self._now)
        frozen = (now - self._now) - self._interval
        self._boot, self._now = boot, now
        gap = max(suspended, frozen)
        return gap if gap > self._tolerance else 0.0
