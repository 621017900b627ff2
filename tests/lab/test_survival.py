"""kill -9 of our own processes, too few descriptors, floods, servers that never answer; and the host stays as it is."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.leaks import is_running
from tests.netlab import FAR4, NetLab, wait_for

from .echo_server import EchoServer
from .program import Program, provider, running

pytestmark = pytest.mark.lab

WAYS = pytest.mark.parametrize("options", [(), provider("relaying")], ids=["pass-through", "relayed"])


def works(program: Program, server: EchoServer, timeout: float = 2) -> bool:
    """Whether a new flow works."""
    with program.socket(timeout=timeout) as near:
        return not near.connect_ex(server.address) and near.ask_many(1, 64) == 1


class TestKill:
    @WAYS
    def test_the_engine(self, lab: NetLab, options: tuple[str, ...]) -> None:
        """Established flows are reset, a new engine takes over, and new flows work within two seconds.

        An orderly end would make a program take half of an answer for all of it. The log says what happened.
        """
        with running(lab, *options) as program, EchoServer(lab) as server, program.socket() as near:
            near.connect(server.address)
            assert near.ask_many(1, 64) == 1
            reading = near.begin("recv", 1)
            os.kill(program.children()["engine"], signal.SIGKILL)
            assert isinstance(reading.exception(2), ConnectionResetError)
            start = time.monotonic()
            wait_for(lambda: works(program, server), 3)
            assert time.monotonic() - start < 2
            assert "SIGKILL" in program.records("engine")[0]["text"]

    def test_the_engine_again_and_again(self, lab: NetLab) -> None:
        """Three times in a row: flows work after each."""
        with running(lab) as program, EchoServer(lab) as server:
            for _ in range(3):
                os.kill(program.children()["engine"], signal.SIGKILL)
                wait_for(lambda: works(program, server), 3)

    def test_the_engine_with_names_and_datagrams(self, lab: NetLab) -> None:
        """UDP works with the new engine too, from the same socket of the program's."""
        with running(lab) as program, program.socket(kind=2, timeout=0.3) as near, lab.far_listener(kind=2) as far:
            near.connect(far.getsockname())

            def arrives() -> bool:
                if near.begin("send", b"hello").exception(2):
                    return False
                far.settimeout(0.3)
                try:
                    return far.recv(100) == b"hello"
                except TimeoutError:
                    return False

            wait_for(arrives, 3)
            os.kill(program.children()["engine"], signal.SIGKILL)
            wait_for(arrives, 3)

    def test_the_keeper(self, lab: NetLab) -> None:
        """Flows go on, and new TCP flows work; the log says what will not."""
        with running(lab) as program, EchoServer(lab) as server, program.socket() as near:
            near.connect(server.address)
            os.kill(program.children()["keeper"], signal.SIGKILL)
            wait_for(lambda: program.records("keeper"), 3)
            assert near.ask_many(10, 64) == 10
            assert works(program, server)
            with program.socket(kind=2) as other:  # the engine's stock of sockets is not refilled, and nothing hangs
                other.connect(server.address)
                other.send(b"x")

    @pytest.mark.parametrize(
        "options", [(), provider("relaying"), provider("slow_start")], ids=["plain", "provider", "early"]
    )
    def test_netext(self, lab: NetLab, options: tuple[str, ...]) -> None:
        """Nothing is left: no process, no namespace, no mount (the leak check sees to it), within two seconds."""
        program = Program(lab, options)
        if "slow_start" not in "".join(options):
            program.call("identity")
        pids = wait_for(lambda: (found := program.children()) and len(found) >= 3 and found, 5)
        program.process.kill()
        program.close()
        wait_for(lambda: not any(is_running(pid) for pid in pids.values()), 4, "the end of all processes")

    def test_the_command(self, lab: NetLab) -> None:
        """kill -9 of the command: `netext` dies by the same signal."""
        program = Program(lab)
        os.kill(program.call("identity")["pid"], signal.SIGKILL)
        assert program.close() == -signal.SIGKILL


class TestManyFlows:
    @WAYS
    def test_two_thousand_at_once(self, lab: NetLab, options: tuple[str, ...]) -> None:
        """All connect and all carry their bytes, within ten seconds; a flow that was there before is not disturbed."""
        with running(lab, *options) as program, EchoServer(lab) as server, program.socket() as near:
            near.connect(server.address)
            flood = program.begin("connect_many", server.address, 2000, 20.0, b"each says this")
            asking = near.begin("ask_many", 50, 64)
            assert flood.result(25) == {0: 2000}
            assert asking.result(10) == 50
            assert not program.records("limit")

    def test_five_hundred_idle_ones(self, lab: NetLab) -> None:
        """While 500 flows do nothing, one moves 20 MB, quickly."""
        with running(lab) as program, EchoServer(lab) as server, lab.far_listener() as sink, program.socket() as near:
            assert program.call("open_many", server.address, 500) == 500
            connecting = near.begin("connect", sink.getsockname())
            with sink.accept()[0] as far:
                connecting.result(5)
                start = time.monotonic()
                sending = near.begin("send_bytes", 20_000_000)
                digest = hashlib.sha256()
                left = 20_000_000
                while left:
                    part = far.recv(1 << 20)
                    digest.update(part)
                    left -= len(part)
                assert sending.result(10) == digest.hexdigest()
                assert time.monotonic() - start < 5

    @pytest.mark.parametrize("policy", ["open", "closed"])
    def test_a_flood_of_five_thousand(self, lab: NetLab, policy: str) -> None:
        """5,000 non-blocking connects in one go, to a port where nobody listens: each is refused, none is forgotten."""
        with running(lab, "--policy", policy) as program, EchoServer(lab) as server:
            flood = program.begin("connect_many", (FAR4, 9), 5000, 25.0)
            wait_for(lambda: works(program, server, 8), 10)
            assert flood.result(30) == {errno.ECONNREFUSED: 5000}

    def test_a_server_that_never_answers(self, lab: NetLab) -> None:
        """A hundred flows to a black hole: an ordinary one is as quick as ever, and all end when the program does."""
        lab.near.run("ip", "-n", lab.far.name, "route", "add", "blackhole", "203.0.113.9")
        lab.far.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        try:
            with running(lab, *provider("relaying")) as program, EchoServer(lab) as server:
                stuck = program.begin("connect_many", ("203.0.113.9", 80), 100, 1.0)
                start = time.monotonic()
                assert works(program, server)
                assert time.monotonic() - start < 0.5
                assert stuck.result(5) == {-1: 100}
                wait_for(lambda: len(program.records("flow")) == 101, 6, "the end of the flows that were given up")
        finally:
            lab.near.run("ip", "-n", lab.far.name, "route", "del", "blackhole", "203.0.113.9")


