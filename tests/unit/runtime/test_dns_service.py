"""The sandbox's name server between a client and upstream servers, all real sockets of the loopback interface.

The test is the client and the servers, so each test is a trace: who is asked, who answers, what the client gets.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.core.host_names import HostNames
from network_extension.linux.sockets import Address
from network_extension.runtime import dns_service
from network_extension.runtime.dns_service import DNSService, _AnswerReader
from tests.unit.linux.driving import Driver, driving

ADDRESS = "192.0.2.80"


def query(name: str = "example.com.", number: int = 4711) -> bytes:
    return dns.message.make_query(name, "A", id=number).to_wire()


def answer(to: bytes, *, rcode: int = 0, number: int | None = None, address: str = ADDRESS) -> bytes:
    """The answer to a query; with another id it is one that nobody asked for."""
    asked = dns.message.from_wire(to)
    reply = dns.message.make_response(asked)
    reply.set_rcode(dns.rcode.Rcode(rcode))
    if not rcode:
        reply.answer.append(dns.rrset.from_text(asked.question[0].name, 300, "IN", "A", address))
    if number is not None:
        reply.id = number
    return reply.to_wire()


def framed(message: bytes) -> bytes:
    """As in a TCP stream."""
    return len(message).to_bytes(2, "big") + message


class Server:
    """An upstream server: a UDP socket, and a TCP listener at the same port."""

    def __init__(self, stage: Stage, host: str = "127.0.0.1") -> None:
        self.stage = stage
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.tcp = socket.create_server((host, 0), family=family)
        self.udp = socket.socket(family, socket.SOCK_DGRAM)
        self.udp.bind((host, self.tcp.getsockname()[1]))
        for sock in (self.udp, self.tcp):
            sock.setblocking(False)
        self.address: Address = (host, self.tcp.getsockname()[1])
        self.client: tuple[str, int] = ("", 0)

    def hears(self) -> bytes:
        """The next query; `client` is who sent it."""
        data, self.client = self.stage.receives(self.udp)
        return data

    def hears_nothing(self) -> None:
        self.stage.receives_nothing(self.udp)

    def says(self, data: bytes) -> None:
        self.udp.sendto(data, self.client)

    def accepts(self) -> socket.socket:
        connection: list[socket.socket] = []

        def accept() -> bool:
            try:
                connection.append(self.tcp.accept()[0])
            except BlockingIOError:
                return False
            return True

        self.stage.driver.until(accept)
        connection[0].setblocking(False)
        return connection[0]

    def refuses(self) -> None:
        """From now on nobody listens there."""
        self.udp.close()
        self.tcp.close()


class Stage:
    """The service, its client, and its servers."""

    def __init__(self, driver: Driver, servers: int, host: str = "127.0.0.1") -> None:
        self.driver, self.names = driver, HostNames()
        self.servers = [Server(self, host) for _ in range(servers)]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.udp.bind(("127.0.0.1", 0))
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.tcp.setblocking(False)
        self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.client.connect(self.udp.getsockname())
        addresses = [server.address for server in self.servers]
        self.service = DNSService(driver.reactor, self.udp, self.tcp, addresses, self.names)
        self.streams: list[socket.socket] = []

    def receives(self, sock: socket.socket) -> tuple[bytes, tuple[str, int]]:
        found: list[tuple[bytes, tuple[str, int]]] = []

        def receive() -> bool:
            try:
                found.append(sock.recvfrom(65535))
            except BlockingIOError:
                return False
            return True

        self.driver.until(receive)
        return found[0]

    def receives_nothing(self, sock: socket.socket) -> None:
        self.driver.quiet(0.01)
        with pytest.raises(BlockingIOError):
            sock.recv(1)

    def client_hears(self) -> bytes:
        return self.receives(self.client)[0]

    def connects(self) -> socket.socket:
        """The client's TCP connection."""
        self.streams.append(socket.create_connection(self.tcp.getsockname()))
        self.streams[-1].setblocking(False)
        return self.streams[-1]

    def stream_hears(self, sock: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self.receives(sock)[0]):
            data += more
        return data

    def knows(self, address: str = ADDRESS) -> str | None:
        found = self.names.lookup(socket.inet_aton(address), self.driver.reactor.clock())
        return found[0] if found else None

    def close(self) -> None:
        self.service.close()
        for server in self.servers:
            server.refuses()
        for sock in (self.udp, self.tcp, self.client, *self.streams):
            sock.close()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_service, "RETRY_AFTER", 0.02)
    monkeypatch.setattr(dns_service, "GIVE_UP_AFTER", 0.04)


