"""QUIC Initial packets: the keys of RFC 9001's appendix, and hellos made by another implementation (aioquic)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension import PeerError
from network_extension.core import quic_initial
from network_extension.core.name_sniffing import NameSniffer
from network_extension.core.quic_initial import VERSION_1, VERSION_2, InitialReader, initial_keys

aioquic_connection = pytest.importorskip("aioquic.quic.connection")
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


def first_datagrams(name: str = "quic.example", protocols: int = 1, version: int = VERSION_1) -> list[bytes]:
    """What a client of aioquic sends first."""
    configuration = aioquic_configuration.QuicConfiguration(
        is_client=True, server_name=name, alpn_protocols=[f"protocol-{number}" for number in range(protocols)]
    )
    configuration.supported_versions = [version]
    configuration.original_version = version
    client = aioquic_connection.QuicConnection(configuration=configuration)
    client.connect(("192.0.2.1", 443), now=0.0)
    return [data for data, _address in client.datagrams_to_send(now=0.0)]


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
