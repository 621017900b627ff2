"""ClientHello: those of OpenSSL at every cut, those written by hand, and streams that are no TLS."""

from __future__ import annotations

import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.core.client_hello import MAX_LENGTH, ClientHello, NotTLSError, read_client_hello

TLS12, TLS13 = 0x0303, 0x0304


def openssl_hello(
    name: str | None, protocols: list[str] | None = None, versions: tuple[int, int] = (TLS12, TLS13)
) -> bytes:
    """The first flight of a real client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version, context.maximum_version = map(ssl.TLSVersion, versions)
    if protocols:
        context.set_alpn_protocols(protocols)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">H", kind) + vector(2, data)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, bytes([kind]) + vector(2, name)))


def hello(*extensions: bytes, session: bytes = b"", suites: bytes = b"\x13\x01") -> bytes:
    """A ClientHello message, without records."""
    body = b"\x03\x03" + bytes(32) + vector(1, session) + vector(2, suites) + vector(1, b"\0")
    return b"\x01" + vector(3, body + vector(2, b"".join(extensions)))


def records(message: bytes, size: int = 16384) -> bytes:
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + vector(2, part) for part in parts)


# Real ones


def test_openssl_at_every_cut() -> None:
    stream = openssl_hello("Www.Example.com", ["h2", "http/1.1"])
    expected = ClientHello("www.example.com", ("h2", "http/1.1"), (TLS13, TLS12), False)
    for size in range(len(stream)):
        assert read_client_hello(stream[:size]) is None
    assert read_client_hello(stream) == expected
    assert read_client_hello(stream + b"anything that follows") == expected


def test_openssl_in_records_of_every_size() -> None:
    stream = openssl_hello("www.example.com")
    expected = read_client_hello(stream)
    assert expected is not None
    for size in range(1, len(stream)):
        cut = records(stream[5:], size)
        assert read_client_hello(cut) == expected
        assert read_client_hello(cut[:-1]) is None


def test_openssl_before_tls_1_3() -> None:
    stream = openssl_hello("a.example", versions=(TLS12, TLS12))
    assert read_client_hello(stream) == ClientHello("a.example", (), (TLS12,), False)


def test_a_client_that_names_no_server() -> None:
    parsed = read_client_hello(openssl_hello(None))
    assert parsed is not None
    assert parsed.server_name is None


@given(st.from_regex(r"[a-z0-9_]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,10}){1,5}", fullmatch=True))
def test_every_host_name(name: str) -> None:
    parsed = read_client_hello(records(hello(server_name(name.encode()))))
    assert parsed == ClientHello(name, (), (TLS12,), False)


# By hand


def test_a_hello_without_extensions() -> None:
    message = hello()[4:-2]
    assert read_client_hello(records(b"\x01" + vector(3, message))) == ClientHello(None, (), (TLS12,), False)


def test_grease_is_skipped() -> None:
    # RFC 8701: unknown values that clients strew in, so that nobody chokes on unknown values.
    protocols = extension(16, vector(2, vector(1, b"\x0a\x0a") + vector(1, b"h2") + vector(1, b"\xff")))
    versions = extension(43, vector(1, b"\xda\xda\x03\x04"))
    message = hello(extension(0x1A1A, b""), server_name(b"a.example"), protocols, versions, extension(0xFAFA, b"\0"))
    assert read_client_hello(records(message)) == ClientHello("a.example", ("h2", "\\xff"), (TLS13,), False)


def test_an_encrypted_hello_shows_its_outer_name() -> None:
    message = hello(server_name(b"public.example"), extension(0xFE0D, bytes(100)))
    assert read_client_hello(records(message)) == ClientHello("public.example", (), (TLS12,), True)


def test_a_final_dot_is_not_part_of_a_name() -> None:
    parsed = read_client_hello(records(hello(server_name(b"a.example."))))
    assert parsed is not None
    assert parsed.server_name == "a.example"


def test_a_hello_of_64_kib_is_the_longest() -> None:
    def padded(length: int) -> bytes:
        message = hello(extension(21, b""), server_name(b"a.example"))
        filling = length - len(message) - 4
        return hello(extension(21, b""), server_name(b"a.example"), extension(22, bytes(filling)))

    stream = records(padded(MAX_LENGTH - 5 * 4))
    assert len(stream) == MAX_LENGTH
    assert read_client_hello(stream) is not None
    assert read_client_hello(stream[:-1]) is None
    with pytest.raises(NotTLSError, match="within 65536"):
        read_client_hello(records(padded(MAX_LENGTH - 5 * 4 + 1)))
    with pytest.raises(NotTLSError, match="65537"):
        read_client_hello(records(b"\x01" + (65533).to_bytes(3, "big")))


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"GET / HTTP/1.1\r\n", "47 45"),
        (b"S", "53"),
        (b"\x16\x02", "16 02"),
        (b"\x80\x2e\x01\x03\x01", "80 2e"),  # SSL 2
        (b"\x15\x03\x01\0\2\2\x28", "15 03"),  # an alert
        (b"\x16\x03\x01\0\0", "record of 0"),
        (b"\x16\x03\x01\x40\x01", "record of 16385"),
        (b"\x16\x03\x01\0\4\2", "of type 2"),  # a ServerHello
        (records(hello()[:9], 5) + b"\x17\x03\x03", "17 03"),  # data in the middle
    ],
)
def test_other_streams_are_refused_at_once(stream: bytes, why: str) -> None:
    with pytest.raises(NotTLSError, match=why):
        read_client_hello(stream)


@pytest.mark.parametrize(
    "message",
    [
        hello(server_name(b"a.example"), server_name(b"b.example")),
        hello(extension(0xFE0D, b""), extension(0xFE0D, b"")),
        hello(extension(0, vector(2, (b"\0" + vector(2, b"a.example")) * 2))),
        hello(server_name(b"a.example", kind=1)),
        hello(server_name(b"")),
        hello(server_name(b".")),
        hello(server_name(b"a..b")),
        hello(server_name(b"a.example\n")),
        hello(server_name(b"a.example\0.evil")),
        hello(server_name("\u00fc.example".encode())),
        hello(server_name(b"a" * 64)),
        hello(server_name(b".".join([b"a" * 50] * 5))),
        hello(extension(0, b"")),
        hello(extension(0, vector(2, b""))),
        hello(extension(0, vector(2, b"\0" + vector(2, b"a.example")) + b"x")),
        hello(extension(0, b"\0\x20\0")),
        hello(extension(16, vector(2, vector(1, b"")))),
        hello(extension(16, vector(2, b"\x05h2"))),
        hello(extension(43, vector(1, b"\x03"))),
        hello(session=bytes(33)),
        hello(suites=b""),
        hello(suites=b"\x13"),
        b"\x01" + vector(3, hello()[4:] + b"x"),
        b"\x01" + vector(3, hello()[4:-1]),
        b"\x01" + vector(3, b""),
    ],
)
def test_what_a_server_would_refuse_is_refused(message: bytes) -> None:
    with pytest.raises(NotTLSError, match="malformed") as caught:
        read_client_hello(records(message))
    assert str(caught.value).isprintable()


# Whatever comes

VALID = [
    openssl_hello("www.example.com", ["h2"]),
    records(openssl_hello("a.example")[5:], 50),
    records(hello(server_name(b"a.example"), extension(0xFE0D, b"abc"), extension(16, vector(2, vector(1, b"h2"))))),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    stream = bytearray(draw(st.sampled_from(VALID)))
    for at, byte in draw(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=5)):
        stream[at % len(stream)] = byte
    return bytes(stream[: draw(st.integers(0, len(stream)))])


@given(st.one_of(st.binary(max_size=100), st.binary(max_size=100).map(lambda data: records(hello(data))), mutated()))
def test_no_bytes_raise_anything_but_not_tls_error(stream: bytes) -> None:
    outcomes: list[ClientHello | str | None] = []
    for size in sorted({len(stream) // 3, len(stream) // 2, len(stream)}):
        try:
            outcomes.append(read_client_hello(stream[:size]))
        except NotTLSError as error:
            assert str(error).isprintable()
            outcomes.append("not TLS")
    # What was decided once stays so, whatever comes behind.
    decided = [outcome for outcome in outcomes if outcome is not None]
    assert all(outcome == decided[0] for outcome in decided)
    assert outcomes[len(outcomes) - len(decided) :] == decided
    for outcome in decided:
        if isinstance(outcome, ClientHello) and outcome.server_name is not None:
            assert outcome.server_name.isascii()
            assert outcome.server_name.isprintable()
            assert 0 < len(outcome.server_name) < 254
