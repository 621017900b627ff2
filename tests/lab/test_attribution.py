"""Who made a packet, asked when its program has ended: every time the right process, never another.

The packets wait in a real queue. Each test names the failure of other tools that it is about, where there is one.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from network_extension.linux.attribution import Attribution
from network_extension.linux.nfqueue import DROP, Queue, open_socket
from network_extension.metadata import ProcessInfo
from tests.netlab import FAR4, FAR6, NEAR4, NetLab, acquainted_lab, wait_for

from .short_programs import FIRST_PORT, LONG_NAME

pytestmark = pytest.mark.lab

TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
FLOWS = int(os.environ.get("NETEXT_ATTRIBUTION_FLOWS", "2000"))
BATCH = 500
QUEUE = 5


class Seen(NamedTuple):
    """A packet's flow."""

    protocol: int
    local: tuple[bytes, int]
    remote: tuple[bytes, int]


def flow_of(packet: bytes) -> Seen:
    if packet[0] >> 4 == 4:
        protocol, ports, source, destination = packet[9], (packet[0] & 15) * 4, packet[12:16], packet[16:20]
    else:
        protocol, ports, source, destination = packet[6], 40, packet[8:24], packet[24:40]
    near, far = (int.from_bytes(packet[at : at + 2], "big") for at in (ports, ports + 2))
    return Seen(protocol, (source, near), (destination, far))


def end(process: subprocess.Popen[str]) -> str:
    """Let a program end, and well; what it printed."""
    output, errors = process.communicate("" if process.stdin else None, timeout=20)
    assert process.returncode == 0, errors
    return output


