"""Flows in a provider process, with the test as the engine: decisions, connecting, relaying, reading and writing."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from network_extension import FlowErrorCode
from network_extension.runtime.wire import MessageType as M

from .provider_process import ProviderProcess

REMOTE = ("192.0.2.1", 80)


def provider(handler: str, base: str = "TransparentProxyProvider") -> str:
    lines = handler.strip("\n").splitlines()
    return f"class P({base}):\n" + "\n".join("    " + line for line in lines) + "\n"


def flow_handler(body: str) -> str:
    lines = body.strip("\n").splitlines()
    return provider("async def handle_new_flow(self, flow):\n" + "\n".join("    " + line for line in lines))


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        yield listening


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def take_socket(fds: list[int]) -> socket.socket:
    (fd,) = fds
    sock = socket.socket(fileno=fd)
    sock.settimeout(10)
    return sock


def attach(p: ProviderProcess, flow: int) -> socket.socket:
    """Answer OPEN and ATTACH with one end of a TCP connection; the other end, the program's."""
    p.engine.expect(M.OPEN, flow)
    p.engine.send(M.OPENED, flow)
    p.engine.expect(M.ATTACH, flow)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        program = socket.create_connection(listening.getsockname(), timeout=10)
        ours, _address = listening.accept()
    p.engine.send(M.ATTACHED, flow, None, (ours.fileno(),))
    ours.close()
    return program


# Decisions


@pytest.mark.parametrize("keyword", ["def", "async def"])
@pytest.mark.parametrize(("answer", "kind"), [("True", M.CLAIM), ("False", M.DECLINE)])
def test_an_answer_as_a_value_or_a_coroutine(tmp_path: Path, keyword: str, answer: str, kind: M) -> None:
    with ProviderProcess(tmp_path, provider(f"{keyword} handle_new_flow(self, flow): return {answer}")) as p:
        p.start()
        p.new_flow(1, REMOTE)
        assert p.engine.expect(kind, 1)[2] == {}


@pytest.mark.parametrize("keyword", ["def", "async def"])
@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("return None", "handle_new_flow returned NoneType, not True or False"),
        ("return 1", "handle_new_flow returned int, not True or False"),
        ("raise ValueError('no luck')", "handle_new_flow raised ValueError: no luck (provider_under_test.py:"),
    ],
)
def test_a_wrong_answer_fails_with_one_line(tmp_path: Path, keyword: str, body: str, text: str) -> None:
    with ProviderProcess(tmp_path, provider(f"{keyword} handle_new_flow(self, flow): {body}")) as p:
        p.start()
        p.new_flow(1, REMOTE)
        assert text in p.engine.expect(M.FAIL, 1)[2]["error"]
        log = p.main.expect(M.LOG)[2]
        assert text in log["text"] and "\n" not in log["text"] and log["level"] == "error"


def test_the_traceback_comes_with_debug(tmp_path: Path) -> None:
    with ProviderProcess(tmp_path, provider("def handle_new_flow(self, flow): 1/0"), debug="true") as p:
        p.start()
        p.new_flow(1, REMOTE)
        assert "Traceback" in p.main.expect(M.LOG)[2]["text"]


