"""S11: local traffic by Ethernet, all else by the cellular network, for a program that cannot be rewritten.

`examples/uplink_chooser.py` does it flow by flow, without managing the device and without touching its routes:

              ┌─ Ethernet 198.51.100.0/24 ── router "far"      default route, metric 0
    program ──┤
              └─ cellular 203.0.113.0/24 ─── router "cellular" default route, metric 500

Behind both routers is the same address, 192.0.2.10. Whoever answers there tells by which uplink a flow has come.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, NamedTuple

import pytest

from tests.netlab import FAR4, FAR6, NEAR4, NEAR6, Host, NetLab, python

from .runs import Run, example, netext_run
from .servers import Nginx, need, wait_for_port

pytestmark = [pytest.mark.lab, pytest.mark.scenario]

NEAR_CELLULAR4, CELLULAR4, NEAR_CELLULAR6, CELLULAR6 = "203.0.113.1", "203.0.113.2", "2001:db8:77::1", "2001:db8:77::2"
INTERNET4, INTERNET6 = "192.0.2.10", "2001:db8:1234::10"
DEVICE = "wwan0"
CHOOSER = example("uplink_chooser", uplink=DEVICE)

# A program that streams UDP: 300 datagrams of 1,200 bytes, and counts the answers.
STREAMER = """
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(5)
answers = 0
for number in range(300):
    sock.sendto(number.to_bytes(4) + bytes(1196), (host, port))
    if number % 10 == 9:
        answers += sock.recv(2000)[:4] == number.to_bytes(4)
print(answers)
"""


class TwoUplinks(NamedTuple):
    """The lab with a second router."""

    lab: NetLab
    cellular: Host


@pytest.fixture(scope="module")
def uplinks(lab: NetLab, folder: Path) -> Iterator[TwoUplinks]:
    """The second uplink, and a web server at the same address behind each."""
    cellular = Host(f"{lab.far.name}c")

    def ip(*words: str) -> None:
        result = lab.near.run("ip", *words)
        assert result.returncode == 0, result.stderr

    near, far = lab.near.name, lab.far.name
    ip("link", "add", DEVICE, "netns", near, "type", "veth", "peer", "name", "tower", "netns", cellular.name)
    for host, device, four, six in (
        (near, DEVICE, NEAR_CELLULAR4, NEAR_CELLULAR6),
        (cellular.name, "tower", CELLULAR4, CELLULAR6),
    ):
        ip("-n", host, "addr", "add", f"{four}/24", "dev", device)
        ip("-n", host, "addr", "add", f"{six}/64", "dev", device, "nodad")
        ip("-n", host, "link", "set", device, "up")
    for gateway in (CELLULAR4, CELLULAR6):
        ip("-n", near, "route", "add", "default", "via", gateway, "dev", DEVICE, "metric", "5000")
    for host in (far, cellular.name):
        ip("-n", host, "addr", "add", f"{INTERNET4}/32", "dev", "lo")
        ip("-n", host, "addr", "add", f"{INTERNET6}/128", "dev", "lo", "nodad")
    for address in (CELLULAR4, CELLULAR6):
        lab.near.run("ping", "-c", "1", "-W", "3", address)
    site = 'return 200 "{} saw $remote_addr";'
    Nginx(lab, lab.far, folder, (INTERNET4, INTERNET6, FAR4, FAR6), 8000, site.format("ethernet"))
    Nginx(lab, cellular, folder, (INTERNET4, INTERNET6, CELLULAR4), 8000, site.format("cellular"))
    cellular.start(need("iperf3", "iperf3"), "-s", "-B", INTERNET4, stdout=DEVNULL, stderr=DEVNULL)
    wait_for_port(lab, cellular, INTERNET4, 5201)
    try:
        yield TwoUplinks(lab, cellular)
    finally:
        cellular.close()


def curl(uplinks: TwoUplinks, host: str, *options: str) -> Run:
    host = f"[{host}]" if ":" in host else host
    return netext_run(uplinks.lab, *CHOOSER, "--", "curl", "-sS", *options, f"http://{host}:8000/")


@contextmanager
def udp_listener(lab: NetLab, host: Host, address: str) -> Iterator[socket.socket]:
    """A socket of the test's own, at an address of a host."""

    def make() -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, 5000))
        sock.settimeout(10)
        return sock

    with lab.in_host(host, make) as sock:
        yield sock


def answer_stream(sock: socket.socket) -> tuple[int, set[str]]:
    """Answer every tenth of 300 datagrams; how many came, and where from."""
    sources: set[str] = set()
    for number in range(300):
        data, source = sock.recvfrom(2000)
        assert data == number.to_bytes(4) + bytes(1196)
        sources.add(source[0])
        if number % 10 == 9:
            sock.sendto(data, source)
    return 300, sources


