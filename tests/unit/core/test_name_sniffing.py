"""Names from first bytes, in whatever pieces they come."""

from __future__ import annotations

import itertools
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.core import name_sniffing
from network_extension.core.client_hello import ClientHello, read_client_hello
from network_extension.core.name_sniffing import NameSniffer, Sniffed

TCP, UDP = 6, 17
REQUEST = b"GET /path HTTP/1.1\r\nUser-Agent: test\r\nHost: www.example.com\r\n\r\n"


def client_hello(name: str = "www.example.com") -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


HELLO = client_hello()


def fed(pieces: list[bytes], port: int = 443) -> tuple[Sniffed | None, NameSniffer]:
    sniffer, found = NameSniffer(TCP, port), None
    for piece in pieces:
        found = found or sniffer.feed(piece)
    return found, sniffer


def test_a_tls_name() -> None:
    found, sniffer = fed([HELLO])
    assert found is not None
    assert (found.host, found.source, found.url) == ("www.example.com", "tls", None)
    assert sniffer.done


def test_a_hello_over_several_records_and_pieces() -> None:
    body = HELLO[5:]
    cut = b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in (body[:7], body[7:100], body[100:])
    )
    found, _ = fed([bytes([byte]) for byte in cut])
    assert found is not None
    assert found.host == "www.example.com"


def record(part: bytes) -> bytes:
    return b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part


@given(st.lists(st.integers(1, len(HELLO) - 6), max_size=40), st.integers(1, 200))
def test_any_records_in_any_pieces(cuts: list[int], size: int) -> None:
    marks = [0, *sorted(set(cuts)), len(HELLO) - 5]
    stream = b"".join(record(HELLO[5 + low : 5 + high]) for low, high in itertools.pairwise(marks))
    found, _ = fed([stream[at : at + size] for at in range(0, len(stream), size)])
    assert found == fed([HELLO])[0]


def test_records_of_one_byte_cost_no_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """They did: a hello of 64 KiB in such records, a segment each, kept the engine busy for half a minute."""
    looks: list[int] = []

    def counted(data: bytes) -> ClientHello | None:
        looks.append(len(data))
        return read_client_hello(data)

    monkeypatch.setattr(name_sniffing, "read_client_hello", counted)
    found, sniffer = fed([record(bytes([byte])) for byte in b"\1\0\xff\0" + bytes(11000)])
    assert (found, sniffer.done) == (None, True)
    assert len(looks) < 4


@pytest.mark.parametrize(
    "first",
    [
        record(b"\2\0\1\0"),  # a ServerHello
        record(b"\1\1\0\0"),  # a hello of more than 64 KiB
        record(b"\1") + record(b"\0\1\0") + b"GET / HTTP/1.1",
        record(b"\1") + record(b"\0\1\0") + record(b""),
        record(b"\1") + b"\x16\3\1\x40\1",
    ],
)
def test_what_is_no_hello_is_soon_done_with(first: bytes) -> None:
    for pieces in ([first], [bytes([byte]) for byte in first]):
        found, sniffer = fed(pieces)
        assert (found, sniffer.done) == (None, True)


def test_an_http_url() -> None:
    found, _ = fed([REQUEST], 80)
    assert found == Sniffed("www.example.com", "http", "http://www.example.com/path")


@pytest.mark.parametrize("host", ["192.0.2.7", "192.0.2.7:8080", "[2001:db8::7]", "[2001:db8::7]:8080"])
def test_an_address_is_no_name(host: str) -> None:
    """It was one, and a firewall's question about it could not be answered."""
    found, _ = fed([REQUEST.replace(b"www.example.com", host.encode())], 80)
    assert found == Sniffed(None, "http", f"http://{host}/path")


@given(st.lists(st.integers(1, len(REQUEST) - 1), max_size=6))
def test_any_cut_of_a_request(cuts: list[int]) -> None:
    marks = [0, *sorted(set(cuts)), len(REQUEST)]
    found, _ = fed([REQUEST[low:high] for low, high in itertools.pairwise(marks)], 80)
    assert found is not None
    assert found.host == "www.example.com"


@given(st.lists(st.integers(1, len(HELLO) - 1), max_size=6))
def test_any_cut_of_a_hello(cuts: list[int]) -> None:
    marks = [0, *sorted(set(cuts)), len(HELLO)]
    found, _ = fed([HELLO[low:high] for low, high in itertools.pairwise(marks)])
    assert found is not None
    assert found.host == "www.example.com"


def test_single_bytes_of_a_request() -> None:
    found, _ = fed([bytes([byte]) for byte in REQUEST], 80)
    assert found is not None
    assert found.host == "www.example.com"


def test_other_protocols_are_soon_done_with() -> None:
    for first in (b"SSH-2.0-x\r\n", b"\0\0\0\1", b"EHLO example.com\r\n"):
        found, sniffer = fed([first])
        assert (found, sniffer.done) == (None, True)


def test_dns_and_raw_flows_are_not_looked_at() -> None:
    assert NameSniffer(UDP, 53).done
    assert NameSniffer(1, 0).done


@given(st.lists(st.binary(max_size=200), max_size=8), st.sampled_from([TCP, UDP]))
def test_any_bytes_end_in_a_name_or_none(pieces: list[bytes], protocol: int) -> None:
    sniffer = NameSniffer(protocol, 443)
    for piece in pieces:
        sniffer.feed(piece)


def test_memory_is_bounded() -> None:
    sniffer = NameSniffer(TCP, 443)
    sniffer.feed(b"\x16\x03\x01\x40\x00\x01\x00\xff\xff" + bytes(100))
    for _ in range(100):
        sniffer.feed(bytes(16389))
    assert sniffer.done
    assert not sniffer._data
