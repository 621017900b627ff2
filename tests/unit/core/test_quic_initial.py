"""QUIC Initial packets: the keys of RFC 9001's appendix, and hellos made by another implementation (aioquic)."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension import PeerError
from network_extension.core import quic_initial
from network_extension.core.name_sniffing import NameSniffer
from network_extension.core.quic_initial import VERSION_1, VERSION_2, InitialReader, initial_keys

aioquic_connection = pytest.importorskip("aioquic.quic.connection")
aioquic_packet = pytest.importorskip("aioquic.quic.packet")
aioquic_configuration = pytest.importorskip("aioquic.quic.configuration")
CONNECTION_ID = bytes.fromhex("8394c8f03e515708")


def test_the_keys_of_rfc_9001_appendix_a_1() -> None:
    keys = initial_keys(CONNECTION_ID, VERSION_1)
    assert keys.key.hex() == "1f369613dd76d5467730efcbe3b1a22d"
    assert keys.iv.hex() == "fa044b2f42a3fd3b46fb255c"
    assert keys.header.hex() == "9f50449e04a0e810283a1e9933adedd2"


def test_the_keys_of_rfc_9369_appendix_a_1() -> None:
    keys = initial_keys(CONNECTION_ID, VERSION_2)
    assert keys.key.hex() == "8b1a0bc121284290a29e0971b5cd045d"
    assert keys.iv.hex() == "91f73e2351d8fa91660e909f"
    assert keys.header.hex() == "45b95e15235d6f45a6b19cbcb0294ba9"


HELLO_OF_RFC_9001 = bytes.fromhex(
    "010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c000000010000e00"
    "000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e000500050100000000003300260024"
    "001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e04030503060302"
    "03080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901"
    "100f088394c8f03e51570806048000ffff"
)


def initial(payload: bytes, number: int, token: bytes = b"", connection_id: bytes = CONNECTION_ID) -> bytes:
    """A client's Initial packet as RFC 9001 §5.3 and §5.4 make it; `payload` has its padding."""
    ciphers = pytest.importorskip("cryptography.hazmat.primitives.ciphers")
    aead = pytest.importorskip("cryptography.hazmat.primitives.ciphers.aead")
    keys, sent_number = initial_keys(connection_id), number.to_bytes(4, "big")
    length = (0x4000 | 4 + len(payload) + 16).to_bytes(2, "big")
    named = bytes([len(connection_id)]) + connection_id
    head = b"\xc3\0\0\0\1" + named + b"\0" + bytes([len(token)]) + token + length
    nonce = (int.from_bytes(keys.iv, "big") ^ number).to_bytes(12, "big")
    sealed: bytes = aead.AESGCM(keys.key).encrypt(nonce, payload, head + sent_number)
    mask = ciphers.Cipher(ciphers.algorithms.AES(keys.header), ciphers.modes.ECB()).encryptor().update(sealed[:16])
    covered = bytes(byte ^ other for byte, other in zip(sent_number, mask[1:5], strict=True))
    return bytes([head[0] ^ mask[0] & 15]) + head[1:] + covered + sealed


def crypto(start: int, end: int) -> bytes:
    piece = HELLO_OF_RFC_9001[start:end]
    return b"\6" + (0x4000 | start).to_bytes(2, "big") + (0x4000 | len(piece)).to_bytes(2, "big") + piece


def test_the_packet_of_rfc_9001_appendix_a_2() -> None:
    packet = initial((b"\6\0\x40\xf1" + HELLO_OF_RFC_9001).ljust(1162, b"\0"), 2)
    assert packet.startswith(
        bytes.fromhex("c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9b")
    )
    assert packet.endswith(bytes.fromhex("e221af44860018ab0856972e194cd934"))
    hello = InitialReader().feed(packet)
    assert hello is not None
    assert (hello.server_name, hello.application_protocols) == ("example.com", ("alpn",))


@given(st.lists(st.integers(1, len(HELLO_OF_RFC_9001) - 1), max_size=30), st.randoms(use_true_random=False), st.data())
def test_pieces_in_any_order_and_packets(cuts: list[int], chance: random.Random, data: st.DataObject) -> None:
    """As browsers send them: shuffled, with PING and PADDING between, in coalesced packets and several datagrams."""
    marks = [0, *sorted(set(cuts)), len(HELLO_OF_RFC_9001)]
    frames = [crypto(low, high) for low, high in itertools.pairwise(marks)]
    chance.shuffle(frames)
    groups = [frames[at::3] for at in range(3)]
    packets = [initial(b"\1\0\0".join(group).ljust(40, b"\0"), number) for number, group in enumerate(groups)]
    cut = data.draw(st.integers(0, 2))
    reader = InitialReader()
    found = [reader.feed(datagram) for datagram in (b"".join(packets[:cut]), b"".join(packets[cut:])) if datagram]
    assert [hello.server_name for hello in found if hello is not None] == ["example.com"]


