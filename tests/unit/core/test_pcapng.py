"""Capture files: blocks as the draft draws them, and files that Wireshark's programs read."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.core.packets import (
    Unreachable,
    address_bytes,
    icmp_echo_reply_packet,
    icmp_unreachable,
    syn_ack,
    tcp_reset,
    udp_datagram,
)
from network_extension.core.pcapng import (
    MAX_COMMENT,
    PacketDirection,
    custom_block,
    enhanced_packet,
    interface_description,
    interface_statistics,
    section_header,
)

NOW = 1_700_000_000_123_456_789
PACKET = udp_datagram(address_bytes("192.0.2.1"), 5000, address_bytes("192.0.2.2"), 6000, b"hello")


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each block; a reader's checks on the way."""
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, at + length - 4) == (length,)
        yield kind, data[at + 8 : at + length - 4]
        at += length


def options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        code, length = struct.unpack_from("<HH", data, at)
        if code == 0:
            assert (length, at + 4) == (0, len(data))
            break
        found[code] = data[at + 4 : at + 4 + length]
        at += 4 + (length + 3 & ~3)
    else:
        assert not data
    return found


def one(data: bytes) -> tuple[int, bytes]:
    ((kind, body),) = blocks(data)
    return kind, body


def test_the_section_header() -> None:
    assert section_header() == bytes.fromhex("0a0d0d0a 1c000000 4d3c2b1a 01000000 ffffffffffffffff 1c000000")
    _, body = one(section_header("a64", "Linux 6.1", "netext"))
    assert options(body[16:]) == {2: b"a64", 3: b"Linux 6.1", 4: b"netext"}


def test_the_interface() -> None:
    kind, body = one(interface_description("lo", snaplen=128, description="inside"))
    assert (kind, body[:8]) == (1, struct.pack("<HHI", 101, 0, 128))
    assert options(body[8:]) == {2: b"lo", 3: b"inside", 9: b"\x09"}


@pytest.mark.parametrize("size", range(5))
def test_packets_are_padded_to_words(size: int) -> None:
    kind, body = one(enhanced_packet(7, NOW, b"abcd"[:size], 1500))
    head = struct.pack("<IIIII", 7, NOW >> 32, NOW & 0xFFFFFFFF, size, 1500)
    assert (kind, body) == (6, head + b"abcd"[:size] + bytes(-size % 4))


def test_what_is_known_of_a_packet() -> None:
    _, body = one(enhanced_packet(0, NOW, b"abc", comment="curl: claimed", direction=PacketDirection.OUTBOUND))
    assert body[16:20] == struct.pack("<I", 3)
    assert options(body[24:]) == {1: b"curl: claimed", 2: b"\2\0\0\0"}


def test_statistics() -> None:
    kind, body = one(interface_statistics(1, NOW, received=10, dropped=0, comment="end"))
    assert (kind, body[:12]) == (5, struct.pack("<III", 1, NOW >> 32, NOW & 0xFFFFFFFF))
    assert options(body[12:]) == {1: b"end", 4: struct.pack("<Q", 10), 5: bytes(8)}
    assert len(one(interface_statistics(1, NOW))[1]) == 12


@pytest.mark.parametrize(("copyable", "expected"), [(True, 0xBAD), (False, 0x40000BAD)])
def test_custom_blocks(copyable: bool, expected: int) -> None:
    kind, body = one(custom_block(32473, b"abcde", copyable=copyable))
    assert (kind, body) == (expected, struct.pack("<I", 32473) + b"abcde\0\0\0")
    assert options(one(custom_block(32473, b"abcd", comment="why"))[1][8:]) == {1: b"why"}


@given(st.text(alphabet=st.characters(), min_size=1, max_size=50), st.integers(1, 200))
def test_comments_are_cut_between_characters(text: str, times: int) -> None:
    _, body = one(enhanced_packet(0, NOW, b"", comment=text * times))
    comment = options(body[20:])[1]
    assert len(comment) <= MAX_COMMENT
    assert (text * times).replace("\0", "?").encode("utf-8", "replace").startswith(comment)
    comment.decode()
    assert len(comment) == len((text * times).encode("utf-8", "replace")) or len(comment) > MAX_COMMENT - 4


def test_undecodable_arguments_make_no_trouble() -> None:
    _, body = one(enhanced_packet(0, NOW, b"", comment=b"caf\xe9".decode("utf-8", "surrogateescape")))
    assert options(body[20:]) == {1: b"caf?"}


