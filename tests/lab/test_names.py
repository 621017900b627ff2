"""Names: the sandbox's resolver asks the host's servers, and flows are known by the names that they answered."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netlab import FAR4, FAR6, NetLab, wait_for

from .program import Program, provider, running

pytestmark = pytest.mark.lab

SECOND4 = "198.51.100.3"
CONFIGURATION = f"""
no-resolv
no-hosts
keep-in-foreground
port=53
bind-interfaces
user=root
pid-file
address=/web.example/{FAR4}
address=/web.example/{FAR6}
address=/only4.example/{FAR4}
address=/missing.example/
"""


def dnsmasq(lab: NetLab, configuration: Path) -> subprocess.Popen[str]:
    return lab.far.start("dnsmasq", "-C", str(configuration), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def name_server(lab: NetLab, address: str, folder: Path, more: str = "") -> Iterator[subprocess.Popen[str]]:
    """dnsmasq in `far`."""
    large = "\n".join(f"txt-record=large.example,{'x' * 200}{number}" for number in range(30))
    (folder / "dnsmasq.conf").write_text(f"{CONFIGURATION}\nlisten-address={address}\n{large}\n{more}\n")
    server = dnsmasq(lab, folder / "dnsmasq.conf")
    try:
        wait_for(lambda: listens(lab, address), 5, f"a name server at {address}")
        yield server
    finally:
        server.kill()
        server.wait(5)


def listens(lab: NetLab, address: str) -> bool:
    """Whether something answers on TCP port 53."""

    def attempt() -> bool:
        with socket.socket() as sock:
            sock.settimeout(1)
            return sock.connect_ex((address, 53)) == 0

    answer: bool = lab.in_host(lab.far, attempt)
    return answer


@pytest.fixture(scope="module", autouse=True)
def names(lab: NetLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    lab.near.run("ip", "-n", lab.far.name, "addr", "add", f"{SECOND4}/24", "dev", lab.far_device)
    lab.resolv_conf(f"nameserver {FAR4}\noptions timeout:2 attempts:1\n")
    with name_server(lab, FAR4, tmp_path_factory.mktemp("dns")):
        yield
    lab.near.run("ip", "-n", lab.far.name, "addr", "del", f"{SECOND4}/24", "dev", lab.far_device)


@contextmanager
def resolving(lab: NetLab, *servers: str) -> Iterator[Program]:
    """A program in a sandbox of a host with these name servers."""
    lab.resolv_conf("".join(f"nameserver {server}\n" for server in servers) + "options timeout:3 attempts:1\n")
    try:
        with running(lab) as program:
            yield program
    finally:
        lab.resolv_conf(f"nameserver {FAR4}\noptions timeout:2 attempts:1\n")


def lookup(program: Program, name: str) -> list[str]:
    """What getaddrinfo() of another process finds, by getent."""
    status, output, _ = program.call("run", ["getent", "ahosts", name])
    assert status in (0, 2)
    return sorted({line.split()[0] for line in output.decode().splitlines()})


def test_lookups(program: Program) -> None:
    """Both families, and a name that does not exist; the same natively."""
    assert lookup(program, "web.example") == sorted([FAR4, FAR6])
    assert lookup(program, "only4.example") == [FAR4]
    assert lookup(program, "missing.example") == []


def test_the_log_knows_the_name(program: Program, lab: NetLab) -> None:
    """A connection to a looked-up address is logged by the name that was asked for."""
    if program.way == "native":
        pytest.skip("there is no log")
    with lab.far_listener() as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('only4.example', {port})).close()"
        assert program.call("run", ["/usr/bin/python3", "-c", code])[0] == 0
        server.accept()[0].close()
        record = program.flow(port)
    assert record["host"] == "only4.example"
    assert record["remote"] == [FAR4, port]


def test_the_log_in_words(lab: NetLab) -> None:
    """The line for people has the name too, with curl as the program, and curl gets its page."""
    with lab.far_listener() as server:
        port = server.getsockname()[1]
        curl = lab.start("--", "curl", "-sS", "-m", "10", f"http://only4.example:{port}/")
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nthe page")
        output, log = curl.communicate(timeout=10)
    assert output == "the page"
    assert f"→ only4.example:{port} tcp  passed" in log
    assert "curl[" in log


def test_a_provider_sees_the_name(lab: NetLab) -> None:
    """flow.remote_hostname is the name that the program asked for."""
    with running(lab, *provider("telling")) as program:
        code = "import socket; print(socket.create_connection(('only4.example', 7)).recv(100).decode())"
        status, output, complaints = program.call("run", ["/usr/bin/python3", "-c", code])
        assert status == 0, complaints
        assert output.decode().split() == ["only4.example", FAR4, "7", "python3"]


def test_an_answer_too_large_for_udp(program: Program) -> None:
    """The answer comes truncated, is asked for again over TCP, and is whole."""
    status, output, complaints = program.call("run", ["/usr/bin/python3", "-c", LARGE])
    assert (status, output.strip()) == (0, b"True 30"), complaints


LARGE = """
import socket
def skip(data, at):
    while data[at] and data[at] < 192:
        at += data[at] + 1
    return at + (2 if data[at] else 1)
