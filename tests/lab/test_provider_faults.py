"""Providers that raise, die or hang, at each point of a flow's life: the policy decides, and other flows go on.

`providers/faulty.py` does what the flow's port tells it.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import time

import pytest

from tests.netlab import FAR4, NetLab, wait_for

from .echo_server import EchoServer
from .program import Program, provider, running

pytestmark = pytest.mark.lab

RAISES, EXITS, DIES, HANGS, WAITS, WRONG_TYPE = 1, 2, 3, 4, 5, 6
AT_OFFER, AFTER_CLAIM, AFTER_OPEN, WHILE_RELAYING, WITH_DATAGRAMS, PLAINLY = 1, 2, 3, 4, 5, 7
POLICIES = pytest.mark.parametrize("policy", ["open", "closed"])
OPTIONS = ("--deadline", "0.3", "--hang-timeout", "0.5", "--grace", "0.2", *provider("faulty"))


def attempt(program: Program, port: int, timeout: float = 8) -> str:
    """ "echoed" when a connection to that port works, else the name of the errno of connect() or of reading."""
    with program.socket(timeout=timeout) as near:
        number = near.connect_ex((FAR4, port))
        if number:
            return errno.errorcode[number]
        future = near.begin("ask_many", 1, 64)
        error = future.exception(timeout + 1)
        if error is not None:
            return errno.errorcode.get(getattr(error, "errno", None) or 0, repr(error))
        return "echoed" if future.result() else "ended"


def works_again(program: Program, server: EchoServer, within: float = 3) -> None:
    """An ordinary flow works, soon."""
    wait_for(lambda: attempt(program, server.address[1], 3) == "echoed", within, "an ordinary flow")


@POLICIES
@pytest.mark.parametrize(
    ("when", "what"),
    [
        (AT_OFFER, RAISES),
        (AT_OFFER, WRONG_TYPE),
        (AT_OFFER, WAITS),
        (AT_OFFER, EXITS),
        (AT_OFFER, DIES),
        (AT_OFFER, HANGS),
        (AFTER_CLAIM, EXITS),
        (AFTER_CLAIM, DIES),
        (AFTER_CLAIM, HANGS),
        (PLAINLY, RAISES),
        (PLAINLY, EXITS),
        (PLAINLY, HANGS),
        (PLAINLY, WRONG_TYPE),
    ],
)
def test_before_the_flow_is_open(lab: NetLab, policy: str, when: int, what: int) -> None:
    """Nothing has been promised to the program yet: open lets the flow through, closed refuses it."""
    port = 30000 + 10 * when + what
    with running(lab, "--policy", policy, *OPTIONS) as program, EchoServer(lab, port), EchoServer(lab) as other:
        start = time.monotonic()
        assert attempt(program, port) == {"open": "echoed", "closed": "ECONNREFUSED"}[policy]
        assert time.monotonic() - start < 4
        record = program.flow(port)
        assert f"policy {policy}" in record["reason"]
        assert record["outcome"] == {"open": "passed", "closed": "refused"}[policy]
        works_again(program, other, 4)


@POLICIES
@pytest.mark.parametrize(("what", "expected"), [(RAISES, "ECONNREFUSED"), (WRONG_TYPE, "ECONNREFUSED")])
def test_raising_after_the_claim(lab: NetLab, policy: str, what: int, expected: str) -> None:
    """The flow is the provider's: it fails, whatever the policy."""
    port = 30000 + 10 * AFTER_CLAIM + what
    with running(lab, "--policy", policy, *OPTIONS) as program, EchoServer(lab, port), EchoServer(lab) as other:
        assert attempt(program, port) == expected
        works_again(program, other)


@pytest.mark.parametrize("what", [RAISES, EXITS, DIES, HANGS, WRONG_TYPE])
def test_after_the_flow_is_open(lab: NetLab, what: int) -> None:
    """The provider had the bytes in its hands: the program's connection is reset."""
    port = 30000 + 10 * AFTER_OPEN + what
    with running(lab, *OPTIONS) as program, EchoServer(lab, port), EchoServer(lab) as other:
        assert attempt(program, port) in ("ECONNRESET", "EPIPE")
        works_again(program, other, 4)


@pytest.mark.parametrize("what", [RAISES, EXITS, DIES, HANGS])
def test_while_the_flow_is_relayed(lab: NetLab, what: int) -> None:
    """The engine has the bytes: the flow outlives its provider, and is logged at its end."""
    port = 30000 + 10 * WHILE_RELAYING + what
    with running(lab, *OPTIONS) as program, EchoServer(lab, port) as server, EchoServer(lab) as other:
        with program.socket() as near:
            near.connect(server.address)
            assert near.ask_many(1, 64) == 1
            if what != RAISES:
                wait_for(lambda: [r for r in program.records("provider") if r.get("state") == "restarting"], 6)
            assert near.ask_many(100, 64) == 100
        assert program.flow(port)["out"] == 101 * 64
        works_again(program, other, 4)


