"""Packets: heads read at any cut, and answers that a receiver's checks accept."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.core.packets import (
    ACK,
    FIN,
    ICMP,
    ICMPV6,
    RST,
    SYN,
    TCP,
    UDP,
    Echo,
    PacketError,
    PacketHead,
    UnanswerableError,
    Unreachable,
    address_bytes,
    address_text,
    flow_key,
    icmp_echo_reply,
    icmp_echo_reply_packet,
    icmp_unreachable,
    internet_checksum,
    parse_echo,
    parse_head,
    syn_ack,
    tcp_reset,
    udp_datagram,
)

PROGRAM4, SERVER4 = address_bytes("10.0.0.1"), address_bytes("192.0.2.7")
PROGRAM6, SERVER6 = address_bytes("fd00::1"), address_bytes("2001:db8::7")
FAMILIES = pytest.mark.parametrize(
    ("program", "server"), [(PROGRAM4, SERVER4), (PROGRAM6, SERVER6)], ids=["ipv4", "ipv6"]
)
ports = st.integers(0, 0xFFFF)
addresses = st.sampled_from([4, 16]).flatmap(lambda size: st.tuples(*[st.binary(min_size=size, max_size=size)] * 2))


def ip_packet(protocol: int, source: bytes, destination: bytes, body: bytes, extensions: bytes = b"") -> bytes:
    """A packet built by the book; `protocol` is the first header's, which for IPv6 may be an extension's."""
    if len(source) == 4:
        assert not len(extensions) % 4
        first, length = 0x45 + len(extensions) // 4, 20 + len(extensions) + len(body)
        head = struct.pack(">BBHHHBBH4s4s", first, 0, length, 1, 0, 64, protocol, 0, source, destination) + extensions
        head = head[:10] + internet_checksum(head).to_bytes(2, "big") + head[12:]
        return head + body
    size = len(extensions) + len(body)
    return struct.pack(">IHBB16s16s", 6 << 28, size, protocol, 64, source, destination) + extensions + body


def tcp_segment(flags: int, sequence: int = 1000, acknowledgement: int = 0, payload: bytes = b"") -> bytes:
    # A timestamp option, so that the header is not the shortest.
    options = b"\x01\x01\x08\x0a" + bytes(8)
    return (
        struct.pack(">HHIIBBHHH", 40000, 443, sequence, acknowledgement, 8 << 4, flags, 64240, 0, 0) + options + payload
    )


def pseudo_header(head: PacketHead, segment: bytes) -> bytes:
    if head.version == 4:
        return head.source + head.destination + struct.pack(">BBH", 0, head.protocol, len(segment))
    return head.source + head.destination + struct.pack(">II", len(segment), head.protocol)


def checked(packet: bytes) -> PacketHead:
    """The head of a packet that we made, after the checks of a receiver."""
    head = parse_head(packet)
    assert head.length == len(packet)
    if head.version == 4:
        assert internet_checksum(packet[:20]) == 0
    segment = packet[head.transport_offset :]
    covered = segment if head.protocol == ICMP else pseudo_header(head, segment) + segment
    assert internet_checksum(covered) == 0
    return head


# Reading


def test_a_known_packet() -> None:
    # The header whose checksum everybody's textbook computes: 172.16.10.99 to 172.16.10.12.
    packet = bytes.fromhex("4500003c1c4640004006b1e6ac100a63ac100a0c") + tcp_segment(SYN, 0xDEADBEEF)
    assert internet_checksum(packet[:20]) == 0
    source, destination = address_bytes("172.16.10.99"), address_bytes("172.16.10.12")
    assert parse_head(packet) == PacketHead(
        version=4,
        protocol=TCP,
        source=source,
        destination=destination,
        source_port=40000,
        destination_port=443,
        flags=SYN,
        sequence=0xDEADBEEF,
        acknowledgement=0,
        transport_offset=20,
        payload_offset=52,
        length=60,
        is_fragment=False,
        fragment_offset=0,
    )
    assert flow_key(packet) == (TCP, source, 40000, destination, 443) == parse_head(packet).key


def test_the_checksum_of_rfc_1071() -> None:
    # Section 3: the words sum to 2ddf0, with the carry added back to ddf2.
    assert internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2
    assert internet_checksum(b"") == internet_checksum(bytes(20)) == 0xFFFF


@given(st.binary(max_size=200))
def test_the_checksum_is_that_of_the_loop(data: bytes) -> None:
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) & 1)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert internet_checksum(data) == internet_checksum(memoryview(data)) == total ^ 0xFFFF


@FAMILIES
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_flow_key_reads_what_parse_head_reads(program: bytes, server: bytes, protocol: int) -> None:
    body = tcp_segment(SYN) if protocol == TCP else struct.pack(">HHHH", 40000, 443, 8, 0)
    packet = ip_packet(protocol, program, server, body)
    assert flow_key(packet) == parse_head(packet).key == (protocol, program, 40000, server, 443)


def test_ipv4_options_are_stepped_over() -> None:
    packet = ip_packet(TCP, PROGRAM4, SERVER4, tcp_segment(SYN), b"\x94\x04\0\0")  # router alert
    assert parse_head(packet).transport_offset == 24
    assert flow_key(packet) == (TCP, PROGRAM4, 40000, SERVER4, 443)


def test_ipv6_extension_headers_are_walked() -> None:
    hop_by_hop = bytes([43, 0, 5, 2, 0, 0, 1, 0])
    routing = bytes([51, 2, 4, 0, 0, 0, 0, 0]) + bytes(16)
    authentication = bytes([60, 4]) + bytes(22)
    destination_options = bytes([TCP, 0, 1, 4, 0, 0, 0, 0])
    extensions = hop_by_hop + routing + authentication + destination_options
    packet = ip_packet(0, PROGRAM6, SERVER6, tcp_segment(SYN), extensions)
    head = parse_head(packet)
    assert (head.protocol, head.transport_offset, head.destination_port) == (TCP, 40 + len(extensions), 443)
    assert flow_key(packet) == (TCP, PROGRAM6, 40000, SERVER6, 443)


def test_extension_headers_without_end_are_refused() -> None:
    with pytest.raises(PacketError, match="more than 8"):
        parse_head(ip_packet(60, PROGRAM6, SERVER6, b"", bytes([60, 0, 1, 4, 0, 0, 0, 0]) * 100))


def test_eight_extension_headers_are_not_too_many() -> None:
    extensions = bytes([60, 0, 1, 4, 0, 0, 0, 0]) * 7 + bytes([UDP, 0, 1, 4, 0, 0, 0, 0])
    packet = ip_packet(60, PROGRAM6, SERVER6, struct.pack(">HHHH", 1, 2, 8, 0), extensions)
    assert flow_key(packet) == (UDP, PROGRAM6, 1, SERVER6, 2)


@pytest.mark.parametrize("protocol", [50, 59, 58, 132])
def test_what_has_no_ports_that_we_know_has_none(protocol: int) -> None:
    packet = ip_packet(protocol, PROGRAM6, SERVER6, bytes([128]) * 40)
    head = parse_head(packet)
    assert (head.protocol, head.source_port, head.destination_port, head.flags) == (protocol, 0, 0, 0)
    with pytest.raises(PacketError, match=f"protocol {protocol}"):
        flow_key(packet)


def fragment4(offset_and_flags: int) -> bytes:
    packet = ip_packet(UDP, PROGRAM4, SERVER4, struct.pack(">HHHH", 1, 2, 16, 0) + bytes(8))
    return packet[:6] + struct.pack(">H", offset_and_flags) + packet[8:]


def fragment6(offset_and_flags: int) -> bytes:
    header = struct.pack(">BBHI", UDP, 0, offset_and_flags, 7)
    return ip_packet(44, PROGRAM6, SERVER6, struct.pack(">HHHH", 1, 2, 16, 0) + bytes(8), header)


@pytest.mark.parametrize(
    ("packet", "offset", "ports"),
    [
        (fragment4(0x2000), 0, (1, 2)),
        (fragment4(3), 24, (0, 0)),
        (fragment6(1), 0, (1, 2)),
        (fragment6(24), 24, (0, 0)),
    ],
    ids=["first ipv4", "later ipv4", "first ipv6", "later ipv6"],
)
def test_fragments(packet: bytes, offset: int, ports: tuple[int, int]) -> None:
    head = parse_head(packet)
    assert (head.is_fragment, head.fragment_offset) == (True, offset)
    assert (head.source_port, head.destination_port) == ports
    with pytest.raises(PacketError, match="a fragment"):
        flow_key(packet)


def test_an_atomic_fragment_is_none() -> None:
    head = parse_head(fragment6(0))
    assert (head.is_fragment, head.key) == (False, (UDP, PROGRAM6, 1, SERVER6, 2))


@FAMILIES
def test_a_head_may_be_cut_off_behind_the_headers_and_nowhere_before(program: bytes, server: bytes) -> None:
    packet = ip_packet(TCP, program, server, tcp_segment(ACK, payload=bytes(1000)))
    whole = parse_head(packet)
    assert whole.payload_length == 1000
    shortest = whole.transport_offset + 14  # up to the flags
    for size in range(len(packet)):
        if size >= shortest:
            assert parse_head(packet[:size]) == whole
        else:
            with pytest.raises(PacketError):
                parse_head(packet[:size])


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x00" * 60,
        b"\x75" * 60,
        b"\x44" + bytes(59),  # a header of 16 bytes
        struct.pack(">BBHHHBBH4s4s", 0x45, 0, 19, 0, 0, 64, UDP, 0, PROGRAM4, SERVER4) + bytes(40),
        ip_packet(TCP, PROGRAM4, SERVER4, struct.pack(">HHIIBBHHH", 1, 2, 0, 0, 4 << 4, SYN, 0, 0, 0)),
        ip_packet(TCP, PROGRAM4, SERVER4, struct.pack(">HHIIBBHHH", 1, 2, 0, 0, 8 << 4, SYN, 0, 0, 0)),
        ip_packet(UDP, PROGRAM6, SERVER6, struct.pack(">HH", 1, 2)),
    ],
)
def test_what_is_no_packet_is_refused(packet: bytes) -> None:
    with pytest.raises(PacketError):
        parse_head(packet)


def test_the_length_of_packets_over_64_kib_is_what_came() -> None:
    packet = ip_packet(UDP, PROGRAM4, SERVER4, struct.pack(">HHHH", 1, 2, 8, 0))
    assert parse_head(packet[:2] + bytes(2) + packet[4:]).length == 28
    packet = ip_packet(UDP, PROGRAM6, SERVER6, struct.pack(">HHHH", 1, 2, 8, 0))
    assert parse_head(packet[:4] + bytes(2) + packet[6:]).length == 48


# Addresses


@given(st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)))
def test_addresses_survive_as_text(address: bytes) -> None:
    text = address_text(address)
    assert ip_address(text).packed == address_bytes(text) == address


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:c000:201", "::ffff:192.0.2.1"),
        ("::", "::"),
    ],
)
def test_addresses_are_printed_as_rfc_5952_wants(text: str, printed: str) -> None:
    assert address_text(address_bytes(text)) == printed


def test_what_is_no_address_is_a_value_error() -> None:
    for text in ("", "example.com", "1.2.3", "1.2.3.4:80", "::g"):
        with pytest.raises(ValueError):
            address_bytes(text)
    for size in (0, 3, 5, 15, 17):
        with pytest.raises(ValueError):
            address_text(bytes(size))


# Resets


@FAMILIES
def test_a_syn_is_refused_by_rst_and_ack(program: bytes, server: bytes) -> None:
    head = checked(tcp_reset(ip_packet(TCP, program, server, tcp_segment(SYN, 0xFFFFFFFF))))
    assert head.key == (TCP, server, 443, program, 40000)
    assert (head.flags, head.sequence, head.acknowledgement) == (RST | ACK, 0, 0)  # 0xFFFFFFFF and the SYN


def test_a_reset_acknowledges_all_that_came() -> None:
    # TCP Fast Open: data in the SYN. What was cut off by the queue counts too.
    packet = ip_packet(TCP, PROGRAM4, SERVER4, tcp_segment(SYN | FIN, 1000, payload=bytes(500)))
    assert checked(tcp_reset(packet[:128])).acknowledgement == 1000 + 500 + 2


@FAMILIES
def test_a_segment_with_ack_is_reset_at_its_place(program: bytes, server: bytes) -> None:
    head = checked(tcp_reset(ip_packet(TCP, program, server, tcp_segment(ACK, 1000, 77, b"data"))))
    assert (head.flags, head.sequence, head.acknowledgement) == (RST, 77, 0)


@FAMILIES
def test_syn_ack_takes_up_a_connection(program: bytes, server: bytes) -> None:
    head = checked(syn_ack(ip_packet(TCP, program, server, tcp_segment(SYN, 1000)), 5000))
    assert head.key == (TCP, server, 443, program, 40000)
    assert (head.flags, head.sequence, head.acknowledgement) == (SYN | ACK, 5000, 1001)
    for flags in (0, ACK, SYN | ACK, SYN | RST):
        with pytest.raises(PacketError, match="no SYN"):
            syn_ack(ip_packet(TCP, program, server, tcp_segment(flags)))


def test_what_is_not_reset() -> None:
    syn = tcp_segment(SYN)
    with pytest.raises(UnanswerableError, match="reset"):
        tcp_reset(ip_packet(TCP, PROGRAM4, SERVER4, tcp_segment(RST)))
    for source, destination in [
        ("0.0.0.0", "192.0.2.1"),
        ("192.0.2.1", "224.0.0.1"),
        ("ff02::1", "::1"),
        ("::", "::1"),
    ]:
        with pytest.raises(UnanswerableError):
            tcp_reset(ip_packet(TCP, address_bytes(source), address_bytes(destination), syn))
    with pytest.raises(PacketError, match="no TCP"):
        tcp_reset(udp_datagram(PROGRAM4, 1, SERVER4, 2, b""))
    with pytest.raises(PacketError, match="fragment"):
        tcp_reset(ip_packet(44, PROGRAM6, SERVER6, syn, struct.pack(">BBHI", TCP, 0, 1, 7)))


# ICMP


@pytest.mark.parametrize(
    ("kind", "code4", "code6"),
    [
        (Unreachable.PORT, 3, 4),
        (Unreachable.HOST, 1, 3),
        (Unreachable.NETWORK, 0, 0),
        (Unreachable.ADMINISTRATIVELY_PROHIBITED, 13, 1),
    ],
)
def test_unreachable_has_type_and_code_of_its_rfc(kind: Unreachable, code4: int, code6: int) -> None:
    for program, server, kind_and_code in ((PROGRAM4, SERVER4, (3, code4)), (PROGRAM6, SERVER6, (1, code6))):
        packet = ip_packet(TCP, program, server, tcp_segment(SYN))
        answer = icmp_unreachable(packet, kind)
        head = checked(answer)
        assert (head.source, head.destination) == (server, program)
        at = head.transport_offset
        assert tuple(answer[at : at + 2]) == kind_and_code
        assert answer[at + 4 : at + 8] == bytes(4)
        assert answer[at + 8 :] == packet


@pytest.mark.parametrize(
    ("program", "server", "longest"), [(PROGRAM4, SERVER4, 576), (PROGRAM6, SERVER6, 1280)], ids=["ipv4", "ipv6"]
)
def test_unreachable_quotes_as_much_as_fits(program: bytes, server: bytes, longest: int) -> None:
    packet = udp_datagram(program, 1, server, 2, bytes(3000))
    assert checked(icmp_unreachable(packet, Unreachable.PORT)).length == longest
    # What is behind the packet's end (padding of short frames) is not quoted.
    short = udp_datagram(program, 1, server, 2, b"")
    answer = icmp_unreachable(short + b"padding", Unreachable.PORT)
    assert checked(answer).protocol in (ICMP, ICMPV6)
    assert answer.endswith(short)


def test_a_router_may_speak_and_groups_are_its_business() -> None:
    router, group = address_bytes("10.0.0.254"), address_bytes("239.1.2.3")
    packet = udp_datagram(PROGRAM4, 1, group, 2, b"")
    with pytest.raises(UnanswerableError):
        icmp_unreachable(packet, Unreachable.NETWORK)
    assert checked(icmp_unreachable(packet, Unreachable.NETWORK, router)).source == router


def test_errors_are_not_answered_with_errors() -> None:
    for program, server in ((PROGRAM4, SERVER4), (PROGRAM6, SERVER6)):
        error = icmp_unreachable(udp_datagram(program, 1, server, 2, b""), Unreachable.PORT)
        with pytest.raises(UnanswerableError):
            icmp_unreachable(error, Unreachable.HOST)
        with pytest.raises(UnanswerableError):  # the type was cut off: it may be one
            icmp_unreachable(error[: parse_head(error).transport_offset], Unreachable.HOST)
        ping = icmp_echo_reply_packet(program, server, 1, 1, b"")
        assert checked(icmp_unreachable(ping, Unreachable.HOST))
    for later in (fragment4(3), fragment6(24)):
        with pytest.raises(UnanswerableError):
            icmp_unreachable(later, Unreachable.HOST)
    for first in (fragment4(0x2000), fragment6(1)):
        assert checked(icmp_unreachable(first, Unreachable.HOST))


def echo_request(program: bytes, server: bytes, payload: bytes = b"abc") -> bytes:
    protocol, kind = (ICMP, 8) if len(program) == 4 else (ICMPV6, 128)
    return ip_packet(protocol, program, server, struct.pack(">BBHHH", kind, 0, 0, 0x1234, 7) + payload)


@FAMILIES
def test_a_ping_is_read_and_answered(program: bytes, server: bytes) -> None:
    request = echo_request(program, server)
    assert parse_echo(request) == Echo(False, 0x1234, 7, b"abc")
    reply = icmp_echo_reply(request)
    head = checked(reply)
    assert (head.source, head.destination) == (server, program)
    assert parse_echo(reply) == Echo(True, 0x1234, 7, b"abc")
    assert reply == icmp_echo_reply_packet(server, program, 0x1234, 7, b"abc")


@FAMILIES
def test_what_is_no_whole_ping_is_not_answered(program: bytes, server: bytes) -> None:
    request = echo_request(program, server)
    reply = icmp_echo_reply(request)
    assert parse_echo(request[:-1]) == Echo(False, 0x1234, 7, b"ab")
    unreachable = icmp_unreachable(request, Unreachable.HOST)
    for packet in (request[:-1], request[:-4], reply, unreachable, udp_datagram(program, 1, server, 2, bytes(20))):
        with pytest.raises(PacketError):
            icmp_echo_reply(packet)
    assert parse_echo(unreachable) is None


def test_a_ping_to_a_group_is_not_answered() -> None:
    with pytest.raises(UnanswerableError):
        icmp_echo_reply(echo_request(PROGRAM4, address_bytes("255.255.255.255")))


# Datagrams


@given(addresses, ports, ports, st.binary(max_size=300))
def test_datagrams_are_read_as_they_were_made(
    ends: tuple[bytes, bytes], source_port: int, port: int, payload: bytes
) -> None:
    packet = udp_datagram(ends[0], source_port, ends[1], port, payload)
    head = checked(packet)
    assert head.key == flow_key(packet) == (UDP, ends[0], source_port, ends[1], port)
    assert packet[head.payload_offset :] == payload
    # 0 would say "no checksum", and IPv6 forbids it.
    assert packet[head.transport_offset + 6 : head.transport_offset + 8] != bytes(2)


def test_a_checksum_of_zero_is_sent_as_ones() -> None:
    for value in range(0x10000):
        packet = udp_datagram(PROGRAM4, 0, SERVER4, 0, value.to_bytes(2, "big"))
        if packet[26:28] == b"\xff\xff":
            checked(packet)
            break
    else:
        pytest.fail("one of all values must sum to it")


@pytest.mark.parametrize(("program", "server", "most"), [(PROGRAM4, SERVER4, 65507), (PROGRAM6, SERVER6, 65527)])
def test_the_longest_datagram(program: bytes, server: bytes, most: int) -> None:
    assert checked(udp_datagram(program, 1, server, 2, bytes(most))).payload_length == most
    with pytest.raises(ValueError):
        udp_datagram(program, 1, server, 2, bytes(most + 1))


def test_parts_that_make_no_packet_are_value_errors() -> None:
    for source, destination in ((PROGRAM4, SERVER6), (PROGRAM6, SERVER4), (b"", b""), (bytes(5), bytes(5))):
        with pytest.raises(ValueError):
            udp_datagram(source, 1, destination, 2, b"")
    for source_port, port in ((-1, 1), (1, 65536)):
        with pytest.raises(ValueError):
            udp_datagram(PROGRAM4, source_port, SERVER4, port, b"")
    with pytest.raises(ValueError):
        icmp_echo_reply_packet(PROGRAM4, SERVER4, 65536, 0, b"")
    with pytest.raises(ValueError):
        icmp_echo_reply_packet(PROGRAM4, SERVER4, 1, 0, bytes(65536))


# Whatever comes

valid_packets = st.builds(
    lambda make, ends, payload: make(ends, payload),
    st.sampled_from(
        [
            lambda ends, payload: udp_datagram(ends[0], 1, ends[1], 2, payload),
            lambda ends, payload: ip_packet(TCP, ends[0], ends[1], tcp_segment(SYN, payload=payload)),
            lambda ends, payload: echo_request(ends[0], ends[1], payload),
            lambda ends, payload: ip_packet(44, PROGRAM6, SERVER6, payload, struct.pack(">BBHI", TCP, 0, 1, 7)),
            lambda ends, payload: ip_packet(0, PROGRAM6, SERVER6, payload, bytes([UDP, 0, 5, 2, 0, 0, 1, 0])),
        ]
    ),
    addresses,
    st.binary(max_size=40),
)


@st.composite
def mutated(draw: st.DrawFn, messages: st.SearchStrategy[bytes] = valid_packets) -> bytes:
    """A valid message with some bytes changed, cut off somewhere."""
    message = bytearray(draw(messages))
    for at, byte in draw(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=5)):
        if message:
            message[at % len(message)] = byte
    return bytes(message[: draw(st.integers(0, len(message)))])


@given(st.one_of(st.binary(max_size=150), mutated()))
def test_no_bytes_raise_anything_but_packet_error(packet: bytes) -> None:
    try:
        key = flow_key(packet)
    except PacketError:
        key = None
    try:
        head = parse_head(packet)
    except PacketError:
        head = None
    if key is not None and head is not None:
        assert head.key == key
    for answer in (tcp_reset, syn_ack, icmp_echo_reply, lambda data: icmp_unreachable(data, Unreachable.HOST)):
        try:
            checked(answer(packet))
        except PacketError as error:
            assert "\n" not in str(error)
    try:
        parse_echo(packet)
    except PacketError:
        assert head is None
