from __future__ import annotations

import plistlib
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.doctor.der_entitlements import (
    MAX_DEPTH,
    Difference,
    Value,
    differences,
    encode_der_entitlements,
    read_der_entitlements,
    read_xml_entitlements,
)
from network_extension.doctor.errors import UnreadableFile

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(1 << 100), 1 << 100)
VALUES: st.SearchStrategy[Value] = st.recursive(
    st.one_of(st.booleans(), NUMBERS, TEXTS, st.binary(max_size=300)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=20,
)
XML_HEAD = b'<?xml version="1.0" encoding="UTF-8"?><plist version="1.0">'


def der(text: str) -> bytes:
    return bytes.fromhex(text)


@given(st.dictionaries(TEXTS, VALUES, max_size=6))
def test_what_is_written_reads_back_and_has_one_form_only(values: dict[str, Value]) -> None:
    written = encode_der_entitlements(values)
    read = read_der_entitlements(written)
    assert differences(dict(values), read) == ()
    assert encode_der_entitlements(read) == written
    assert list(read) == sorted(values, key=str.encode)


def test_the_form_is_apples() -> None:
    values: dict[str, Value] = {"b": [1, "x"], "a": True, "c": {"d": False, "e": -129}}
    entries = "30 06 0c0161 0101ff  30 0b 0c0162 3006 020101 0c0178"
    entries += "30 16 0c0163 b0 11 30 06 0c0164 010100  30 07 0c0165 0202ff7f"
    assert encode_der_entitlements(values) == der("70 32 020101 b0 2d" + entries)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "nothing where one element"),
        (der("31 00"), "0x31 where one element 0x70"),
        (der("70 05 020101 b000 0500"), "0x70, 0x5 where one element"),
        (der("70 05 020102 b000"), "version that is not 1"),
        (der("70 05 020101 3000"), "0x30 where the dictionary"),
        (der("70 03 020101"), "1 elements where a pair"),
        (der("70 06 020101 b001 30"), "not within"),
        (der("70 07 020101 b002 0c00"), "where a key with its value"),
        (der("70 0c 020101 b007 3005 020101 0c00"), "a key of tag 0x2"),
        (der("70 0d 020101 b008 3006 0c0161 010101"), "a boolean of 01"),
        (der("70 0e 020101 b009 3007 0c0161 02020001"), "an integer of 2 bytes"),
        (der("70 0c 020101 b007 3005 0c0161 0200"), "an integer of 0 bytes"),
        (der("70 0c 020101 b007 3005 0c0161 0500"), "a value of tag 0x5"),
        (der("70 0d 020101 b008 3006 0c0161 0c01ff"), "not UTF-8"),
        (der("70 15 020101 b010 3006 0c0161 0101ff 3006 0c0161 010100"), "the key 'a' twice"),
        (der("70 81 05 020101 b000"), "a length of 5 in 1 bytes"),
        (der("70 80 020101 b000 0000"), "a length of 0 bytes"),
        (der("70 85 0000000005 020101 b000"), "a length of 5 bytes"),
        (bytes(2 << 20), "2097152 bytes"),
    ],
)
def test_what_is_no_der_is_refused_with_its_reason(data: bytes, why: str) -> None:
    with pytest.raises(UnreadableFile, match=why):
        read_der_entitlements(data)


def test_keys_out_of_order_are_read_and_seen_by_writing_them_again() -> None:
    data = der("70 15 020101 b010 3006 0c0162 0101ff 3006 0c0161 010100")
    values = read_der_entitlements(data)
    assert values == {"b": True, "a": False}
    assert encode_der_entitlements(values) != data


def nested(depth: int) -> Value:
    value: Value = True
    for _ in range(depth):
        value = [value]
    return value


def test_depth_is_bounded_on_both_ways() -> None:
    deepest = {"a": nested(MAX_DEPTH - 2)}
    assert read_der_entitlements(encode_der_entitlements(deepest)) == deepest
    with pytest.raises(UnreadableFile, match="nested deeper"):
        encode_der_entitlements({"a": nested(MAX_DEPTH)})
    data = b""
    while len(data) < 2000:
        data = _wrapped(0x30, data)
    entry = _wrapped(0x30, der("0c0161") + data)
    with pytest.raises(UnreadableFile, match="nested deeper"):
        read_der_entitlements(_wrapped(0x70, der("020101") + _wrapped(0xB0, entry)))


def _wrapped(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    width = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | width]) + length.to_bytes(width, "big") + content


@pytest.mark.parametrize("value", [1.5, datetime(2026, 1, 1), None, {"inner": [2.5]}])  # noqa: DTZ001  # as plistlib has it
def test_what_der_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(UnreadableFile, match="has no form there"):
        encode_der_entitlements({"key": value})


def test_differing_keys_are_named_with_both_values() -> None:
    xml = {"same": ["a"], "type": 1, "value": ["app-proxy-provider"], "only xml": True, "deep": {"a": [1]}}
    binary: dict[str, Value] = {
        "same": ["a"],
        "type": True,
        "value": ["dns-proxy"],
        "only der": 2,
        "deep": {"a": [1, 2]},
    }
    assert differences(xml, binary) == (
        Difference("deep", {"a": [1]}, {"a": [1, 2]}),
        Difference("only der", None, 2),
        Difference("only xml", True, None),
        Difference("type", 1, True),
        Difference("value", ["app-proxy-provider"], ["dns-proxy"]),
    )


def test_xml_entitlements_are_read_as_a_property_list() -> None:
    values = {"com.apple.security.app-sandbox": True, "list": ["a", 1, {"b": b"c"}]}
    assert read_xml_entitlements(plistlib.dumps(values)) == values


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no XML property list"),
        (b"<plist><dict><key>a</key></dict></plist>", "no XML property list"),
        (XML_HEAD + b"<array/></plist>", "no dictionary"),
        (XML_HEAD + b"<dict><key>a</key><date>never</date></dict></plist>", "no XML property list"),
        (
            XML_HEAD + b"<dict><key>a</key><integer>" + b"9" * 5000 + b"</integer></dict></plist>",
            "no XML property list",
        ),
        (b'<?xml version="1.0" encoding="klingon"?><plist/>', "no XML property list"),
        (b'<!DOCTYPE p [<!ENTITY a "b">]><plist><dict/></plist>', "no XML property list"),
        (
            XML_HEAD + b"<dict><key>a</key>" + b"<array>" * 5000 + b"</array>" * 5000 + b"</dict></plist>",
            "nested deeper",
        ),
        (plistlib.dumps({"a": 1}, fmt=plistlib.FMT_BINARY), "no XML property list"),
        (b" " * (2 << 20), "2097152 bytes"),
    ],
)
def test_what_is_no_property_list_is_refused_with_its_reason(data: bytes, why: str) -> None:
    with pytest.raises(UnreadableFile, match=why):
        read_xml_entitlements(data)