class Watched:
    """`near`, whose packets to `far` are held and never let through."""

    def __init__(self, lab: NetLab) -> None:
        self.lab = lab
        for tool in ("iptables", "ip6tables"):
            for protocol in ("tcp", "udp"):
                words = [tool, "-A", "OUTPUT", "-p", protocol, "-j", "NFQUEUE", "--queue-num", str(QUEUE)]
                made = lab.near.run(*words)
                assert made.returncode == 0, made.stderr
        self.attribution: Attribution = self.near(Attribution)
        self.queue: Queue = self.near(lambda: Queue(open_socket(), QUEUE))

    def near(self, action: Any) -> Any:
        return self.lab.in_host(self.lab.near, action)

    def flows(self) -> list[Seen]:
        """The flows of the packets that wait now; all are dropped."""
        packets = self.queue.receive()
        for packet in packets:
            self.queue.decide(packet.id, DROP)
        self.queue.flush()
        return [flow_of(packet.payload) for packet in packets]

    def flow(self) -> Seen:
        """The one flow that somebody opens; the first of its packets."""
        select.select([self.queue], [], [], 10)
        return self.flows()[0]

    def owner(self, flow: Seen) -> ProcessInfo:
        found = self.attribution.owner(*flow)
        assert found is not None
        return found

    def run(self, code: str, *arguments: str) -> int:
        """Run a Python program in `near` to its end; its number."""
        process = self.start(code, *arguments)
        end(process)
        return process.pid

    def start(self, code: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start one; `ip netns exec` becomes the program, with the number that we know."""
        words = [sys.executable, "-S", "-E", "-c", f"import os, socket, sys\n{code}", *arguments]
        return self.lab.near.start(*words, **options)

    def close(self) -> None:
        self.queue.close()
        self.attribution.close()


@pytest.fixture(scope="module")
def own_lab() -> Iterator[NetLab]:
    """A network of these tests alone, for its packets are held."""
    with acquainted_lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def watched(own_lab: NetLab) -> Iterator[Watched]:
    watched = Watched(own_lab)
    assert watched.attribution.how == "ebpf"
    yield watched
    watched.close()


@pytest.fixture(autouse=True)
def nothing_waits(watched: Watched) -> None:
    """Packets of the test before: connections that still tried."""
    while watched.flows():
        pass


def differences(truth: dict[int, tuple[int, int, int, str]], found: dict[int, ProcessInfo | None]) -> list[str]:
    wrong = []
    for number, right in truth.items():
        process = found.get(number)
        what = process and (process.pid, process.start_time, process.uid, process.executable)
        if what != right:
            wrong.append(f"flow {number} is of {right}, and was taken for one of {what}")
    return wrong


class Drivers:
    """Starters of short programs, several at a time, and what they say who was who."""

    def __init__(self, watched: Watched, folder: Path, count: int) -> None:
        self.processes, self.truth = [], dict[int, tuple[int, int, int, str]]()
        for number in range(count):
            (folder / str(number)).mkdir()
            script = Path(__file__).with_name("short_programs.py")
            words = [sys.executable, "-S", "-E", str(script), str(folder / str(number))]
            self.processes.append(watched.lab.near.start(*words, stdin=subprocess.PIPE))

    def ask(self, first: int, count: int) -> None:
        """Have `count` flows opened."""
        share = count // len(self.processes)
        for index, process in enumerate(self.processes):
            assert process.stdin is not None
            process.stdin.write(f"{first + index * share} {share}\n")
            process.stdin.flush()

    def hear(self, count: int) -> None:
        """Wait until all of them have ended."""
        for process in self.processes:
            assert process.stdout is not None
            for _ in range(count // len(self.processes)):
                number, pid, start, uid, executable = process.stdout.readline().split()
                self.truth[int(number)] = int(pid), int(start), int(uid), executable


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", ["all have ended", "they run and end"])
def test_programs_that_exit_at_once_are_all_found(watched: Watched, tmp_path: Path, when: str) -> None:
    """Peers miss short-lived UDP programs, and name wrong ones.

    NETEXT_ATTRIBUTION_FLOWS=10000 is the whole of the claim; 2,000 are the usual run.
    """
    drivers = Drivers(watched, tmp_path, 1 if when == "all have ended" else 2)
    found: dict[int, ProcessInfo | None] = {}
    for first in range(0, FLOWS, BATCH):
        drivers.ask(first, BATCH)
        if when == "all have ended":
            drivers.hear(BATCH)
        while len(found) < first + BATCH and select.select([watched.queue], [], [], 10)[0]:
            found |= {flow.remote[1] - FIRST_PORT: watched.attribution.owner(*flow) for flow in watched.flows()}
        if when != "all have ended":
            drivers.hear(BATCH)
    for process in drivers.processes:
        end(process)
    assert len(drivers.truth) == len(found) == FLOWS
    assert differences(drivers.truth, found) == []


@pytest.mark.parametrize("way", ["tcp", "udp", "connected_udp"])
def test_a_thread_is_named_by_its_process(watched: Watched, way: str) -> None:
    """Peers report the number of the thread, which is no process."""
    code = """import threading
sys.path.insert(0, sys.argv[1])
import short_programs
threading.Thread(target=getattr(short_programs, sys.argv[2]), args=(1,)).start()
threading.Event().wait()
"""
    pid = watched.run(code, str(Path(__file__).parent), way)
    assert watched.owner(watched.flow()).pid == pid


def test_names_longer_than_sixteen_characters_are_whole(watched: Watched, tmp_path: Path) -> None:
    """Peers that ask the kernel for its short name see the first fifteen bytes."""
    folder = tmp_path / ("directory-" + "x" * 200)
    folder.mkdir()
    program = folder / f"{LONG_NAME} with spaces ü \n and more"
    program.write_bytes(Path("/bin/bash").read_bytes())
    program.chmod(0o755)
    words = [str(program), "-c", f"echo x >/dev/udp/{FAR4}/53; exit", "one word", "", "ü"]
    process = watched.lab.near.start(*words)
    end(process)
    owner = watched.owner(watched.flow())
    assert owner.pid == process.pid
    assert owner.executable == str(program).replace("\n", "\\n")
    assert owner.arguments == tuple(words)
    parents = [parent.pid for parent in owner.parents]
    assert parents[0] == os.getpid() and parents[-1] == 1
    assert owner.parents[0].executable == os.readlink("/proc/self/exe")


def test_long_command_lines_are_whole_while_the_program_lives(watched: Watched) -> None:
    words = [str(number) * 50 for number in range(100)]
    process = watched.start(
        f"s = socket.socket(type=2); s.sendto(b'', ('{FAR4}', 53)); sys.stdin.read()", *words, stdin=subprocess.PIPE
    )
    owner = watched.owner(watched.flow())
    assert owner.arguments[-100:] == tuple(words)
    end(process)


def test_a_deleted_program_is_named_as_proc_names_it(watched: Watched, tmp_path: Path) -> None:
    program = tmp_path / "deleted"
    program.write_bytes(Path("/bin/bash").read_bytes())
    program.chmod(0o755)
    process = watched.lab.near.start(str(program), "-c", f"rm $0; echo x >/dev/udp/{FAR4}/53", str(program))
    end(process)
    assert watched.owner(watched.flow()).executable == f"{program} (deleted)"


def test_a_program_on_another_mount_has_its_whole_path(watched: Watched, tmp_path: Path) -> None:
    """Over a mount in a mount, in a mount namespace of its own that is gone by then."""
    (tmp_path / "outer").mkdir()
    code = f"""set -e
mount -t tmpfs none {tmp_path}/outer; mkdir -p {tmp_path}/outer/a/inner; mount -t tmpfs none {tmp_path}/outer/a/inner
mkdir {tmp_path}/outer/a/inner/b; cp /bin/bash {tmp_path}/outer/a/inner/b/shell
{tmp_path}/outer/a/inner/b/shell -c 'echo x >/dev/udp/{FAR4}/53; exit'"""
    ran = watched.lab.near.run("unshare", "--mount", "bash", "-c", code)
    assert ran.returncode == 0, ran.stderr
    assert watched.owner(watched.flow()).executable == f"{tmp_path}/outer/a/inner/b/shell"


def test_fork_without_exec_has_the_parents_executable_and_its_own_number(watched: Watched) -> None:
    """Peers that only see programs start report the parent's number, or nothing."""
    code = f"""pid = os.fork()
if not pid:
    socket.socket(type=2).sendto(b'', ('{FAR4}', 53))
    os._exit(0)
os.waitpid(pid, 0)
print(pid)
"""
    process = watched.start(code)
    child = int(end(process))
    owner = watched.owner(watched.flow())
    assert owner.pid == child != process.pid
    assert owner.executable == os.path.realpath(sys.executable)
    assert owner.parents[0].pid == process.pid


def test_after_exec_it_is_the_new_program_though_the_number_is_the_same(watched: Watched) -> None:
    """The socket is made by the first program and inherited: who sends counts."""
    code = f"""s = socket.socket(type=2); s.set_inheritable(True)
socket.socket(type=2).sendto(b'', ('{FAR4}', 53))
os.execv('/usr/bin/perl', ['perl', '-e', 'open(S, "+<&=", $ARGV[0]);' + sys.argv[1], str(s.fileno())])
"""
    address = f"pack('S n C4 x8', 2, 54, {FAR4.replace('.', ',')})"
    pid = watched.run(code, f"send(S, 'x', 0, {address}) or die $!")
    found = {flow.remote[1]: watched.owner(flow) for flow in watched.flows()}
    assert {port: owner.pid for port, owner in found.items()} == {53: pid, 54: pid}
    assert found[53].executable == os.path.realpath(sys.executable)
    assert found[54].executable == os.path.realpath("/usr/bin/perl")
    assert found[54].arguments[:2] == ("perl", "-e")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_who_connects_a_socket_that_was_passed_on_owns_the_flow(watched: Watched, kind: int) -> None:
    """Peers report the process that made it."""
    maker: socket.socket = watched.near(lambda: socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK))
    code = f"""s = socket.socket(fileno={maker.fileno()})
s.connect_ex(('{FAR4}', 53))
s.type & 2 and s.send(b'x')
"""
    with maker:
        process = watched.start(code, pass_fds=[maker.fileno()])
        end(process)
        flow = watched.flow()
        assert watched.owner(flow).pid == process.pid
    assert watched.owner(flow).pid == process.pid


