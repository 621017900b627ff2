"""DNS messages: the addresses and names in them, replies that say no, and any bytes at all."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.core.dns_messages import (
    AAAA,
    CNAME,
    FORMAT_ERROR,
    HTTPS,
    MAX_RECORDS,
    REFUSED,
    SERVER_FAILURE,
    SVCB,
    A,
    Answers,
    DnsMessageError,
    Query,
    error_reply,
    parse_answers,
    parse_query,
    truncate_reply,
)
from network_extension.core.dns_names import read_name

OPT = struct.pack(">BHHIH", 0, 41, 4096, 0x00008000, 0)  # 4096 bytes of UDP, DNSSEC OK
QUESTION_NAME = b"\xc0\x0c"
FOUR, SIX = bytes([192, 0, 2, 1]), bytes.fromhex("20010db8000000000000000000000001")


def wire_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def record(owner: bytes, kind: int, data: bytes, ttl: int = 300, record_class: int = 1) -> bytes:
    return owner + struct.pack(">HHIH", kind, record_class, ttl, len(data)) + data


def query(name: str = "www.example.com", kind: int = A, additional: bytes = b"", flags: int = 0x0100) -> bytes:
    header = struct.pack(">6H", 0xBEEF, flags, 1, 0, 0, bool(additional))
    return header + wire_name(name) + struct.pack(">HH", kind, 1) + additional


def reply(*records: bytes, name: str = "www.example.com", kind: int = A, flags: int = 0x8180) -> bytes:
    header = struct.pack(">6H", 0xBEEF, flags, 1, len(records), 0, 0)
    return header + wire_name(name) + struct.pack(">HH", kind, 1) + b"".join(records)


# Queries


def test_a_query() -> None:
    data = query("WWW.Example.com", AAAA)
    parsed = parse_query(data)
    assert parsed == Query(0xBEEF, "www.example.com", AAAA, 1, 0x0100, len(data), 0)
    assert (parsed.opcode, parsed.recursion_desired, parsed.udp_limit) == (0, True, 512)


def test_edns_says_what_the_asker_can_take() -> None:
    assert parse_query(query(additional=OPT)).udp_limit == 4096
    # RFC 6891 section 6.2.3: less than 512 means 512.
    small = struct.pack(">BHHIH", 0, 41, 100, 0, 0)
    assert parse_query(query(additional=small)).edns_size == 512


def test_a_query_for_the_root() -> None:
    data = struct.pack(">6H", 1, 0, 1, 0, 0, 0) + b"\0" + struct.pack(">HH", 2, 1)
    assert parse_query(data).name == "."


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "0 bytes"),
        (query()[:11], "11 bytes"),
        (reply(), "reply"),
        (query()[:-1], "cut off"),
        (query()[:20], "past the end"),
        (struct.pack(">6H", 1, 0, 0, 0, 0, 0), "0 questions"),
        (struct.pack(">6H", 1, 0, 2, 0, 0, 0) + query()[12:] * 2, "2 questions"),
        (query(additional=OPT)[:-1], "cut off"),
        (query(additional=OPT)[:-1] + b"\x01", "past the end"),
        (struct.pack(">6H", 1, 0, 1, 0, 0, 2) + query()[12:] + OPT * 2, "more than one"),
        (query(additional=b"\x01x" + OPT), "not of the root"),
    ],
)
def test_queries_that_are_none(data: bytes, why: str) -> None:
    with pytest.raises(DnsMessageError, match=why):
        parse_query(data)


# Names


def name_at_12(name: bytes) -> str:
    return read_name(bytes(12) + name, 12, {})[0]


def test_bytes_that_would_hurt_a_log_are_escaped() -> None:
    assert name_at_12(b"\x06a.b\n\\\xff\x03COM\0") == r"a\.b\010\\\255.com"
    assert name_at_12(b"\x09my laptop\x05local\0") == r"my\032laptop.local"
    assert name_at_12(b"\x04_dns\x07example\0") == "_dns.example"


def test_a_label_with_a_dot_is_not_two_labels() -> None:
    assert name_at_12(b"\x03a.b\0") != name_at_12(b"\x01a\x01b\0")


def test_limits_of_names() -> None:
    longest_label = b"\x3f" + b"a" * 63
    assert name_at_12(longest_label + b"\0") == "a" * 63
    longest = longest_label * 3 + b"\x3d" + b"a" * 61 + b"\0"
    assert len(longest) == 255
    assert len(name_at_12(longest)) == 253
    with pytest.raises(DnsMessageError, match="longer than 255"):
        name_at_12(longest_label * 3 + b"\x3e" + b"a" * 62 + b"\0")
    for kind in (0x40, 0x80):
        with pytest.raises(DnsMessageError, match="label type"):
            name_at_12(bytes([kind]) + b"a" * 64 + b"\0")


@pytest.mark.parametrize(
    ("name", "at"),
    [
        (b"\xc0\x0c", 12),  # to itself
        (b"\xc0\x0e\xc0\x0c", 12),  # forwards, and round
        (b"\x01a\xc0\x0c", 12),  # round, growing
        (b"\xc0\x00", 12),  # into the header
        (b"\x01a\x01b\xc0\x0c", 14),  # backwards, but into a name that ends with itself
        (b"\xff\xff", 12),
    ],
)
def test_pointers_that_lead_nowhere(name: bytes, at: int) -> None:
    with pytest.raises(DnsMessageError, match="points astray"):
        read_name(bytes(12) + name, at, {})


def test_a_ladder_of_pointers_has_an_end() -> None:
    # Each one leads to the one before it: backwards all the way, and 8,000 steps for one name.
    message = bytes(12) + b"\0\0" + b"".join(struct.pack(">H", 0xC000 | at) for at in range(12, 16000, 2))
    with pytest.raises(DnsMessageError, match="points astray"):
        read_name(message, len(message) - 2, {})
    assert read_name(message, 12 + 2 * 127, {}) == (".", 12 + 2 * 128)


def test_a_name_read_before_is_remembered() -> None:
    known: dict[int, str] = {}
    message = bytes(12) + b"\x01a\0" + b"\x01b\xc0\x0c" + b"\xc0\x0f"
    assert read_name(message, 12, known) == ("a", 15)
    assert read_name(message, 15, known) == ("b.a", 19)
    assert read_name(message, 19, known) == ("b.a", 21)
    assert known == {12: "a", 15: "b.a"}


# Answers


def test_addresses_through_a_chain_of_names() -> None:
    alias, last = wire_name("cdn.example.net"), wire_name("edge.example.org")
    data = reply(
        record(QUESTION_NAME, CNAME, alias, 60),
        record(alias, CNAME, last, 30),
        record(last, A, FOUR, 5),
        record(last, AAAA, SIX, 6),
        record(QUESTION_NAME, 16, b"\x04text"),
        record(QUESTION_NAME, A, FOUR, record_class=3),  # CHAOS
    )
    answers = parse_answers(data)
    assert answers == Answers(
        id=0xBEEF,
        flags=0x8180,
        name="www.example.com",
        record_type=A,
        addresses=[("edge.example.org", FOUR, 5), ("edge.example.org", SIX, 6)],
        cnames=[
            ("www.example.com", "cdn.example.net", 60),
            ("cdn.example.net", "edge.example.org", 30),
        ],
    )
    assert (answers.rcode, answers.truncated) == (0, False)


def test_only_the_answer_section_is_believed() -> None:
    data = reply() + record(wire_name("bank.example"), A, FOUR)
    assert parse_answers(data[:8] + b"\0\1" + data[10:]).addresses == []


def test_rcode_and_truncation() -> None:
    answers = parse_answers(reply(flags=0x8383))
    assert (answers.rcode, answers.truncated) == (3, True)


def test_a_negative_lifetime_is_none() -> None:
    ((_, _, ttl),) = parse_answers(reply(record(QUESTION_NAME, A, FOUR, 0x80000000))).addresses
    assert ttl == 0


@pytest.mark.parametrize("kind", [HTTPS, SVCB])
def test_address_hints(kind: int) -> None:
    # RFC 9460 appendix D.2, with priority 16, target foo.example.org, alpn, and both hints.
    parameters = struct.pack(">HH", 1, 3) + b"\x02h2"
    parameters += struct.pack(">HH", 4, 8) + FOUR + bytes([192, 0, 2, 2])
    parameters += struct.pack(">HH", 6, 16) + SIX
    data = reply(record(QUESTION_NAME, kind, b"\0\x10" + wire_name("foo.example.org") + parameters, 9), kind=kind)
    owner = "www.example.com"
    assert parse_answers(data).addresses == [
        (owner, FOUR, 9),
        (owner, bytes([192, 0, 2, 2]), 9),
        (owner, SIX, 9),
    ]


@pytest.mark.parametrize(
    "data",
    [
        query(),
        reply(record(QUESTION_NAME, A, FOUR))[:-1],
        reply(record(QUESTION_NAME, A, FOUR + b"\0")),
        reply(record(QUESTION_NAME, AAAA, FOUR)),
        reply(record(QUESTION_NAME, CNAME, wire_name("a.b") + b"\0")),
        reply(record(QUESTION_NAME, CNAME, b"\x03a")),
        reply(record(QUESTION_NAME, HTTPS, b"\0\1\0" + struct.pack(">HH", 4, 5) + FOUR + b"\0")),
        reply(record(QUESTION_NAME, HTTPS, b"\0\1\0" + struct.pack(">HH", 4, 0))),
        reply(record(QUESTION_NAME, HTTPS, b"\0\1\0" + struct.pack(">HH", 4, 8) + FOUR)),
        reply(record(QUESTION_NAME, HTTPS, b"\0\1\0\0")),
        reply(record(QUESTION_NAME, HTTPS, b"\0")),
        reply()[:6] + b"\0\1" + reply()[8:],
    ],
)
def test_answers_that_are_none(data: bytes) -> None:
    with pytest.raises(DnsMessageError):
        parse_answers(data)


def test_records_without_end_are_left_alone() -> None:
    records = [record(QUESTION_NAME, A, number.to_bytes(4, "big")) for number in range(3000)]
    answers = parse_answers(reply(*records))
    assert len(answers.addresses) == MAX_RECORDS
    # The count of the header is not believed either.
    with pytest.raises(DnsMessageError):
        parse_answers(reply()[:6] + b"\xff\xff" + reply()[8:])


# Replies that we make


def test_an_error_reply_repeats_the_question() -> None:
    data = query(flags=0x0110 | 0x0020)  # recursion desired, checking disabled, authentic data
    answer = error_reply(data, SERVER_FAILURE)
    assert answer == data[:2] + b"\x81\x92" + data[4:]
    assert parse_answers(answer).rcode == SERVER_FAILURE


def test_who_sent_edns_gets_edns() -> None:
    answer = error_reply(query(additional=OPT), REFUSED)
    assert answer[10:12] == b"\0\1"
    assert answer.endswith(bytes.fromhex("000029 04d0 00000000 0000"))


def test_what_cannot_be_read_is_answered_by_its_number() -> None:
    answer = error_reply(b"\x12\x34\x29\0" + b"\xff" * 20, FORMAT_ERROR)
    assert answer == bytes.fromhex("1234 a981 0000 0000 0000 0000")


def test_replies_and_crumbs_are_not_answered() -> None:
    for data in (reply(), b"\x12\x34"):
        with pytest.raises(DnsMessageError):
            error_reply(data, REFUSED)


def test_a_truncated_reply_keeps_question_and_edns() -> None:
    long = reply(*[record(QUESTION_NAME, A, FOUR)] * 100)
    option = struct.pack(">BHHIH", 0, 41, 1400, 0x00008000, 5) + bytes.fromhex("000f0001 00")
    short = truncate_reply(long[:10] + b"\0\1" + long[12:] + option)
    answers = parse_answers(short)
    assert (answers.name, answers.truncated, answers.addresses) == ("www.example.com", True, [])
    assert short.endswith(struct.pack(">BHHIH", 0, 41, 1400, 0x00008000, 0))
    assert len(short) == 12 + 21 + 11
    assert len(truncate_reply(long)) == 12 + 21
    with pytest.raises(DnsMessageError):
        truncate_reply(query())


# Whatever comes

labels = st.binary(min_size=1, max_size=63)
names = st.lists(labels, max_size=5).filter(lambda parts: sum(map(len, parts)) + len(parts) < 255)


def wire_labels(parts: list[bytes]) -> bytes:
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A reply with records of all the kinds that are looked at, compressed here and there."""
    question = wire_labels(draw(names))
    owners = st.one_of(
        st.just(QUESTION_NAME),
        names.map(wire_labels),
        labels.map(lambda part: bytes([len(part)]) + part + QUESTION_NAME),
    )
    datas: dict[int, st.SearchStrategy[bytes]] = {
        A: st.binary(min_size=4, max_size=4),
        AAAA: st.binary(min_size=16, max_size=16),
        CNAME: owners,
        HTTPS: st.builds(lambda target, hints: b"\0\1" + target + struct.pack(">HH", 4, len(hints)) + hints,
                         names.map(wire_labels), st.sampled_from([FOUR, FOUR * 3])),
        16: st.just(b"\x03txt"),
    }  # fmt: skip
    records = []
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(sorted(datas)))
        records.append(record(draw(owners), kind, draw(datas[kind]), draw(st.integers(0, 2**32 - 1))))
    header = struct.pack(">6H", draw(st.integers(0, 65535)), 0x8180, 1, len(records), 0, 0)
    return header + question + struct.pack(">HH", A, 1) + b"".join(records)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    message = bytearray(draw(st.one_of(messages(), st.just(query(additional=OPT)))))
    for at, byte in draw(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=6)):
        message[at % len(message)] = byte
    return bytes(message[: draw(st.integers(0, len(message)))])


