"""S6, the other half: a service whose ports are dynamic is let through by program and link, not by address.

    near: netext filter with the firewall, which denies everything but what the pairing program does on this link
    far:  a device that speaks on link-local addresses, on whatever port it likes today

A rule by address would have to name fe80::/10 for everybody, and a rule by port cannot be written at all.
"""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.host_filter import RunningFilter
from tests.netlab import FAR6, NetLab, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.scenario]

RULES = """
default = "deny"

[[rule]]
name = "pairing"
action = "allow"
program = "pairing"
interface = "{device}"
network = "fe80::/10"
"""


@pytest.fixture
def lab() -> Iterator[NetLab]:
    made = NetLab()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pairing(tmp_path: Path) -> str:
    """A program of its own name."""
    socat = shutil.which("socat")
    if socat is None:
        pytest.skip("socat is not installed")
    path = tmp_path / "pairing"
    shutil.copy(socat, path)
    return str(path)


def link_local(lab: NetLab) -> str:
    """The device's address on the link, once it is sure to be its own."""

    def found() -> str:
        text = lab.far.run("ip", "-6", "addr", "show", "dev", lab.far_device, "scope", "link").stdout
        match = re.search(r"inet6 (fe80:[0-9a-f:]+)/64 (?!.*tentative)", text)
        return match[1] if match else ""

    return str(wait_for(found, 10, "a link-local address"))


def served(lab: NetLab, address: str) -> socket.socket:
    """The device at a port that the kernel chose."""

    def make() -> socket.socket:
        sock = socket.socket(socket.AF_INET6)
        index = socket.if_nametoindex(lab.far_device)
        sock.bind((address, 0, 0, index if address.startswith("fe80") else 0))
        sock.listen()
        sock.settimeout(10)
        return sock

    made: socket.socket = lab.in_host(lab.far, make)
    return made


def test_the_pairing_program_reaches_its_device_and_nobody_else_does(lab: NetLab, pairing: str, tmp_path: Path) -> None:
    rules, address = tmp_path / "rules.toml", link_local(lab)
    rules.write_text(RULES.format(device=lab.near_device))
    firewall, options = "network_extension.builtin.firewall", ("--config", f"rules={rules}")
    with RunningFilter(lab, tmp_path / "log", *options, provider=firewall) as running:

        def connect(program: str, to: str, port: int) -> str:
            target = f"TCP6:[{to}%{lab.near_device}]:{port}" if to.startswith("fe80") else f"TCP6:[{to}]:{port}"
            return lab.near.run(program, "-u", "OPEN:/dev/null", f"{target},connect-timeout=5").stderr

        for _ in range(3):  # another port each time
            with served(lab, address) as device:
                port = device.getsockname()[1]
                assert connect(pairing, address, port) == "", running.events("decision")
                device.accept()[0].close()
                assert "refused" in connect("socat", address, port), running.events("decision")
        with served(lab, FAR6) as elsewhere:
            assert "refused" in connect(pairing, FAR6, elsewhere.getsockname()[1])