def capture() -> bytes:
    return b"".join(
        [
            section_header("machine", "Linux", "network-extension"),
            interface_description("netext0", snaplen=128),
            interface_description("upl\u00efnk"),
            custom_block(32473, b"skip me"),
            enhanced_packet(
                0, NOW, PACKET, comment="curl[812] \u2192 a.example: claimed", direction=PacketDirection.OUTBOUND
            ),
            enhanced_packet(1, NOW + 1, PACKET[:29], len(PACKET), direction=PacketDirection.INBOUND),
            interface_statistics(0, NOW + 2, received=1, dropped=0, comment="done"),
        ]
    )


def wireshark(program: str, *arguments: str | Path) -> str:
    if (path := shutil.which(program)) is None:
        pytest.skip(f"{program} is not installed: apt-get install tshark")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.peer
def test_tshark_reads_packets_comments_and_directions(tmp_path: Path) -> None:
    file = tmp_path / "run.pcapng"
    file.write_bytes(capture())
    fields = (
        "frame.time_epoch", "frame.len", "frame.cap_len", "frame.interface_name", "frame.packet_flags_direction",
        "frame.comment", "ip.dst", "udp.dstport", "udp.checksum.status",
    )  # fmt: skip
    selected = [word for field in fields for word in ("-e", field)]
    table = wireshark(
        "tshark", "-n", "-o", "udp.check_checksum:TRUE", "-r", file, "-Y", "ip", "-T", "fields", *selected
    )
    first, second = (line.split("\t") for line in table.splitlines())
    assert float(first[0]) == 1700000000.123456789
    assert first[0].endswith(".123456789")
    assert first[1:4] == ["33", "33", "netext0"]
    assert int(first[4], 0) == PacketDirection.OUTBOUND
    assert first[5:] == ["curl[812] \u2192 a.example: claimed", "192.0.2.2", "6000", "1"]
    assert second[0].endswith(".123456790")
    assert second[1:4] == ["33", "29", "upl\u00efnk"]
    assert int(second[4], 0) == PacketDirection.INBOUND


@pytest.mark.peer
def test_capinfos_finds_the_file_in_order(tmp_path: Path) -> None:
    file = tmp_path / "run.pcapng"
    file.write_bytes(capture())
    report = wireshark("capinfos", file)
    for line in ("Wireshark/... - pcapng", "nanoseconds", "network-extension", "Number of packets:   2", "Raw IP"):
        assert line in report
    assert "Number of interfaces in file: 2" in report


@pytest.mark.peer
@pytest.mark.parametrize(
    ("program", "server"), [("10.0.0.1", "192.0.2.7"), ("fd00::1", "2001:db8::7")], ids=["ipv4", "ipv6"]
)
def test_tshark_finds_no_fault_with_packets_that_we_make(program: str, server: str, tmp_path: Path) -> None:
    """The second opinion on `core/packets.py`: lengths and checksums by Wireshark's own dissectors."""
    near, far = address_bytes(program), address_bytes(server)
    datagram = udp_datagram(near, 5000, far, 6000, b"twelve bytes")
    # A SYN under the datagram's IP header: its protocol becomes 6, and the checksums of a request do not matter.
    at = 9 if len(near) == 4 else 6
    segment = struct.pack(">HHIIBBHHH", 40000, 443, 1000, 0, 5 << 4, 2, 64240, 0, 0)
    syn = datagram[:at] + b"\x06" + datagram[at + 1 : -20] + segment
    packets = [
        datagram,
        tcp_reset(syn),
        syn_ack(syn, 7),
        icmp_unreachable(datagram, Unreachable.PORT),
        icmp_echo_reply_packet(far, near, 1, 2, b"odd"),
    ]
    file = tmp_path / "made.pcapng"
    file.write_bytes(
        section_header() + interface_description("x") + b"".join(enhanced_packet(0, NOW, packet) for packet in packets)
    )
    fields = ("udp", "tcp", "tcp", "icmp" if at == 9 else "icmpv6", "icmp" if at == 9 else "icmpv6")
    checks = [word for name in ("ip", "tcp", "udp") for word in ("-o", f"{name}.check_checksum:TRUE")]
    selected = [word for name in ("ip", *dict.fromkeys(fields)) for word in ("-e", f"{name}.checksum.status")]
    table = wireshark("tshark", "-n", *checks, "-r", file, "-T", "json", *selected)
    for name, frame in zip(fields, json.loads(table), strict=True):
        layers = frame["_source"]["layers"]
        assert layers[f"{name}.checksum.status"][0] == "1", layers
        assert at == 6 or layers["ip.checksum.status"][0] == "1", layers
    assert not wireshark("tshark", "-n", *checks, "-r", file, "-Y", "_ws.malformed")