@pytest.fixture
def driver() -> Iterator[Driver]:
    with driving() as driver:
        yield driver


@pytest.fixture
def stage(driver: Driver) -> Iterator[Stage]:
    """With two servers. No descriptor is left at the end."""
    before = len(os.listdir("/proc/self/fd"))
    stage = Stage(driver, 2)
    yield stage
    stage.close()
    assert len(os.listdir("/proc/self/fd")) == before


class TestDatagrams:
    def test_asked_answered_learned(self, stage: Stage) -> None:
        first, second = stage.servers
        stage.client.send(query())
        assert first.hears() == query()
        first.says(answer(query()))
        assert stage.client_hears() == answer(query())
        assert stage.knows() == "example.com"
        second.hears_nothing()
        assert stage.service.queries == 1

    def test_an_ipv6_server(self, driver: Driver) -> None:
        if not socket.has_dualstack_ipv6():
            pytest.skip("no IPv6 here")
        stage = Stage(driver, 1, "::1")
        stage.client.send(query())
        stage.servers[0].hears()
        stage.servers[0].says(answer(query()))
        assert stage.client_hears() == answer(query())
        stage.close()

    def test_each_query_has_a_port_of_its_own(self, stage: Stage) -> None:
        """RFC 5452 section 9.2: who answers without having been asked has to guess it."""
        ports = set()
        for number in range(10):
            stage.client.send(query(number=number))
            stage.servers[0].hears()
            ports.add(stage.servers[0].client[1])
        assert len(ports) == 10

    def test_many_at_once_answered_out_of_order(self, stage: Stage) -> None:
        first = stage.servers[0]
        asked = []
        for number in range(50):
            stage.client.send(query(f"host-{number}.example.", number))
            asked.append((first.hears(), first.client))
        for data, client in reversed(asked):
            first.udp.sendto(answer(data), client)
        heard = {dns.message.from_wire(stage.client_hears()).id for _ in range(50)}
        assert heard == set(range(50))

    @pytest.mark.parametrize("wrong", [answer(query(), number=1), b"", b"\x12\x67", query()[:3]])
    def test_what_is_no_answer_to_it_is_ignored(self, stage: Stage, wrong: bytes) -> None:
        stage.client.send(query())
        stage.servers[0].hears()
        stage.servers[0].says(wrong)
        stage.servers[0].says(answer(query()))
        assert stage.client_hears() == answer(query())

    def test_an_answer_from_elsewhere_never_arrives(self, stage: Stage) -> None:
        stage.client.send(query())
        stage.servers[0].hears()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(answer(query(), address="198.51.100.1"), stage.servers[0].client)
        stage.servers[0].says(answer(query()))
        assert stage.client_hears() == answer(query())
        assert stage.knows("198.51.100.1") is None

    def test_garbage_with_the_right_id_goes_through_and_teaches_nothing(self, stage: Stage) -> None:
        """It is the program's resolver that has to judge it."""
        garbage = answer(query())[:-6]
        stage.client.send(query())
        stage.servers[0].hears()
        stage.servers[0].says(garbage)
        assert stage.client_hears() == garbage
        assert len(stage.names) == 0

    @pytest.mark.parametrize("garbage", [b"", b"x", b"\xff" * 11, answer(query())])
    def test_garbage_for_a_query_is_passed_on_and_gets_no_answer_of_ours(self, stage: Stage, garbage: bytes) -> None:
        stage.client.send(garbage)
        for server in stage.servers:
            assert server.hears() == garbage
        stage.driver.until(lambda: not stage.service._queries)
        stage.receives_nothing(stage.client)

    def test_there_is_a_limit(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        assert dns_service.MOST_QUERIES == 1024
        monkeypatch.setattr(dns_service, "MOST_QUERIES", 3)
        monkeypatch.setattr(dns_service, "RETRY_AFTER", 5.0)
        asked = []
        for number in range(5):
            stage.client.send(query(number=number))
        for _ in range(3):
            asked.append((stage.servers[0].hears(), stage.servers[0].client))
        stage.servers[0].hears_nothing()
        assert stage.service.queries == 5
        stage.servers[0].udp.sendto(answer(asked[0][0]), asked[0][1])
        stage.client_hears()
        stage.client.send(query(number=9))
        assert stage.servers[0].hears() == query(number=9)


class TestOtherServers:
    def test_a_silent_one_then_the_next(self, stage: Stage) -> None:
        first, second = stage.servers
        stage.client.send(query())
        first.hears()
        assert second.hears() == query()
        second.says(answer(query()))
        assert stage.client_hears() == answer(query())

    def test_the_first_answer_wins_whoever_gives_it(self, stage: Stage) -> None:
        """The first server was slow, not dead. What the second one says then is not heard any more."""
        first, second = stage.servers
        stage.client.send(query())
        first.hears(), second.hears()
        first.says(answer(query(), address="192.0.2.1"))
        assert stage.client_hears() == answer(query(), address="192.0.2.1")
        second.says(answer(query(), address="192.0.2.2"))
        stage.receives_nothing(stage.client)
        assert stage.knows("192.0.2.2") is None

    def test_one_where_nobody_listens(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """The kernel says so at once: no need to wait."""
        monkeypatch.setattr(dns_service, "RETRY_AFTER", 60.0)
        stage.servers[0].refuses()
        stage.client.send(query())
        stage.servers[1].hears()
        stage.servers[1].says(answer(query()))
        assert stage.client_hears() == answer(query())

    @pytest.mark.parametrize("rcode", [2, 4, 5], ids=["SERVFAIL", "NOTIMP", "REFUSED"])
    def test_one_that_cannot(self, stage: Stage, monkeypatch: pytest.MonkeyPatch, rcode: int) -> None:
        monkeypatch.setattr(dns_service, "RETRY_AFTER", 60.0)
        first, second = stage.servers
        stage.client.send(query())
        first.hears()
        first.says(answer(query(), rcode=rcode))
        second.hears()
        second.says(answer(query()))
        assert stage.client_hears() == answer(query())

    def test_no_such_name_is_an_answer(self, stage: Stage) -> None:
        stage.client.send(query())
        stage.servers[0].hears()
        stage.servers[0].says(answer(query(), rcode=3))
        assert stage.client_hears() == answer(query(), rcode=3)
        stage.servers[1].hears_nothing()

    def test_better_a_bad_answer_than_none(self, stage: Stage) -> None:
        first, second = stage.servers
        stage.client.send(query())
        first.hears()
        first.says(answer(query(), rcode=5))
        second.hears()
        assert stage.client_hears() == answer(query(), rcode=5)

    def test_both_cannot(self, stage: Stage) -> None:
        stage.client.send(query())
        for server, rcode in zip(stage.servers, (4, 5), strict=True):
            server.hears()
            server.says(answer(query(), rcode=rcode))
        assert stage.client_hears() == answer(query(), rcode=5)

    @pytest.mark.parametrize("refused", [False, True], ids=["silent", "refused"])
    def test_nobody_answers(self, stage: Stage, refused: bool) -> None:
        if refused:
            for server in stage.servers:
                server.refuses()
        stage.client.send(query())
        reply = dns.message.from_wire(stage.client_hears())
        assert (reply.id, reply.rcode()) == (4711, dns.rcode.SERVFAIL)
        assert reply.question == dns.message.from_wire(query()).question
        assert reply.flags & dns.flags.QR and not stage.service._queries

    def test_without_servers(self, driver: Driver) -> None:
        stage = Stage(driver, 0)
        stage.client.send(query())
        assert dns.message.from_wire(stage.client_hears()).rcode() == dns.rcode.SERVFAIL
        assert stage.receives(stage.connects())[0] == b""
        stage.close()

    def test_an_address_that_cannot_be_reached(self, driver: Driver) -> None:
        """A socket that cannot even be connected: the next server is asked at once."""
        stage = Stage(driver, 1)
        stage.service.servers = [("255.255.255.255", 53), stage.servers[0].address]
        stage.client.send(query())
        stage.servers[0].hears()
        stage.servers[0].says(answer(query()))
        assert stage.client_hears() == answer(query())
        stage.close()

    def test_close_forgets_what_is_on_its_way(self, stage: Stage) -> None:
        for number in range(3):
            stage.client.send(query(number=number))
            stage.servers[0].hears()
        stage.service.close()
        assert not stage.service._queries
        stage.servers[1].hears_nothing()
        stage.driver.quiet(0.05)
        stage.receives_nothing(stage.client)


class TestStreams:
    def test_asked_answered_learned(self, stage: Stage) -> None:
        """Two questions on one connection, the answers in pieces that end anywhere."""
        client = stage.connects()
        upstream = stage.servers[0].accepts()
        client.send(framed(query(number=1)) + framed(query("other.example.", 2)))
        questions = framed(query(number=1)) + framed(query("other.example.", 2))
        assert stage.stream_hears(upstream, len(questions)) == questions
        answers = framed(answer(query(number=1))) + framed(answer(query("other.example.", 2), address="192.0.2.81"))
        for piece in (answers[:1], answers[1:40], answers[40:-3], answers[-3:]):
            upstream.send(piece)
            assert stage.stream_hears(client, len(piece)) == piece
        assert (stage.knows(), stage.knows("192.0.2.81")) == ("example.com", "other.example")
        upstream.close()
        assert stage.receives(client)[0] == b""
        client.shutdown(socket.SHUT_WR)
        stage.driver.quiet(0.005)

    def test_the_client_ends_first(self, stage: Stage) -> None:
        client = stage.connects()
        upstream = stage.servers[0].accepts()
        client.shutdown(socket.SHUT_WR)
        assert stage.receives(upstream)[0] == b""
        upstream.close()
        assert stage.receives(client)[0] == b""

    def test_where_nobody_listens_the_next_one_is_taken(self, stage: Stage) -> None:
        stage.servers[0].refuses()
        client = stage.connects()
        upstream = stage.servers[1].accepts()
        client.send(b"question")
        assert stage.receives(upstream)[0] == b"question"
        upstream.close()
        client.close()
        stage.driver.quiet(0.005)

    def test_where_nobody_listens_at_all(self, stage: Stage) -> None:
        for server in stage.servers:
            server.refuses()
        assert stage.receives(stage.connects())[0] == b""

    def test_at_the_limit_of_open_files_it_waits(self, stage: Stage) -> None:
        """The connection stays in the backlog, the loop does not spin, and it is served when there is room."""
        client = stage.connects()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        batches: list[int] = []
        stage.driver.reactor.after_each_batch(lambda: batches.append(1))
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            stage.driver.quiet(0.03)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(batches) < 100
        upstream = stage.servers[0].accepts()
        upstream.close()
        client.close()
        stage.driver.quiet(0.005)

    def test_no_descriptor_for_the_way_on(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """The client is told by the end of its connection, and asks again."""

        def full(*arguments: object) -> socket.socket:
            raise OSError(errno.EMFILE, "Too many open files")

        program, client = socket.socketpair()
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", full)
            stage.service._connect(program, 0)
        assert client.recv(1) == b""
        client.close()


def learned(stream: bytes, pieces: list[int]) -> list[bytes]:
    """What a reader finds in a stream that comes in pieces of these sizes."""
    found: list[bytes] = []
    reader = _AnswerReader(found.append)
    for size in pieces:
        reader(False, stream[:size])
        stream = stream[size:]
    reader(False, stream)
    return found


class TestAnswerReader:
    def test_split_at_every_byte(self) -> None:
        messages = [answer(query()), b"", b"x", answer(query("other.example."))]
        stream = b"".join(map(framed, messages))
        for at in range(len(stream) + 1):
            assert learned(stream, [at]) == messages
        assert learned(stream, [1] * len(stream)) == messages

    @given(st.lists(st.binary(max_size=50), max_size=6), st.lists(st.integers(0, 40), max_size=10))
    def test_split_anywhere(self, messages: list[bytes], pieces: list[int]) -> None:
        assert learned(b"".join(map(framed, messages)), pieces) == messages

    def test_questions_are_not_read(self) -> None:
        found: list[bytes] = []
        _AnswerReader(found.append)(True, framed(b"question"))
        assert found == []

    def test_a_stream_of_anything_is_not_kept_for_ever(self) -> None:
        """What is kept is a message of 64 KiB at most, and what came with it."""
        reader = _AnswerReader(lambda message: None)
        for _ in range(100):
            reader(False, b"\xff" * 32768)
        assert len(reader._data) <= (1 << 17) + 32768