def test_two_processes_that_send_by_one_socket_are_told_apart(watched: Watched) -> None:
    sock: socket.socket = watched.near(lambda: socket.socket(type=socket.SOCK_DGRAM))
    with sock:
        sock.sendto(b"x", (FAR4, 53))
        code = f"socket.socket(fileno={sock.fileno()}).sendto(b'x', ('{FAR4}', 54))"
        process = watched.start(code, pass_fds=[sock.fileno()])
        end(process)
        found = {flow.remote[1]: watched.owner(flow).pid for flow in watched.flows()}
    assert found == {53: os.getpid(), 54: process.pid}


@pytest.mark.parametrize("remote", [FAR4, FAR6])
@pytest.mark.parametrize("connect", [True, False])
def test_a_socket_older_than_the_programs_is_found(watched: Watched, remote: str, connect: bool) -> None:
    family = socket.AF_INET6 if ":" in remote else socket.AF_INET
    old: socket.socket = watched.near(lambda: socket.socket(family, socket.SOCK_DGRAM))
    with old:
        if connect:
            old.connect((remote, 53))
        later: Attribution = watched.near(Attribution)
        try:
            old.send(b"x") if connect else old.sendto(b"x", (remote, 53))
            owner = later.owner(*watched.flow())
            assert owner is not None and owner.pid == os.getpid()
            assert owner.arguments == tuple(Path("/proc/self/cmdline").read_text()[:-1].split("\0"))
        finally:
            later.close()