@given(st.one_of(st.binary(max_size=100), mutated()))
def test_no_bytes_raise_anything_but_dns_message_error(data: bytes) -> None:
    try:
        answers = parse_answers(data)
    except DnsMessageError as error:
        assert str(error).isprintable()
    else:
        assert len(answers.addresses) <= len(data)
        owners = [name for name, _, _ in answers.addresses] + [name for pair in answers.cnames for name in pair[:2]]
        for name in [answers.name, *owners]:
            assert name
            assert name.isascii()
            assert name.isprintable()
            assert len(name) <= 4 * 255
            assert not any(character.isspace() for character in name)
    for make in (parse_query, truncate_reply, lambda data: error_reply(data, REFUSED)):
        try:
            made = make(data)
        except DnsMessageError as error:
            assert str(error).isprintable()
        else:
            assert isinstance(made, Query) or len(made) <= len(data) + 11


@pytest.mark.peer
@given(st.one_of(messages(), mutated()))
def test_dnspython_reads_the_same(data: bytes) -> None:
    """What dnspython accepts, we accept, and find the same in it."""
    peer: Any = pytest.importorskip("dns.message", reason="compares with dnspython, which is not installed")
    from dns.exception import DNSException

    try:
        message = peer.from_wire(data, one_rr_per_rrset=True, ignore_trailing=True)
    except (DNSException, ValueError, IndexError, struct.error, UnicodeError):
        return
    if len(message.question) != 1 or data[2] >> 3 & 15:
        return
    if data[2] & 0x80:
        answers = parse_answers(data)
        addresses, cnames = [], []
        for rrset in message.answer:
            owner = rrset.name.to_text(omit_final_dot=True).lower()
            if rrset.rdclass == 1 and rrset.rdtype in (A, AAAA):
                addresses.append((owner, rrset[0].address, rrset.ttl))
            elif rrset.rdclass == 1 and rrset.rdtype == CNAME:
                cnames.append((owner, rrset[0].target.to_text(omit_final_dot=True).lower(), rrset.ttl))
            elif rrset.rdclass == 1 and rrset.rdtype in (HTTPS, SVCB):
                for key in (4, 6):
                    hint = rrset[0].params.get(key)
                    addresses += [(owner, text, rrset.ttl) for text in (hint.addresses if hint else ())]
        ours = [(owner, address_as(text), ttl) for owner, text, ttl in addresses]
        assert answers.addresses == ours
        assert answers.cnames == cnames
        assert answers.name == message.question[0].name.to_text(omit_final_dot=True).lower()
    else:
        parsed = parse_query(data)
        assert parsed.name == message.question[0].name.to_text(omit_final_dot=True).lower()
        assert parsed.edns_size == (max(512, message.payload) if message.edns >= 0 else 0)


def address_as(text: str) -> bytes:
    from network_extension.core.packets import address_bytes

    return address_bytes(text)


@pytest.mark.peer
def test_dnspython_reads_what_we_make() -> None:
    peer: Any = pytest.importorskip("dns.message", reason="compares with dnspython, which is not installed")
    message = peer.from_wire(error_reply(query(additional=OPT), REFUSED))
    assert (message.rcode(), message.payload, len(message.question)) == (REFUSED, 1232, 1)
    truncated = peer.from_wire(truncate_reply(reply(*[record(QUESTION_NAME, A, FOUR)] * 100)))
    assert truncated.flags & 0x0200