def connecting(name: str = "quic.example", protocols: int = 1, version: int = VERSION_1) -> Any:
    """A client of aioquic that has begun to connect."""
    configuration = aioquic_configuration.QuicConfiguration(
        is_client=True, server_name=name, alpn_protocols=[f"protocol-{number}" for number in range(protocols)]
    )
    configuration.supported_versions = [version]
    configuration.original_version = version
    client = aioquic_connection.QuicConnection(configuration=configuration)
    client.connect(("192.0.2.1", 443), now=0.0)
    return client


def sent(client: Any) -> list[bytes]:
    """What a client of aioquic sends now."""
    return [data for data, _address in client.datagrams_to_send(now=0.0)]


def first_datagrams(name: str = "quic.example", protocols: int = 1, version: int = VERSION_1) -> list[bytes]:
    """What a client of aioquic sends first."""
    return sent(connecting(name, protocols, version))


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
def test_a_real_hello(version: int) -> None:
    (datagram, *_) = first_datagrams(version=version)
    hello = InitialReader().feed(datagram)
    assert hello is not None
    assert hello.server_name == "quic.example"


def test_a_hello_over_two_datagrams_in_either_order() -> None:
    datagrams = first_datagrams(protocols=100)
    assert len(datagrams) > 1
    for order in (datagrams, datagrams[::-1]):
        sniffer = NameSniffer(17, 443)
        found = [sniffer.feed(datagram) for datagram in order]
        (name,) = [one.host for one in found if one is not None]
        assert name == "quic.example"
        assert sniffer.done


@pytest.mark.parametrize("heard", [1, 2, 3])
def test_after_a_retry_the_keys_are_others(heard: int) -> None:
    """The server answers the first of several datagrams by a Retry; the hello comes again, with its token."""
    client = connecting(protocols=200)
    first = sent(client)
    assert len(first) >= 3
    reader = InitialReader()
    assert [reader.feed(datagram) for datagram in first[: min(heard, len(first) - 1)]].count(None) >= 1
    original = client._peer_cid.cid
    retry = aioquic_packet.encode_quic_retry(
        VERSION_1, source_cid=b"chosen", destination_cid=client.host_cid, original_destination_cid=original,
        retry_token=b"a token",
    )  # fmt: skip
    client.receive_datagram(retry, ("192.0.2.1", 443), now=0.0)
    again = sent(client)
    assert again and again[0] != first[0]
    found = [hello for datagram in again if (hello := reader.feed(datagram)) is not None]
    assert [hello.server_name for hello in found] == ["quic.example"]


def test_a_second_retry_is_not_followed() -> None:
    """A client accepts one (RFC 9000 §17.2.5.2): whoever sends another token yet is none."""
    reader = InitialReader()
    reader.feed(initial(crypto(0, 9).ljust(40, b"\0"), 0))
    reader.feed(initial(crypto(0, 9).ljust(40, b"\0"), 1, token=b"one", connection_id=b"another"))
    with pytest.raises(PeerError):
        reader.feed(initial(crypto(9, 19).ljust(40, b"\0"), 2, token=b"two", connection_id=b"yet another"))


def test_without_its_library_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_initial, "_ciphers", None)
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives.ciphers", None)
    assert "pip install" in str(quic_initial.unavailable())
    sniffer = NameSniffer(17, 443)
    assert sniffer.feed(first_datagrams()[0]) is None
    assert sniffer.done


@pytest.fixture(scope="module")
def real() -> bytes:
    return first_datagrams()[0]


@given(st.data())
def test_a_changed_byte_is_no_crash(real: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(real) - 1))
    changed = real[:at] + bytes([real[at] ^ data.draw(st.integers(1, 255))]) + real[at + 1 :]
    try:
        InitialReader().feed(changed[: data.draw(st.integers(0, len(changed)))])
    except PeerError:
        pass


@given(st.binary(max_size=1500))
def test_any_frames_are_read_or_refused(data: bytes) -> None:
    reader = InitialReader()
    try:
        reader._frames(data)
    except (PeerError, IndexError):
        pass
    assert len(reader._contiguous()) <= 2 * quic_initial.MAX_CRYPTO