def test_a_dual_stack_socket_that_speaks_ipv4_is_found_when_it_is_gone(watched: Watched) -> None:
    for connect in (True, False):
        sock: socket.socket = watched.near(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        with sock:
            address = (f"::ffff:{FAR4}", 53)
            if connect:
                sock.connect(address)
            sock.send(b"x") if connect else sock.sendto(b"x", address)
        flow = watched.flow()
        assert len(flow.local[0]) == 4
        assert watched.owner(flow).pid == os.getpid()


def test_a_multipath_connection_is_found_when_it_is_gone(watched: Watched) -> None:
    """Go programs open them by default (RFC 8684); the kernel makes the TCP socket below by itself."""
    code = f"""s = socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK, proto=262)
s.connect_ex(('{FAR4}', 53))
"""
    try:
        socket.socket(proto=262).close()
    except OSError:
        pytest.skip("this kernel has no MPTCP")
    pid = watched.run(code)
    assert watched.owner(watched.flow()).pid == pid


@pytest.mark.parametrize("close", [True, False])
def test_a_fast_open_connection_is_found(watched: Watched, close: bool) -> None:
    """connect() is never called: sendto() opens it (RFC 7413)."""
    code = f"""s = socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
try:
    s.sendto(b'x', socket.MSG_FASTOPEN, ('{FAR4}', 53))
except BlockingIOError:
    pass
{close} or sys.stdin.read()
"""
    process = watched.start(code, stdin=subprocess.PIPE)
    if close:
        end(process)
    assert watched.owner(watched.flow()).pid == process.pid
    if not close:
        end(process)


def test_the_same_addresses_in_another_namespace_are_somebody_elses(watched: Watched) -> None:
    code = f"s = socket.socket(type=2); s.bind(('{NEAR4}', 4000)); s.sendto(b'', ('{FAR4}', 53))"
    pid = watched.run(code)
    flow = watched.flow()
    other = NetLab()
    try:
        words = [sys.executable, "-S", "-E", "-c", f"import socket; {code}"]
        assert other.near.run(*words).returncode == 0
        assert watched.owner(flow).pid == pid
    finally:
        other.close()


# --- connections that come in


def test_a_listener_is_found_for_a_connection_that_comes_in(watched: Watched) -> None:
    process = watched.start(
        f"s = socket.create_server(('{NEAR4}', 8080)); print(flush=True); sys.stdin.read()", stdin=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    local, remote = (socket.inet_aton(NEAR4), 8080), (socket.inet_aton(FAR4), 1234)
    owner = watched.attribution.owner(TCP, local, remote, inbound=True)
    assert owner is not None and owner.pid == process.pid
    assert watched.attribution.owner(TCP, local, remote) is None, "nobody speaks with it yet"
    assert watched.attribution.owner(TCP, (local[0], 8081), remote, inbound=True) is None
    end(process)
    assert watched.attribution.owner(TCP, local, remote, inbound=True) is None


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_service_whose_socket_was_made_by_its_dead_parent_is_found(watched: Watched, protocol: int) -> None:
    """A daemon of the old kind: the parent binds, forks and ends."""
    code = f"""s = socket.socket(type={2 if protocol == UDP else 1}); s.bind(('{NEAR4}', 8082))
s.type == 1 and s.listen()
r, w = os.pipe()
if os.fork():
    os._exit(0)
os.read(0, 1)
"""
    process = watched.start(code, stdin=subprocess.PIPE)
    process.wait(20)
    local, remote = (socket.inet_aton(NEAR4), 8082), (socket.inet_aton(FAR4), 1234)
    owner = watched.attribution.owner(protocol, local, remote, inbound=True)
    assert owner is not None and owner.pid != process.pid
    assert owner.executable == os.path.realpath(sys.executable)
    end(process)
    wait_for(lambda: not os.path.exists(f"/proc/{owner.pid}/exe") or not os.readlink(f"/proc/{owner.pid}/exe"))


def test_a_socket_that_is_bound_to_an_interface(watched: Watched) -> None:
    """The kernel finds it by the index of that interface alone: link-local addresses, SO_BINDTODEVICE."""
    device = watched.lab.near_device
    index = watched.near(lambda: socket.if_nametoindex(device))
    with watched.near(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        watched.near(lambda: sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode()))
        sock.connect((FAR4, 9))
        local = (socket.inet_aton(NEAR4), sock.getsockname()[1])
        owner = watched.attribution.owner(17, local, (socket.inet_aton(FAR4), 9), interface=index)
        assert owner is not None
        assert owner.pid == os.getpid()