@pytest.mark.parametrize("what", [EXITS, HANGS])
def test_with_datagrams_in_its_hands(lab: NetLab, what: int) -> None:
    """A UDP flow ends with its provider; the program's next datagram begins a new one, which works."""
    port = 30000 + 10 * WITH_DATAGRAMS + what
    with running(lab, *OPTIONS) as program, program.socket(socket.AF_INET, socket.SOCK_DGRAM, 0.3) as near:
        near.sendto(b"hello", (FAR4, port))
        wait_for(lambda: [r for r in program.records("provider") if r.get("state") == "restarting"], 6)
        with lab.far_listener(0, socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.settimeout(0.3)

            def arrives() -> bool:
                near.sendto(b"again", far.getsockname())
                try:
                    return far.recv(100) == b"again"
                except TimeoutError:
                    return False

            wait_for(arrives, 5, "a datagram of a new flow")


@POLICIES
def test_kill_with_flows_in_every_state(lab: NetLab, policy: str) -> None:
    """kill -9 with one flow offered, one claimed, one in its hands and one relayed: each ends as its state says."""
    ports = {state: 30000 + 10 * state + WAITS for state in (AT_OFFER, AFTER_CLAIM, AFTER_OPEN, WHILE_RELAYING)}
    options = ("--policy", policy, "--deadline", "20", "--grace", "0.2", *provider("faulty"))
    with running(lab, *options) as program, EchoServer(lab) as other:
        servers = {state: EchoServer(lab, port) for state, port in ports.items()}
        socks = {state: program.socket(timeout=6) for state in ports}
        for state in (AFTER_OPEN, WHILE_RELAYING):
            socks[state].connect((FAR4, ports[state]))
        socks[AFTER_OPEN].sendall(b"for the provider")
        assert socks[WHILE_RELAYING].ask_many(1, 64) == 1
        pending = {state: socks[state].begin("connect_ex", (FAR4, ports[state])) for state in (AT_OFFER, AFTER_CLAIM)}
        reading = socks[AFTER_OPEN].begin("recv", 1)
        wait_for(lambda: servers[AFTER_CLAIM].accepted, 5)
        os.kill(program.children()["provider"], signal.SIGKILL)
        assert isinstance(reading.exception(3), ConnectionResetError)
        for state in (AT_OFFER, AFTER_CLAIM):
            assert pending[state].result(3) == {"open": 0, "closed": errno.ECONNREFUSED}[policy]
        assert socks[WHILE_RELAYING].ask_many(10, 64) == 10
        works_again(program, other)
        for sock in socks.values():
            sock.close()
        for server in servers.values():
            server.close()


def test_others_do_not_wait_for_a_slow_decision(lab: NetLab) -> None:
    """While a coroutine thinks about one flow, others are decided."""
    port = 30000 + 10 * AT_OFFER + WAITS
    options = ("--deadline", "20", "--grace", "0.2", *provider("faulty"))
    with running(lab, *options) as program, EchoServer(lab) as other, program.socket() as waiting:
        waiting.settimeout(0.1)
        assert waiting.begin("connect", (FAR4, port)).exception(2) is not None
        start = time.monotonic()
        assert attempt(program, other.address[1]) == "echoed"
        assert time.monotonic() - start < 0.5


def test_the_log_names_state_and_reason(lab: NetLab) -> None:
    """Each change of a provider's state is one record: dead with the reason, the pause, running again."""
    with running(lab, *OPTIONS) as program, EchoServer(lab) as other:
        works_again(program, other)
        os.kill(program.children()["provider"], signal.SIGKILL)

        def told() -> bool:
            texts = [record["text"] for record in program.records("provider")]
            return any("running again" in text for text in texts)

        wait_for(told, 5)
        texts = "\n".join(record["text"] for record in program.records("provider"))
        assert "SIGKILL" in texts
        assert "starting it again in" in texts
        works_again(program, other)


class TestLifeCycle:
    @pytest.mark.parametrize("what", [RAISES, EXITS, DIES])
    def test_start_proxy(self, lab: NetLab, what: int) -> None:
        """The command is not run: one line that names the provider, and exit status 70."""
        done = lab.run(*provider("faulty", at="start", what=what), "--", "echo", "it ran")
        assert done.returncode == 70
        assert done.stdout == ""
        assert done.stderr.strip().count("\n") == 0, done.stderr
        assert "faulty" in done.stderr.lower()
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("what", [RAISES, EXITS, DIES, HANGS, WAITS])
    def test_stop_proxy(self, lab: NetLab, what: int) -> None:
        """The command's status counts, whatever happens at the end, and the end comes within the grace period."""
        start = time.monotonic()
        done = lab.run(*OPTIONS, *provider("faulty", at="stop", what=what)[2:], "--", "/bin/sh", "-c", "exit 9")
        assert done.returncode == 9
        assert time.monotonic() - start < 4
        assert "Traceback" not in done.stderr