def test_udp_goes_to_its_own_handler_if_there_is_one(tmp_path: Path) -> None:
    source = provider("""
def handle_new_flow(self, flow): return False
def handle_new_udp_flow(self, flow, initial_remote_endpoint): return initial_remote_endpoint.port == 53
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.new_flow(1, ("192.0.2.1", 53), "udp")
        p.engine.expect(M.CLAIM, 1)
        p.new_flow(2, ("192.0.2.1", 54), "udp")
        p.engine.expect(M.DECLINE, 2)
        p.new_flow(3, ("192.0.2.1", 53), "tcp")
        p.engine.expect(M.DECLINE, 3)


def test_what_a_flow_knows(tmp_path: Path) -> None:
    source = provider("""
def handle_new_flow(self, flow):
    process = flow.metadata.process
    self.log(f"{flow!r} from {flow.local_endpoint} {flow.remote_hostname} {flow.metadata.name_source} "
             f"{process.pid} {process.executable} {process.arguments} {process.parents[0].executable} {process.uid} "
             f"{flow.metadata.source_app_signing_identifier} {flow.is_bound} {flow.network_interface}")
    return False
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.new_flow(9, ("2001:db8::1", 443), host="www.example.com", name_source="dns", interface="eth9")
        assert p.main.expect(M.LOG)[2]["text"] == (
            "<TCPFlow 9 to www.example.com:443, not open> from 10.0.0.2:40000 www.example.com dns "
            "4711 /usr/bin/curl ('curl', '-sS') /sbin/init 1000 curl True eth9"
        )


def test_a_hanging_flow_holds_no_other(tmp_path: Path) -> None:
    source = flow_handler("await asyncio.sleep(60 if flow.id == 1 else 0)\nreturn True")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.new_flow(1, REMOTE)
        for flow in range(2, 50):
            p.new_flow(flow, REMOTE)
        for flow in range(2, 50):
            p.engine.expect(M.CLAIM, flow, timeout=2)
        assert all(message[1] != 1 for message in p.engine.quiet())


# Connecting and relaying


def test_connect_open_relay(tmp_path: Path, server: socket.socket) -> None:
    source = flow_handler("""
remote = await flow.connect()
await flow.open()
result = await flow.relay(remote)
self.log(f"{result} {remote.fileno()}")
return True
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.new_flow(1, server.getsockname())
        p.engine.expect(M.CLAIM, 1)
        p.engine.expect(M.OPEN, 1)
        p.engine.send(M.OPENED, 1)
        far, _address = server.accept()
        with far, take_socket(p.engine.expect(M.RELAY, 1)[3]) as handed:
            handed.sendall(b"through the handed socket")
            assert far.recv(100) == b"through the handed socket"
        p.engine.send(M.CLOSED, 1, {"error": 0, "errno": 0, "in": 12, "out": 25, "reason": ""})
        assert p.main.expect(M.LOG)[2]["text"] == "RelayResult(bytes_in=12, bytes_out=25, error=None, reason='') -1"


def test_a_relay_that_breaks_is_a_result_one_that_never_began_an_error(tmp_path: Path, server: socket.socket) -> None:
    source = flow_handler("""
remote = await flow.connect()
if flow.id == 1:
    await flow.open()
try:
    self.log(str((await flow.relay(remote)).error))
except FlowError as error:
    self.log(f"{error.code.name}: {error}")
return True
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        for flow, expected in ((1, "2"), (2, "PEER_RESET: reset by the program")):
            p.new_flow(flow, server.getsockname())
            if flow == 1:
                p.engine.expect(M.OPEN, flow)
                p.engine.send(M.OPENED, flow)
            take_socket(p.engine.expect(M.RELAY, flow)[3]).close()
            answer = {"error": 2, "errno": 104, "in": 0, "out": 0, "reason": "reset by the program"}
            p.engine.send(M.CLOSED, flow, answer)
            assert p.main.expect(M.LOG)[2]["text"] == expected


def test_refused_reaches_the_program_and_the_log(tmp_path: Path) -> None:
    with ProviderProcess(tmp_path, flow_handler("await flow.connect()\nreturn True")) as p:
        p.start()
        port = closed_port()
        p.new_flow(1, ("127.0.0.1", port))
        p.engine.expect(M.CLAIM, 1)
        reason = f"connect to 127.0.0.1:{port}: Connection refused"
        expected = {"error": FlowErrorCode.REFUSED, "direction": "both", "reason": reason}
        assert p.engine.expect(M.CLOSE, 1)[2] == expected
        log = p.main.expect(M.LOG)[2]
        assert log["level"] == "info" and reason in log["text"]


@pytest.mark.parametrize(
    ("call", "code", "text"),
    [
        ("connect('255.255.255.255', 80)", "NETWORK_UNREACHABLE", "Network is unreachable"),
        ("connect(interface='nosuchif0')", "INVALID_ARGUMENT", "interface nosuchif0: No such device"),
        ("connect(local_address='192.0.2.77')", "INVALID_ARGUMENT", "local address 192.0.2.77: Cannot assign"),
        ("connect('no-such-name.invalid', 80)", "HOST_UNREACHABLE", "resolve no-such-name.invalid"),
        ("relay(None)", "INVALID_ARGUMENT", "needs an open plain SOCK_STREAM socket"),
        ("relay(socket.socket(type=socket.SOCK_DGRAM))", "INVALID_ARGUMENT", "needs an open plain SOCK_STREAM socket"),
        ("read()", "NOT_CONNECTED", "flow 1 is not open; call flow.open() first"),
        ("write(b'x')", "NOT_CONNECTED", "flow 1 is not open"),
    ],
)
def test_what_cannot_be_done(tmp_path: Path, server: socket.socket, call: str, code: str, text: str) -> None:
    source = "import socket\n" + flow_handler(f"""
try:
    await flow.{call}
except FlowError as error:
    self.log(f"{{error.code.name}}: {{error}}")
return False
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.new_flow(1, server.getsockname())
        said = p.main.expect(M.LOG)[2]["text"]
        assert said.startswith(f"{code}: ") and text in said


def test_a_time_limit_on_connect(tmp_path: Path) -> None:
    with socket.socket() as full:  # a listener whose queue is full swallows SYNs
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        hold = [socket.socket() for _ in range(4)]
        for sock in hold:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        source = flow_handler("await flow.connect(timeout=0.2)\nreturn True")
        with ProviderProcess(tmp_path, source) as p:
            p.start()
            p.new_flow(1, full.getsockname())
            assert p.engine.expect(M.CLOSE, 1)[2]["error"] == FlowErrorCode.TIMED_OUT
            assert "not within 0.2 s" in p.main.expect(M.LOG)[2]["text"]
        for sock in hold:
            sock.close()


def test_a_name_with_a_dead_address_first(tmp_path: Path, server: socket.socket) -> None:
    source = "import socket\nfrom network_extension import connecting\n" + flow_handler("""
async def found(host, port, local):
    return ["::1", "127.0.0.2", "127.0.0.1"]
connecting.resolve = found
remote = await flow.connect("two.example", self.configuration["port"])
self.log(str(remote.getpeername()[0]))
remote.close()
return True
""")
    with ProviderProcess(tmp_path, source, port=server.getsockname()[1]) as p:
        p.start()
        p.new_flow(1, REMOTE)
        assert p.main.expect(M.LOG)[2]["text"] == "127.0.0.1"


def test_false_after_a_claim_closes_the_flow(tmp_path: Path, server: socket.socket) -> None:
    source = flow_handler("(await flow.connect()).close()\nreturn False")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.new_flow(1, server.getsockname())
        assert p.engine.expect(M.CLOSE, 1)[2]["error"] == FlowErrorCode.ABORTED
        assert "returned False after it had claimed" in p.main.expect(M.LOG)[2]["text"]


def test_an_exception_after_a_claim_closes_with_its_error(tmp_path: Path, server: socket.socket) -> None:
    source = flow_handler("(await flow.connect()).close()\nraise [OSError(110, 'slow'), KeyError('k')][flow.id - 1]")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        for flow, code in ((1, FlowErrorCode.TIMED_OUT), (2, FlowErrorCode.INTERNAL)):
            p.new_flow(flow, server.getsockname())
            assert p.engine.expect(M.CLOSE, flow)[2]["error"] == code
            assert "handle_new_flow raised" in p.main.expect(M.LOG)[2]["text"]


@pytest.mark.parametrize(("error", "code"), [("", 0), ("FlowErrorCode.HOST_UNREACHABLE", 3), ("OSError(111, 'x')", 6)])
def test_refusing_with_an_error_of_ones_own(tmp_path: Path, error: str, code: int) -> None:
    source = provider(f"def handle_new_flow(self, flow):\n    flow.close({error})\n    return True")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.engine.expect(M.HELLO)
        p.new_flow(1, REMOTE)
        reason = {"reason": "[Errno 111] x"} if error.startswith("OSError") else {}
        assert p.engine.expect(M.CLOSE, 1)[2] == {"error": code, "direction": "both"} | reason
        assert p.engine.quiet() == []


def test_the_program_gives_up_while_the_provider_decides(tmp_path: Path) -> None:
    source = flow_handler("""
await asyncio.sleep(0.2)
try:
    await flow.connect()
except FlowError as error:
    self.log(f"{error.code.name} {error}")
    raise
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.engine.expect(M.HELLO)
        p.new_flow(1, REMOTE)
        p.engine.send(M.CLOSED, 1, {"error": 5, "errno": 103, "in": 0, "out": 0, "reason": "the program gave up"})
        assert p.main.expect(M.LOG)[2]["text"] == "ABORTED the program gave up"
        assert p.engine.quiet() == [] and p.main.quiet() == []  # nobody is left to tell


def test_stop_leaves_running_relays_to_the_engine(tmp_path: Path, server: socket.socket) -> None:
    source = flow_handler("""
await flow.relay(await flow.connect())
return True
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.new_flow(1, server.getsockname())
        with take_socket(p.engine.expect(M.RELAY, 1)[3]):
            began = time.monotonic()
            assert p.stop(grace=5) == 0
            assert time.monotonic() - began < 2
            assert [m[0] for m in p.engine.quiet() if m[0] is M.CLOSE] == []


# Reading and writing


def test_read_write_and_half_close(tmp_path: Path) -> None:
    source = flow_handler("""
await flow.open()
head = await flow.read_exactly(4)
await flow.write(head.upper())
async for chunk in flow:
    await flow.write(chunk)
await flow.write(b"<end>")
flow.close_write()
self.log("wrote")
return True
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.new_flow(1, REMOTE)
        with attach(p, 1) as program:
            program.sendall(b"headbody")
            assert program.recv(4) == b"HEAD"
            program.sendall(b"y" * 1_000_000)
            program.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := program.recv(65536):
                received += chunk
            assert received == b"body" + b"y" * 1_000_000 + b"<end>"
            assert p.engine.expect(M.CLOSE, 1)[2] == {"error": 0, "direction": "write"}


def test_write_waits_for_a_program_that_does_not_read(tmp_path: Path) -> None:
    source = flow_handler("""
await flow.open()
await asyncio.gather(*(flow.write(letter * 5_000_000) for letter in (b"a", b"b")))
self.log("written")
flow.close()
return True
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.new_flow(1, REMOTE)
        with attach(p, 1) as program:
            assert p.main.quiet(0.3) == []
            received = b""
            while chunk := program.recv(1 << 20):
                received += chunk
            assert received == b"a" * 5_000_000 + b"b" * 5_000_000
            assert p.main.expect(M.LOG)[2]["text"] == "written"


def test_a_second_read_and_a_close_under_a_read(tmp_path: Path) -> None:
    source = flow_handler("""
await flow.open()
first = asyncio.ensure_future(flow.read())
await asyncio.sleep(0.1)
try:
    await flow.read()
except FlowError as error:
    self.log(error.code.name)
flow.close()
try:
    await first
except FlowError as error:
    self.log(error.code.name)
try:
    await flow.write(b"x")
except FlowError as error:
    self.log(str(error))
return True
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.new_flow(1, REMOTE)
        with attach(p, 1):
            texts = [p.main.expect(M.LOG)[2]["text"] for _ in range(3)]
        assert texts == ["READ_ALREADY_PENDING", "ABORTED", "flow 1 has been closed"]


def test_sniff_then_relay(tmp_path: Path, server: socket.socket) -> None:
    source = "import socket\n" + flow_handler("""
await flow.open()
hello = await flow.read()
remote = await flow.connect("127.0.0.1", self.configuration["port"])
await asyncio.get_running_loop().sock_sendall(remote, hello)
await flow.relay(remote)
return True
""")
    with ProviderProcess(tmp_path, source, port=server.getsockname()[1]) as p:
        p.start()
        p.new_flow(1, REMOTE)
        with attach(p, 1) as program:
            program.sendall(b"client hello")
            far, _address = server.accept()
            assert far.recv(100) == b"client hello"
            take_socket(p.engine.expect(M.RELAY, 1)[3]).close()
            far.close()
            assert program.recv(1) == b""  # the provider kept no copy of the program's side (the engine has none here)


def test_a_reset_by_the_program(tmp_path: Path) -> None:
    source = flow_handler("await flow.open()\nawait flow.read()\nreturn True")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.new_flow(1, REMOTE)
        program = attach(p, 1)
        program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        program.close()
        assert p.engine.expect(M.CLOSE, 1)[2]["error"] == FlowErrorCode.PEER_RESET


def test_an_open_that_fails(tmp_path: Path) -> None:
    source = flow_handler("await flow.open(Endpoint('10.0.0.9', 1234))\nreturn True")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.new_flow(1, REMOTE)
        assert p.engine.expect(M.OPEN, 1)[2] == {"local": ["10.0.0.9", 1234]}
        p.engine.send(M.ERROR, 1, {"error": 4, "reason": "10.0.0.9 is not an address here", "for": int(M.OPEN)})
        assert p.engine.expect(M.CLOSE, 1)[2]["error"] == FlowErrorCode.INVALID_ARGUMENT
        assert "10.0.0.9 is not an address here" in p.main.expect(M.LOG)[2]["text"]


# UDP


class Program:
    """The program's UDP socket, and the engine's way to make PEER sockets for it."""

    def __init__(self) -> None:
        self.sock = socket.socket(type=socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(10)

    def peer(self, p: ProviderProcess, flow: int, remote: tuple[str, int]) -> tuple[str, int]:
        """PEER for `remote`; where the program sends to so that it arrives there."""
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.connect(self.sock.getsockname())
            p.engine.send(M.PEER, flow, {"remote": list(remote)}, (sock.fileno(),))
            host, port = sock.getsockname()
            return host, port


UDP_ECHO = """
await flow.open()
while datagrams := await flow.read_datagrams():
    self.log(" ".join(f"{data.decode()}@{to}" for data, to in datagrams))
    await flow.write_datagrams([(data.upper(), to) for data, to in datagrams])
self.log("eof")
flow.close()
return True
"""


def open_udp(p: ProviderProcess, flow: int, remote: tuple[str, int] = ("192.0.2.1", 7)) -> None:
    p.new_flow(flow, remote, "udp")
    p.engine.expect(M.OPEN, flow)
    p.engine.send(M.OPENED, flow)
    p.engine.expect(M.ATTACH, flow)
    p.engine.send(M.ATTACHED, flow)


def test_datagrams_keep_their_endpoints(tmp_path: Path) -> None:
    program = Program()
    with ProviderProcess(tmp_path, flow_handler(UDP_ECHO)) as p, program.sock:
        p.start()
        open_udp(p, 1)
        for remote in (("192.0.2.1", 7), ("198.51.100.2", 9)):
            via = program.peer(p, 1, remote)
            for data in (b"one", b"two"):
                program.sock.sendto(data, via)
                assert program.sock.recvfrom(100) == (data.upper(), via)
                assert p.main.expect(M.LOG)[2]["text"] == f"{data.decode()}@{remote[0]}:{remote[1]}"
        p.engine.send(M.UDP_EOF, 1)
        assert p.main.expect(M.LOG)[2]["text"] == "eof"
        assert p.engine.expect(M.CLOSE, 1)[2] == {"error": 0, "direction": "both"}


@pytest.mark.parametrize(
    ("datagram", "code", "text"),
    [
        (
            "(bytes(65508), Endpoint('192.0.2.1', 7))",
            "DATAGRAM_TOO_LARGE",
            "65508 bytes from 192.0.2.1:7: at most 65507",
        ),
        ("(b'x', Endpoint('dns.example', 53))", "INVALID_ARGUMENT", "dns.example:53 is a name"),
        ("(b'x', Endpoint('2001:db8::1', 53))", "INVALID_ARGUMENT", "[2001:db8::1]:53 is not of the flow's family"),
        ("(b'x', Endpoint('224.0.0.1', 53))", "INVALID_ARGUMENT", "224.0.0.1:53 is no unicast address"),
        ("(b'x', Endpoint('192.0.2.1', 0))", "INVALID_ARGUMENT", "192.0.2.1:0 needs a port"),
        ("(b'x', Endpoint('192.0.2.9', 5))", "HOST_UNREACHABLE", "no such source"),
    ],
)
def test_a_wrong_datagram_is_named(tmp_path: Path, datagram: str, code: str, text: str) -> None:
    program = Program()
    source = flow_handler(f"""
await flow.open()
try:
    await flow.write_datagrams([(b"good", flow.remote_endpoint), {datagram}])
except FlowError as error:
    self.log(f"{{error.code.name}} {{error}}")
return True
""")
    with ProviderProcess(tmp_path, source) as p, program.sock:
        p.start()
        p.new_flow(1, ("192.0.2.1", 7), "udp")
        p.engine.expect(M.OPEN, 1)
        p.engine.send(M.OPENED, 1)
        p.engine.expect(M.ATTACH, 1)
        program.peer(p, 1, ("192.0.2.1", 7))
        p.engine.send(M.ATTACHED, 1)
        assert program.sock.recv(10) == b"good"
        if code == "HOST_UNREACHABLE":
            request = p.engine.expect(M.PEER_REQUEST, 1)[2]
            p.engine.send(M.ERROR, 1, request | {"error": 3, "reason": "no such source", "for": int(M.PEER_REQUEST)})
        said = p.main.expect(M.LOG)[2]["text"]
        assert said.startswith(code) and text in said


def test_a_source_that_the_program_never_sent_to(tmp_path: Path) -> None:
    program = Program()
    source = flow_handler("""
await flow.open()
await flow.write_datagrams([(b"a", Endpoint("198.51.100.7", 99)), (bytes(60000), Endpoint("198.51.100.7", 99))])
return True
""")
    with ProviderProcess(tmp_path, source) as p, program.sock:
        p.start()
        open_udp(p, 1)
        assert p.engine.expect(M.PEER_REQUEST, 1)[2] == {"remote": ["198.51.100.7", 99]}
        via = program.peer(p, 1, ("198.51.100.7", 99))
        assert program.sock.recvfrom(100) == (b"a", via)
        assert len(program.sock.recv(65536)) == 60000


def test_udp_connect_is_bound_and_leaves_icmp_errors_to_the_relay(tmp_path: Path) -> None:
    source = "import socket\n" + provider("""
async def handle_new_udp_flow(self, flow, endpoint):
    remote = await flow.connect() if flow.id == 1 else await flow.connect("127.0.0.1", 9)
    try:
        self.log(f"connected to {remote.getpeername()}")
    except OSError:
        self.log(f"{remote.getsockname()[1] > 0} {remote.getsockopt(socket.IPPROTO_IP, 11)}")
    await flow.relay(remote)
    return True
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        for flow, text in ((1, "True 0"), (2, "connected to ('127.0.0.1', 9)")):
            p.new_flow(flow, ("127.0.0.1", 7), "udp")
            assert p.main.expect(M.LOG)[2]["text"] == text
            with take_socket(p.engine.expect(M.RELAY, flow)[3]) as sock:
                assert sock.type == socket.SOCK_DGRAM


# Faults of the engine


def test_nonsense_from_the_engine_is_logged_and_survived(tmp_path: Path) -> None:
    with ProviderProcess(tmp_path, flow_handler("await flow.open()\nreturn True")) as p:
        p.start()
        p.engine.expect(M.HELLO)
        p.new_flow(1, REMOTE)
        p.engine.expect(M.OPEN, 1)
        for kind, body in (
            (M.NEW_FLOW, {"proto": "sctp"}),
            (M.NEW_FLOW, {"proto": "tcp", "local": 1}),
            (M.CLOSED, {"error": "x"}),
            (M.PEER, {}),
            (M.HELLO, {}),
        ):
            p.engine.send(kind, 1 if kind is not M.NEW_FLOW else 5, body)
            assert kind.name in p.main.expect(M.LOG)[2]["text"]
        for kind in (M.OPENED, M.CLOSED, M.ATTACHED, M.ERROR, M.UDP_EOF):
            p.engine.send(kind, 99, {})  # flows that are not, or no longer, there
        p.engine.send(M.OPENED, 1)
        p.main.send(M.PING)
        p.main.expect(M.PONG)
        assert p.main.quiet() == []


def test_descriptors_do_not_leak(tmp_path: Path, server: socket.socket) -> None:
    source = flow_handler("await flow.open()\nawait flow.relay(await flow.connect())\nreturn True")
    with ProviderProcess(tmp_path, source) as p:
        p.start()

        def count() -> int:
            return len(os.listdir(f"/proc/{p.process.pid}/fd"))

        before = count()
        for flow in range(1, 51):
            p.new_flow(flow, server.getsockname())
            p.engine.expect(M.OPEN, flow)
            p.engine.send(M.OPENED, flow)
            take_socket(p.engine.expect(M.RELAY, flow)[3]).close()
            server.accept()[0].close()
        assert count() <= before + 1


@pytest.mark.parametrize("call", ["read()", "write_datagrams([(b'x', Endpoint('192.0.2.1', 7))])"])
def test_a_descriptor_that_was_lost_costs_one_request(tmp_path: Path, call: str) -> None:
    source = flow_handler(f"""
await flow.open()
try:
    await flow.{call}
except FlowError as error:
    self.log(str(error))
return True
""")
    with ProviderProcess(tmp_path, source) as p:
        p.start()
        p.new_flow(1, ("192.0.2.1", 7), "tcp" if call == "read()" else "udp")
        p.engine.expect(M.OPEN, 1)
        p.engine.send(M.OPENED, 1)
        p.engine.expect(M.ATTACH, 1)
        p.engine.send(M.ATTACHED, 1)
        if call != "read()":
            p.engine.expect(M.PEER_REQUEST, 1)
            p.engine.send(M.PEER, 1, {"remote": ["192.0.2.1", 7]})
        assert "the limit of open files may be reached" in p.main.expect(M.LOG)[2]["text"]
