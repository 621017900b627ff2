"""Filters that raise, hang, die or never answer, in `netext run`: the policy decides, and other flows go on."""

from __future__ import annotations

import errno
import os
import signal
import time

import pytest

from tests.netlab import FAR4, NetLab, wait_for

from .echo_server import EchoServer
from .program import Program, provider, running

pytestmark = pytest.mark.lab

# As in providers/deciding.py
NEVER, RAISE, NONSENSE, EXIT, HANG = 2004, 2005, 2006, 2007, 2008
NEVER_DATA, RAISE_DATA, EXIT_DATA, STUCK, PAUSE, PAUSE_DATA = 2021, 2022, 2023, 2026, 2003, 2015
POLICIES = pytest.mark.parametrize("policy", ["open", "closed"])
OPTIONS = ("--deadline", "0.3", "--hang-timeout", "0.5", "--grace", "0.2", *provider("deciding", pause=30))


def attempt(program: Program, port: int, timeout: float = 8) -> str:
    """ "echoed" when a connection to that port works, else the name of the errno of connect() or of reading."""
    with program.socket(timeout=timeout) as near:
        if number := near.connect_ex((FAR4, port)):
            return errno.errorcode[number]
        error = near.begin("ask_many", 1, 64).exception(timeout + 1)
        return "echoed" if error is None else errno.errorcode.get(getattr(error, "errno", None) or 0, repr(error))


@POLICIES
@pytest.mark.parametrize("port", [NEVER, RAISE, NONSENSE, EXIT, HANG])
def test_a_new_flow(lab: NetLab, policy: str, port: int) -> None:
    with EchoServer(lab, port=port), EchoServer(lab) as other, running(lab, "--policy", policy, *OPTIONS) as program:
        assert attempt(program, port) == ("echoed" if policy == "open" else "ECONNREFUSED")
        wait_for(lambda: attempt(program, other.address[1]) == "echoed", 5, "an ordinary flow")
        record = program.flow(port)
        told = record["allowed_by"] if policy == "open" else f"{record['by']}: {record['reason']}"
        assert told.startswith("policy: Deciding") and told.endswith(f"policy {policy}")


@POLICIES
@pytest.mark.parametrize("port", [NEVER_DATA, RAISE_DATA, EXIT_DATA, STUCK])
def test_bytes(lab: NetLab, policy: str, port: int) -> None:
    """Bytes that wait for a verdict go when the policy is open, and end the flow when it is closed."""
    with EchoServer(lab, port=port), EchoServer(lab) as other, running(lab, "--policy", policy, *OPTIONS) as program:
        assert attempt(program, port) == ("echoed" if policy == "open" else "ECONNRESET")
        wait_for(lambda: attempt(program, other.address[1]) == "echoed", 5, "an ordinary flow")


@POLICIES
@pytest.mark.parametrize("port", [PAUSE, PAUSE_DATA])
def test_killed_while_it_has_paused_a_flow(lab: NetLab, policy: str, port: int) -> None:
    with EchoServer(lab, port=port), EchoServer(lab) as other, running(lab, "--policy", policy, *OPTIONS) as program:
        with program.socket(timeout=10) as near:
            asking = near.begin("connect_ex", (FAR4, port))
            if port == PAUSE_DATA:
                asking.result(5)
                asking = near.begin("ask_many", 1, 64)
            wait_for(lambda: len(program.records("provider-log")) >= 1 + (port == PAUSE_DATA), 5, "the pause")
            began = time.monotonic()
            os.kill(program.children()["provider"], signal.SIGKILL)
            if policy == "open":
                assert not asking.exception(5) and time.monotonic() - began < 1
            elif port == PAUSE:
                assert asking.result(5) == errno.ECONNREFUSED
            else:
                error = asking.exception(5)
                assert isinstance(error, OSError) and error.errno == errno.ECONNRESET
        wait_for(lambda: attempt(program, other.address[1]) == "echoed", 5, "an ordinary flow")


@POLICIES
def test_the_engine_is_killed(lab: NetLab, policy: str) -> None:
    """A new engine knows from the start that there is a filter: nothing passes it unseen."""
    options = ("--policy", policy, "--grace", "0.2", *provider("deciding"))
    with EchoServer(lab) as server, running(lab, *options) as program:
        assert attempt(program, server.address[1]) == "echoed"
        os.kill(program.children()["engine"], signal.SIGKILL)
        began = time.monotonic()
        wait_for(lambda: attempt(program, server.address[1], 3) == "echoed", 5, "an ordinary flow")
        assert time.monotonic() - began < 2
        assert attempt(program, 2001) == "ECONNREFUSED"  # the filter's drop
        assert program.flow(2001)["by"] == "Deciding"


def test_the_program_gives_up_while_its_flow_is_paused(lab: NetLab) -> None:
    with EchoServer(lab) as other, running(lab, *OPTIONS) as program:
        with program.socket(timeout=0.3) as near:
            near.connect_ex((FAR4, PAUSE))
        assert attempt(program, other.address[1]) == "echoed"
        assert program.flow(PAUSE, timeout=8)["outcome"] == "gone"


def test_the_command_ends_while_its_flow_is_paused(lab: NetLab) -> None:
    """The run ends soon after its command, whatever a filter is still thinking about."""
    words = ("-c", f"import socket; s = socket.socket(); s.setblocking(False); s.connect_ex(('{FAR4}', {PAUSE}))")
    began = time.monotonic()
    done = lab.run("--quiet", "--grace", "0.2", *provider("deciding", pause=30), "--", "python3", *words, timeout=20)
    assert done.returncode == 0 and time.monotonic() - began < 5


def test_a_filter_that_cannot_start_ends_the_run(lab: NetLab, tmp_path_factory: pytest.TempPathFactory) -> None:
    done = lab.run(*provider("deciding", grade="nonsense"), "--", "true")
    assert done.returncode == 70, done.stderr
    assert "NONSENSE" in done.stderr


@POLICIES
@pytest.mark.parametrize("process", ["provider", "engine"])
def test_a_packet_filter_is_killed(lab: NetLab, policy: str, process: str) -> None:
    """Its packets get the policy until it is back; afterwards it decides again."""
    options = ("--policy", policy, "--grace", "0.2", *provider("packet_counting", drop=2001))
    with EchoServer(lab) as server, running(lab, *options) as program:
        assert attempt(program, server.address[1]) == "echoed"
        os.kill(program.children()[process], signal.SIGKILL)
        wait_for(lambda: attempt(program, server.address[1], 3) == "echoed", 10, "an ordinary flow")
        wait_for(lambda: len(program.records("provider")) >= 2 or process == "engine", 5, "its restart")

        def is_dropped() -> bool:
            with program.socket(timeout=0.5) as near:
                return near.connect_ex((FAR4, 2001)) not in (0, errno.ECONNREFUSED)

        wait_for(is_dropped, 10, "a packet being dropped")