class TestFewDescriptors:
    @pytest.mark.parametrize("policy", ["open", "closed"])
    def test_a_limit_of_eighty(self, lab: NetLab, policy: str) -> None:
        """More flows than descriptors: some wait or fail, the engine survives, and when they end all is well again."""
        options, limit = ("--policy", policy), ("prlimit", "--nofile=80:80")
        with running(lab, *options, prefix=limit) as program, EchoServer(lab) as server:
            found = program.call("connect_many", server.address, 60, 3.0, b"hello")
            assert found.get(0, 0) >= 10
            engine = program.children()["engine"]
            wait_for(lambda: works(program, server, 4), 10)
            assert program.children()["engine"] == engine

    def test_udp_with_a_limit_of_eighty(self, lab: NetLab) -> None:
        """The same with sockets that send datagrams."""
        with running(lab, prefix=("prlimit", "--nofile=80:80")) as program, lab.far_listener(kind=2) as far:
            socks = [program.socket(kind=2) for _ in range(50)]
            for sock in socks:
                sock.begin("sendto", b"hello", far.getsockname()).exception(5)
            for sock in socks:
                sock.close()
            far.settimeout(0.3)

            def arrives() -> bool:
                with program.socket(kind=2) as near:
                    near.sendto(b"after", far.getsockname())
                    try:
                        while far.recv(100) != b"after":
                            pass
                    except TimeoutError:
                        return False
                    return True

            wait_for(arrives, 6)

    def test_a_provider_with_too_few(self, lab: NetLab) -> None:
        """The provider's own limit: its flows fail or wait, `netext` goes on, and later flows work."""
        limit = ("prlimit", "--nofile=64:64")
        with running(lab, *provider("relaying"), prefix=limit) as program, EchoServer(lab) as server:
            program.call("connect_many", server.address, 60, 3.0, b"hello")
            wait_for(lambda: works(program, server, 4), 10)


def host_state(lab: NetLab) -> dict[str, str]:
    """All of the host's network that a sandbox could have changed: of `near`, and of this machine."""
    commands = {
        "ruleset": "nft list ruleset", "rules": "ip rule", "rules6": "ip -6 rule", "links": "ip -o -br link",
        "routes": "ip route show table all", "routes6": "ip -6 route show table all", "addresses": "ip -o -br addr",
        "parameters": "sysctl -a --pattern net.ipv4.(ip_forward|ping_group_range|conf.all|conf.default|tcp_)",
    }  # fmt: skip
    state = {name: lab.near.run(*command.split()).stdout for name, command in commands.items()}
    for name in ("resolv.conf", "hosts", "nsswitch.conf"):
        state[name] = hashlib.sha256(Path(f"/etc/{name}").read_bytes()).hexdigest()
    state["mounts"] = "\n".join(
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "netext" in line
    )
    if "NETEXT_SHARED_HOST" not in os.environ:
        for command in ("nft list ruleset", "ip rule", "ip -o -br link", "ip route show table all"):
            state[f"machine: {command}"] = subprocess.run(command.split(), capture_output=True, text=True).stdout
    return state


def test_the_host_stays_as_it_is(lab: NetLab) -> None:
    """Rules, routes, marks, addresses, parameters and files of the host: the same before, while and after."""
    before = host_state(lab)
    with running(lab, *provider("relaying")) as program, EchoServer(lab) as server:
        assert works(program, server)
        assert host_state(lab) == before
    assert host_state(lab) == before


def test_no_mark_leaves_the_sandbox(lab: NetLab) -> None:
    """Packets of a flow carry no mark in the host's network."""
    chain = "add chain inet look out { type filter hook output priority 0; }"
    lab.near.run("nft", f"add table inet look; {chain}; add rule inet look out meta mark != 0 counter")
    try:
        with running(lab) as program, EchoServer(lab) as server:
            assert works(program, server)
        assert "packets 0 " in lab.near.run("nft", "list", "table", "inet", "look").stdout
    finally:
        lab.near.run("nft", "delete", "table", "inet", "look")


@pytest.fixture(scope="module", autouse=True)
def many_descriptors() -> Iterator[None]:
    """The test's own servers take thousands."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
