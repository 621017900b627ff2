"""`--trace FILE`: what tshark reads in it, and what happens when it cannot be written.

tshark and capinfos are the judges: another project's readers of the format.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from subprocess import DEVNULL

import pytest

from tests.leaks import is_running
from tests.netlab import FAR4, NetLab, open_folder, python, wait_for

from .program import Program, RemoteSocket, provider, running

pytestmark = pytest.mark.lab

SLOW = """
import asyncio
from network_extension import AppProxyProvider

class Slow(AppProxyProvider):
    async def handle_new_flow(self, flow):
        await asyncio.sleep(1.5)
        await flow.relay(await flow.connect())
        return True
"""

ASK = """
import socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
sock.sendall(b"question")
sock.shutdown(socket.SHUT_WR)
while sock.recv(65536): pass
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for an ordinary user's files."""
    with open_folder(0o777) as path:
        yield path


def read(path: Path, *fields: str, only: str = "") -> list[list[str]]:
    """Fields of all packets, as tshark sees them."""
    if (tshark := shutil.which("tshark")) is None:
        pytest.skip("tshark is missing: apt-get install tshark")
    words = [tshark, "-n", "-r", str(path), "-T", "fields", *(["-Y", only] if only else [])]
    for field in fields:
        words += ["-e", field]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def comments(path: Path) -> list[str]:
    return [comment for (comment,) in read(path, "frame.comment") if comment]


def ask(port: int, host: str = FAR4) -> tuple[str, ...]:
    return (*python(ASK), host, str(port))


@pytest.fixture
def port(lab: NetLab) -> Iterator[int]:
    """A TCP server that answers each connection with 300,000 bytes; its port."""
    server = lab.far_listener()

    def serve() -> None:
        while True:
            try:
                sock, _ = server.accept()
            except OSError:
                return
            with sock, suppress(ConnectionError):  # of an engine that the test has killed
                while sock.recv(65536):
                    pass
                sock.sendall(bytes(300_000))

    thread = threading.Thread(target=serve)
    thread.start()
    yield int(server.getsockname()[1])
    server.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    server.close()


def test_every_packet_once_and_the_decision_on_the_first(lab: NetLab, folder: Path, port: int) -> None:
    trace = folder / "trace.pcapng"
    run = lab.run("--trace", str(trace), *provider("relaying"), "--", *ask(port))
    assert run.returncode == 0, run.stderr
    assert trace.stat().st_mode & 0o777 == 0o600
    packets = read(trace, "frame.comment", "tcp.flags", "tcp.srcport", "tcp.len", "tcp.seq", only="tcp")
    syn, *later = packets
    assert syn[0].startswith("python3") and syn[0].endswith(f" → {FAR4}:{port}: claimed by Relaying")
    assert int(syn[1], 0) == 0x02
    assert not any(packet[0] for packet in later)
    sent = [packet for packet in packets if packet[2] == str(port) and int(packet[3])]
    assert sum(int(packet[3]) for packet in sent) == 300_000
    assert len({packet[4] for packet in sent}) == len(sent)
    assert sum(int(packet[3]) for packet in packets if packet[2] != str(port)) == len(b"question")


def test_datagrams_are_in_it_once_each(lab: NetLab, folder: Path) -> None:
    trace = folder / "trace.pcapng"
    arguments = ("--trace", str(trace), *provider("relaying"))
    sender = ("", 0)
    with lab.far_listener(kind=socket.SOCK_DGRAM) as server, running(lab, *arguments) as program:
        number = server.getsockname()[1]
        sock = program.socket(kind=socket.SOCK_DGRAM)
        for payload in (b"a" * 1000, b"a" * 1000, b"b" * 60000):  # the first two differ in nothing but their time
            sock.sendto(payload, (FAR4, number))
            data, sender = server.recvfrom(65535)
            assert data == payload
        server.sendto(b"answer", sender)
        assert sock.recvfrom(100)[0] == b"answer"
        sock.close()
    found = read(trace, "udp.length", "frame.comment", only=f"udp.port == {number}")
    assert [int(length) - 8 for length, _ in found] == [1000, 1000, 60000, 6]
    assert [bool(comment) for _, comment in found] == [True, False, False, False]


def test_names_are_in_it(lab: NetLab, folder: Path) -> None:
    trace = folder / "trace.pcapng"
    lab.resolv_conf(f"nameserver {FAR4}\noptions timeout:1 attempts:1\n")
    lab.run("--trace", str(trace), "--", "getent", "ahosts", "some.name.test")
    assert ["some.name.test"] in read(trace, "dns.qry.name", only="dns.flags.response == 0")


def test_a_refusal_is_on_the_packet_that_was_refused(lab: NetLab, folder: Path) -> None:
    trace = folder / "trace.pcapng"
    run = lab.run("--trace", str(trace), *provider("refusing"), "--", *ask(20006))
    assert run.returncode == 1 and "ConnectionRefusedError" in run.stderr
    (comment,) = comments(trace)
    assert f" → {FAR4}:20006: refused by Refusing" in comment
    assert [int(flags, 0) for (flags,) in read(trace, "tcp.flags")] == [0x02, 0x14]  # SYN; RST, ACK


def test_a_refusal_after_the_claim_counts(lab: NetLab, folder: Path) -> None:
    """Claimed, and then there was nobody: the comment says how it ended."""
    trace = folder / "trace.pcapng"
    lab.run("--trace", str(trace), *provider("relaying"), "--", *ask(9))
    (comment,) = comments(trace)
    assert f" → {FAR4}:9: refused by Relaying" in comment