server = next(line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver"))
query = bytes.fromhex("abcd01000001000000000000") + b"\\5large\\7example\\0\\0\\x10\\0\\1"
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(5)
udp.sendto(query, (server, 53))
truncated = bool(udp.recv(65535)[2] & 2)
tcp = socket.create_connection((server, 53), 5)
tcp.sendall(len(query).to_bytes(2, "big") + query)
data = b""
while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
    data += tcp.recv(65535)
print(truncated, int.from_bytes(data[8:10], "big"))
"""


def test_the_second_server_is_asked(lab: NetLab) -> None:
    """The first server refuses: the second answers, without a pause."""
    with resolving(lab, SECOND4, FAR4) as program:
        start = time.monotonic()
        assert lookup(program, "only4.example") == [FAR4]
        assert time.monotonic() - start < 1


def test_a_silent_first_server(lab: NetLab) -> None:
    """The first server says nothing: the second is asked within two seconds."""
    with resolving(lab, "198.51.100.78", FAR4) as program:
        start = time.monotonic()
        assert lookup(program, "only4.example") == [FAR4]
        assert time.monotonic() - start < 4


def test_a_server_that_refuses_to_answer(lab: NetLab, tmp_path: Path) -> None:
    """REFUSED from the first server is no answer: the second is asked, as the C library would do."""
    knowing_nothing = CONFIGURATION.partition("address=")[0]
    (tmp_path / "conf").write_text(f"{knowing_nothing}\nlisten-address={SECOND4}\n")
    server = dnsmasq(lab, tmp_path / "conf")
    wait_for(lambda: listens(lab, SECOND4), 5)
    with resolving(lab, SECOND4, FAR4) as program:
        assert lookup(program, "only4.example") == [FAR4]
    server.kill()
    server.wait(5)


def test_two_dead_servers(lab: NetLab) -> None:
    """Both refuse: the look-up fails at once."""
    with resolving(lab, SECOND4, FAR6) as program:
        start = time.monotonic()
        assert lookup(program, "only4.example") == []
        assert time.monotonic() - start < 1.5


def test_tcp_to_the_second_server(lab: NetLab) -> None:
    """The large answer comes from the second server when the first refuses."""
    with resolving(lab, SECOND4, FAR4) as program:
        status, output, complaints = program.call("run", ["/usr/bin/python3", "-c", LARGE])
        assert (status, output.strip()) == (0, b"True 30"), complaints


def test_no_server_answers(lab: NetLab) -> None:
    """All refuse: the look-up fails at once, and nothing else of the run does."""
    with resolving(lab, SECOND4) as program, lab.far_listener() as server:
        start = time.monotonic()
        assert lookup(program, "only4.example") == []
        assert time.monotonic() - start < 1.5
        with program.socket() as near:
            near.connect(server.getsockname())


def test_over_tcp_no_server_answers(lab: NetLab) -> None:
    """A TCP connection to the resolver ends when the server's cannot be made; it does not hang."""
    with resolving(lab, SECOND4) as program, program.socket() as near:
        near.connect(("192.0.0.1", 53))
        near.sendall(b"\0\x0c" + bytes(12))
        ending = near.begin("recv", 100)
        assert isinstance(ending.exception(5), ConnectionResetError) or ending.result() == b""


def test_nothing_is_asked_twice(lab: NetLab, tmp_path: Path) -> None:
    """Each query of a program reaches the server once, from a port of its own."""
    log = tmp_path / "queries"
    with name_server(lab, SECOND4, tmp_path, f"log-queries\nlog-facility={log}"), resolving(lab, SECOND4) as program:
        lookup(program, "only4.example")
    queries = [line for line in log.read_text().splitlines() if "query[A] only4.example" in line]
    assert len(queries) == 1


def test_the_host_s_resolv_conf_is_untouched(program: Program, lab: NetLab) -> None:
    """Inside, resolv.conf names the runtime's address and keeps the options; the host's file is as it was."""
    inside = program.call("run", ["cat", "/etc/resolv.conf"])[1].decode()
    assert (
        Path(f"/etc/netns/{lab.near.name}/resolv.conf").read_text()
        == f"nameserver {FAR4}\noptions timeout:2 attempts:1\n"
    )
    assert "timeout:2" in inside
    assert (f"nameserver {FAR4}" in inside) == (program.way == "native")
