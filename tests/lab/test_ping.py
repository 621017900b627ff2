"""ICMP echo: `ping` inside the sandbox, where the host lets its user send echo requests, and where it does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netlab import FAR4, FAR6, NetLab

from .program import Program, running

pytestmark = pytest.mark.lab


def ping(program: Program, *arguments: str) -> tuple[int, str]:
    """The exit status of ping (0: answers came) and what it said."""
    status, output, complaints = program.call("run", ["ping", "-n", *arguments])
    return status, (output + complaints).decode()


@pytest.fixture(scope="module")
def pinging(lab: NetLab) -> Iterator[Program]:
    """A program in a sandbox whose host lets user nobody ping."""
    lab.near.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 65534")
    with running(lab) as program:
        yield program
    lab.near.run("sysctl", "-qw", "net.ipv4.ping_group_range=1 0")


@pytest.mark.parametrize("host", [FAR4, FAR6])
def test_answers(pinging: Program, host: str) -> None:
    """Each request is answered once, in order, with its own payload."""
    status, text = ping(pinging, "-c", "3", "-i", "0.05", "-W", "2", host)
    assert status == 0, text
    assert "3 packets transmitted, 3 received, 0% packet loss" in text
    assert "DUP" not in text
    assert f"from {host}" in text


@pytest.mark.parametrize("size", ["0", "1400", "8000"])
@pytest.mark.parametrize("host", [FAR4, FAR6])
def test_sizes(pinging: Program, host: str, size: str) -> None:
    """Small and large payloads come back as they were."""
    status, text = ping(pinging, "-c", "1", "-W", "2", "-s", size, host)
    assert status == 0, text
    assert "wrong data" not in text


def test_two_at_once(pinging: Program) -> None:
    """Two programs that ping do not get each other's answers."""
    runs = [pinging.begin("run", ["ping", "-nc", "5", "-i", "0.05", "-W", "2", host]) for host in (FAR4, FAR6, FAR4)]
    for run in runs:
        status, output, _ = run.result(10)
        assert status == 0
        assert b" 5 received, 0% packet loss" in output


def test_nobody_answers(pinging: Program) -> None:
    """A host that is silent: ping waits its time and reports the loss, status 1."""
    status, text = ping(pinging, "-c", "1", "-W", "1", "198.51.100.77")
    assert status == 1
    assert "100% packet loss" in text


def test_where_the_host_forbids_it(lab: NetLab) -> None:
    """ping_group_range excludes the user: ping fails within its time and says so, TCP and the run are not affected."""
    lab.near.run("sysctl", "-qw", "net.ipv4.ping_group_range=1 0")
    with running(lab) as program, lab.far_listener() as server:
        status, text = ping(program, "-c", "1", "-W", "1", FAR4)
        assert status == 1
        assert "100% packet loss" in text or "not permitted" in text
        with program.socket() as near:
            near.connect(server.getsockname())