def test_as_ever_without_the_chooser(uplinks: TwoUplinks) -> None:
    """The default route with the best metric is Ethernet's, for everything."""
    run = netext_run(uplinks.lab, "--", "curl", "-sS", f"http://{INTERNET4}:8000/")
    assert run.output == f"ethernet saw {NEAR4}"


@pytest.mark.parametrize(("host", "source"), [(INTERNET4, NEAR_CELLULAR4), (INTERNET6, NEAR_CELLULAR6)])
def test_what_is_not_local_goes_by_the_uplink(uplinks: TwoUplinks, host: str, source: str) -> None:
    """TCP, both families; the server sees the address of the cellular interface."""
    assert curl(uplinks, host).output == f"cellular saw {source}"


@pytest.mark.parametrize(("host", "source"), [(FAR4, NEAR4), (FAR6, NEAR6)])
def test_what_is_local_stays_on_ethernet(uplinks: TwoUplinks, host: str, source: str) -> None:
    """A neighbour in the same network is reached directly."""
    assert curl(uplinks, host).output == f"ethernet saw {source}"


@pytest.mark.parametrize(
    ("address", "source"),
    [
        pytest.param(INTERNET4, NEAR_CELLULAR4, id="far away, IPv4"),
        pytest.param(INTERNET6, NEAR_CELLULAR6, id="far away, IPv6"),
        pytest.param(FAR4, NEAR4, id="local, IPv4"),
        pytest.param(FAR6, NEAR6, id="local, IPv6"),
    ],
)
def test_a_stream_of_datagrams(uplinks: TwoUplinks, address: str, source: str) -> None:
    """UDP, there and back: each datagram by the uplink of its flow, none lost, and the answers arrive."""
    lab, cellular = uplinks
    host = cellular if source.startswith((NEAR_CELLULAR4, NEAR_CELLULAR6)) else lab.far
    with udp_listener(lab, host, address) as sock:
        process = lab.start(*CHOOSER, "--", *python(STREAMER), address, "5000")
        assert answer_stream(sock) == (300, {source})
        output, log = process.communicate(timeout=20)
    assert output == "30\n", log


@pytest.mark.parametrize("protocol", [(), ("-u", "-b", "20M", "-l", "1200")], ids=["tcp", "udp"])
def test_a_program_that_nobody_here_wrote(uplinks: TwoUplinks, protocol: tuple[str, ...]) -> None:
    """iperf3 listens behind the cellular router only: TCP for its orders, and a stream of TCP or UDP."""
    command = ("iperf3", "-c", INTERNET4, "-t", "1", "--json", *protocol)
    run = netext_run(uplinks.lab, *CHOOSER, "--", *command)
    assert run.status == 0, run.output
    report: dict[str, Any] = json.loads(run.output)
    assert report["end"]["sum"]["lost_packets"] == 0 if protocol else report["end"]["sum_received"]["bytes"] > 1_000_000
    assert {by for _, _, by in run.flows} == {"UplinkChooser"}


def test_each_flow_of_one_program_by_itself(uplinks: TwoUplinks) -> None:
    """One curl, two servers, two uplinks; and the log of the provider says so."""
    run = netext_run(
        uplinks.lab, *CHOOSER, "--", "curl", "-sS", f"http://{INTERNET4}:8000/", f"http://{FAR4}:8000/"
    )  # fmt: skip
    assert run.output == f"cellular saw {NEAR_CELLULAR4}ethernet saw {NEAR4}"
    said = " ".join(record["text"] for record in run.records("provider-log"))
    assert f"tcp to {INTERNET4}:8000: by {DEVICE}" in said
    assert f"tcp to {FAR4}:8000: by the usual way" in said


def test_the_uplink_is_down(uplinks: TwoUplinks) -> None:
    """Nothing falls back to the other one: connect() fails, and with the errno of the cause."""
    near = uplinks.lab.near
    near.run("ip", "-n", near.name, "link", "set", DEVICE, "down")
    try:
        code = f"import errno, socket; print(errno.errorcode[socket.socket().connect_ex({(INTERNET4, 8000)})])"
        run = netext_run(uplinks.lab, *CHOOSER, "--", *python(code))
        assert run.output == "ENETUNREACH\n", run.log
        assert curl(uplinks, FAR4).output == f"ethernet saw {NEAR4}"
    finally:
        near.run("ip", "-n", near.name, "link", "set", DEVICE, "up")
        near.run("ip", "-n", near.name, "route", "add", "default", "via", CELLULAR4, "dev", DEVICE, "metric", "5000")


def test_no_such_interface(lab: NetLab) -> None:
    """The run does not begin, and one line names the interfaces that there are."""
    run = netext_run(lab, *example("uplink_chooser", uplink="wwan7"), "--", "true", log="")
    assert run.status == 70
    assert "uplink: 'wwan7' is no interface; this machine has lo, " in run.log
    assert len(run.log.splitlines()) == 1
