"""The host's network path by its tables in /proc (typed here), its changes, and sleep found by two clocks."""

from __future__ import annotations

import errno
import io
import socket
from collections.abc import Iterator, Mapping

import pytest

from network_extension.linux import path_monitor
from network_extension.linux.path_monitor import PathMonitor, SleepDetector, read_path
from network_extension.path import Path, PathStatus

# /proc/net/route: interface, destination, gateway, flags, refcnt, use, metric, mask, MTU, window, IRTT (little-endian)
HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
ETH_DEFAULT = "eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
ETH_NEAR = "eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
WLAN_DEFAULT = "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
WLAN_HALF = "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000080\t0\t0\t0\n"
UNREACHABLE = "*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n"
BLACKHOLE = "*\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n"
LO_NEAR = "lo\t0000007F\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n"

ANY6 = "0" * 32
ROUTER6 = "fe80000000000000000000000000000001"[:32]


def route6(name: str, metric: int = 0x400, flags: int = 0x3, destination: str = ANY6, bits: str = "00") -> str:
    """/proc/net/ipv6_route: destination, bits, source, bits, next hop, metric, refcnt, use, flags, interface."""
    return f"{destination} {bits} {ANY6} 00 {ROUTER6} {metric:08x} 00000001 00000000 {flags:08x} {name:>8}\n"


NO_DEFAULT6 = route6("lo", 0xFFFFFFFF, 0x200200)  # the kernel's own


def path_of(monkeypatch: pytest.MonkeyPatch, files: Mapping[str, str]) -> Path:
    def fake_open(path: str) -> io.StringIO:
        if path not in files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return io.StringIO(files[path])

    monkeypatch.setattr(path_monitor, "open", fake_open, raising=False)
    return read_path(("192.0.2.53",))


@pytest.mark.parametrize(
    ("four", "six", "interfaces", "ipv4", "ipv6"),
    [
        (ETH_DEFAULT + ETH_NEAR, NO_DEFAULT6, ["eth0"], True, False),
        (WLAN_DEFAULT + ETH_DEFAULT, "", ["eth0", "wlan0"], True, False),
        ("", route6("eth0") + NO_DEFAULT6, ["eth0"], False, True),
        (ETH_DEFAULT, route6("wlan0", 600) + route6("eth0", 100), ["eth0", "wlan0"], True, True),
        (
            ETH_NEAR + LO_NEAR,
            NO_DEFAULT6,
            ["eth0"],
            True,
            False,
        ),  # a network without a way out is a path, if a short one
        (WLAN_HALF + LO_NEAR, NO_DEFAULT6, ["wlan0"], True, False),  # 0.0.0.0/1 is no default route
        ("", route6("eth0", destination="2" + ANY6[1:], bits="03"), [], False, False),
        (UNREACHABLE, NO_DEFAULT6, [], False, False),  # `ip route add unreachable default`
        (UNREACHABLE + ETH_DEFAULT, "", ["eth0"], True, False),
        (BLACKHOLE, route6("eth0", flags=0x200), [], False, False),
        (LO_NEAR, NO_DEFAULT6, [], False, False),
        ("", "", [], False, False),
        ("eth0\t00000000\n\n", "0 0\n\n", ["eth0"], True, False),  # short rows are no default routes
    ],
)
def test_routes(
    monkeypatch: pytest.MonkeyPatch, four: str, six: str, interfaces: list[str], ipv4: bool, ipv6: bool
) -> None:
    path = path_of(monkeypatch, {"/proc/net/route": HEAD + four, "/proc/net/ipv6_route": six})
    status = PathStatus.SATISFIED if interfaces else PathStatus.UNSATISFIED
    assert path == Path(status, tuple(interfaces), ipv4, ipv6, ("192.0.2.53",))


@pytest.mark.parametrize(
    ("state", "counts"), [("up\n", True), ("unknown\n", True), ("down\n", False), ("lowerlayerdown\n", False)]
)
def test_an_interface_without_a_carrier_leads_nowhere(
    monkeypatch: pytest.MonkeyPatch, state: str, counts: bool
) -> None:
    files = {
        "/proc/net/route": HEAD + ETH_DEFAULT + WLAN_DEFAULT,
        "/proc/net/ipv6_route": route6("eth0"),
        "/sys/class/net/eth0/operstate": state,
    }
    path = path_of(monkeypatch, files)
    assert path.interfaces == (("eth0", "wlan0") if counts else ("wlan0",))
    assert path.supports_ipv6 is counts


def test_without_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without IPv6, or /proc that cannot be read."""
    assert path_of(monkeypatch, {}).status is PathStatus.UNSATISFIED
    assert path_of(monkeypatch, {"/proc/net/route": HEAD + ETH_DEFAULT}).interfaces == ("eth0",)


def test_this_machine() -> None:
    path = read_path()
    assert path.status in (PathStatus.SATISFIED, PathStatus.UNSATISFIED)
    assert "lo" not in path.interfaces and "*" not in path.interfaces


class Full:
    """A socket that has lost messages, and then has none."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)

    def recv(self, size: int) -> bytes:
        raise OSError(self.errors.pop(0), "recv")

    def close(self) -> None:
        pass


class TestMonitor:
    @pytest.fixture
    def kernel(self) -> Iterator[tuple[PathMonitor, socket.socket]]:
        """A monitor, and what its socket is joined to."""
        monitor = PathMonitor()
        assert not monitor.drain()
        monitor.close()
        monitor._socket, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        monitor._socket.setblocking(False)
        with kernel:
            yield monitor, kernel
        monitor.close()

    def test_many_messages_are_one_change(self, kernel: tuple[PathMonitor, socket.socket]) -> None:
        monitor, end = kernel
        for _ in range(3):
            end.send(b"RTM_NEWROUTE")
        assert monitor.drain()
        assert not monitor.drain()

    def test_what_was_lost_is_a_change(self, kernel: tuple[PathMonitor, socket.socket]) -> None:
        monitor, _ = kernel
        monitor._socket.close()
        monitor._socket = Full(errno.ENOBUFS, errno.EAGAIN)  # type: ignore[assignment]
        assert monitor.drain()

    def test_a_fault_ends_the_reading(self, kernel: tuple[PathMonitor, socket.socket]) -> None:
        monitor, _ = kernel
        monitor._socket.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            monitor.drain()

    def test_the_kernel_tells_an_ordinary_user(self) -> None:
        monitor = PathMonitor()
        assert monitor._socket.getsockname()[1] == path_monitor.GROUPS == 0x551
        monitor.close()


@pytest.mark.parametrize(
    ("boot", "now", "gap"),
    [
        (1.0, 1.0, 0.0),
        (1.2, 1.2, 0.0),
        (2.9, 2.9, 0.0),  # busy, not asleep
        (61.0, 1.0, 60.0),  # suspended: the monotonic clock stood
        (31.0, 31.0, 30.0),  # frozen: nobody looked
        (91.0, 31.0, 60.0),  # both: the longer one
        (3.1, 1.0, 2.1),
        (2.9, 1.0, 0.0),
    ],
)
def test_sleep(boot: float, now: float, gap: float) -> None:
    detector = SleepDetector(1.0, 1000.0, 500.0)
    assert detector.look(1000.0 + boot, 500.0 + now) == pytest.approx(gap)


def test_each_sleep_is_told_once() -> None:
    detector = SleepDetector(1.0, 0.0, 0.0, tolerance=5.0)
    assert detector.look(100.0, 1.0) == 99.0
    assert detector.look(101.0, 2.0) == 0.0
    assert detector.look(106.0, 3.0) == 0.0
    assert detector.look(206.0, 103.0) == 99.0