def test_a_late_decision_has_the_time_of_arrival(lab: NetLab, folder: Path, port: int) -> None:
    """The SYN is written after more than one flush, once, and has the time at which it came."""
    trace, slow = folder / "trace.pcapng", folder / "slow.py"
    slow.write_text(SLOW)
    assert lab.run("--trace", str(trace), "--provider", str(slow), "--", *ask(port)).returncode == 0
    times = {int(flags, 0): float(time) for time, flags in reversed(read(trace, "frame.time_epoch", "tcp.flags"))}
    assert times[0x12] - times[0x02] > 1.4
    firsts = read(trace, "frame.comment", only="tcp.flags == 0x02")
    assert [comment.endswith("claimed by Slow") for (comment,) in firsts].count(True) == 1


def test_what_cannot_be_written_is_said_before_anything_starts(lab: NetLab, folder: Path) -> None:
    places = {folder / "no" / "trace": "No such file", folder: "Is a directory", Path("/dev/full"): "No space"}
    for path, reason in places.items():
        run = lab.run("--trace", str(path), "--", "touch", str(folder / "ran"))
        assert run.returncode == 78
        assert run.stderr.startswith(f"netext: --trace {path}: {reason}") and run.stderr.count("\n") == 1
    assert not (folder / "ran").exists()


def test_a_full_disk_ends_the_trace_and_nothing_else(lab: NetLab, folder: Path, port: int) -> None:
    """100 KiB fit; the rest of the run goes on, and the file ends with a whole packet."""
    trace = folder / "trace.pcapng"
    limit = f'ulimit -f 200; exec {" ".join(lab.netext("run", "--trace", str(trace), "--"))} "$@"'
    run = lab.near.run("sh", "-c", limit, "sh", *ask(port), user=True)
    assert run.returncode == 0, run.stderr
    assert f"trace {trace}: File too large; nothing more is written to it\n" in run.stderr
    assert comments(trace) == [] and trace.stat().st_size <= 102_400
    twice = ("sh", "-c", 'for i in 1 2; do "$@"; sleep 1.2; done', "sh", *ask(port))
    run = lab.near.run("sh", "-c", limit, "sh", *twice, user=True)
    assert run.returncode == 0 and run.stderr.count("nothing more is written") == 1


def test_a_removed_file_ends_the_trace_and_nothing_else(lab: NetLab, folder: Path, port: int) -> None:
    trace = folder / "trace.pcapng"
    program = ("sh", "-c", f'"$@"; rm {trace}; sleep 1.2; "$@"', "sh", *ask(port))
    run = lab.run("--trace", str(trace), "--", *program)
    assert run.returncode == 0
    assert run.stderr.count(f"trace {trace}: the file was removed; nothing more is written to it\n") == 1
    assert not trace.exists()


def test_a_killed_engine_leaves_whole_packets_and_the_next_one_goes_on(lab: NetLab, folder: Path, port: int) -> None:
    trace = folder / "trace.pcapng"
    with running(lab, "--trace", str(trace), expect_faults=True) as program:
        for number in range(2):
            sock = wait_for(lambda: _connected(program, port), 10, "a connection")
            sock.close()
            # The file grows by other packets too: neighbour discovery, and what the last engine's end has caused.
            wait_for(partial(_has_comments, trace, number + 1), 5, "the flow's packet in the file")
            kill_and_wait(program.children()["engine"])
    assert len(comments(trace)) >= 2


def test_a_killed_run_leaves_a_file_that_can_be_read(lab: NetLab, folder: Path, port: int) -> None:
    trace = folder / "trace.pcapng"
    command = ("sh", "-c", '"$@"; sleep 60', "sh", *ask(port))
    run = lab.start("--trace", str(trace), "--", *command, stdout=DEVNULL, stderr=DEVNULL)
    try:
        header = wait_for(lambda: trace.exists() and trace.stat().st_size, 10, "the header")
        wait_until_longer(trace, header + 300_000)
    finally:
        run.kill()
        run.wait(10)
    assert sum(int(length) for (length,) in read(trace, "tcp.len", only=f"tcp.srcport == {port}")) == 300_000


def test_a_pipe_is_a_live_view(lab: NetLab, folder: Path, port: int) -> None:
    """`--trace` may be a named pipe, with tshark behind it."""
    pipe = folder / "pipe"
    os.mkfifo(pipe, 0o666)
    pipe.chmod(0o666)
    if (tshark := shutil.which("tshark")) is None:
        pytest.skip("tshark is missing: apt-get install tshark")
    words = [tshark, "-n", "-l", "-r", str(pipe), "-T", "fields", "-e", "frame.comment"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as reader:
        assert lab.run("--trace", str(pipe), "--", *ask(port)).returncode == 0
        output, _ = reader.communicate(timeout=20)
    assert f"{FAR4}:{port}: passed by pass-through" in output


def wait_until_longer(trace: Path, size: int) -> None:
    wait_for(lambda: trace.stat().st_size > size, 5, "a flush")


def _has_comments(trace: Path, count: int) -> bool:
    return len(comments(trace)) >= count


def kill_and_wait(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_running(pid), 5, "its end")


def _connected(program: Program, port: int) -> RemoteSocket | None:
    sock = program.socket()
    try:
        sock.connect((FAR4, port))
    except OSError:
        sock.close()
        return None
    return sock
