"""Info.plists in both forms, and bytes that are none."""

from __future__ import annotations

import plistlib
import struct
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.doctor.errors import UnreadableFile
from network_extension.doctor.property_list import MAX_DEPTH, read_property_list, text_of, texts

from .damage import damaged

SAMPLE: dict[str, Any] = {
    "CFBundleIdentifier": "com.example.app",
    "NetworkExtension": {"NEProviderClasses": {"com.apple.networkextension.packet-tunnel": "M.C"}},
    "list": ["a", 1, True, b"data", 2.5],
}
FORMS = (plistlib.FMT_XML, plistlib.FMT_BINARY)


@pytest.mark.parametrize("form", FORMS)
def test_both_forms_say_the_same(form: Any) -> None:
    assert read_property_list(plistlib.dumps(SAMPLE, fmt=form)) == SAMPLE


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_dictionary_is_refused(form: Any) -> None:
    with pytest.raises(UnreadableFile, match="dictionary"):
        read_property_list(plistlib.dumps(["a"], fmt=form))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_too_deep_is_refused(form: Any) -> None:
    value: Any = "end"
    for _ in range(MAX_DEPTH + 3):
        value = [value]
    with pytest.raises(UnreadableFile, match="deeper"):
        read_property_list(plistlib.dumps({"a": value}, fmt=form))


def _binary(objects: list[bytes]) -> bytes:
    """A binary property list of these objects, the first of which is the whole."""
    data, offsets = b"bplist00", []
    for one in objects:
        offsets.append(len(data))
        data += one
    table = b"".join(struct.pack(">I", offset) for offset in offsets)
    return data + table + struct.pack(">6x2B3Q", 4, 1, len(objects), 0, len(data))


def test_a_small_file_that_is_a_huge_tree_is_refused_at_once() -> None:
    # Each array names the next one fifteen times: fifteen to the power of twenty values.
    arrays = [bytes([0xAF, 0x10, 15]) + bytes([number + 1]) * 15 for number in range(2, 22)]
    data = _binary([b"\xd1\x01\x02", b"\x51a", *arrays, b"\x51e"])
    started = time.monotonic()
    with pytest.raises(UnreadableFile, match="values"):
        read_property_list(data)
    assert time.monotonic() - started < 2


def test_a_list_that_holds_itself_is_refused() -> None:
    with pytest.raises(UnreadableFile):
        read_property_list(_binary([b"\xd1\x01\x02", b"\x51a", b"\xa1\x02"]))


def test_entities_are_refused() -> None:
    head = b'<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "aaaa">]>'
    bomb = head + b"<plist><dict><key>k</key><string>&a;</string></dict></plist>"
    with pytest.raises(UnreadableFile):
        read_property_list(bomb)


def test_texts_come_with_the_keys_that_lead_to_them() -> None:
    found = dict(texts(SAMPLE))
    assert found["CFBundleIdentifier"] == "com.example.app"
    assert found["NetworkExtension.NEProviderClasses.com.apple.networkextension.packet-tunnel"] == "M.C"
    assert found["list.0"] == "a"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        ("a", "a"),
        (None, "nothing"),
        (["a", 1], "[a, 1]"),
        ({"k": False}, "{k: false}"),
        (b"\x01\x02", "<0102>"),
        (bytes(40), f"<{'00' * 32}…>"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02"),
        (list(range(30)), f"[{', '.join(map(str, range(20)))}, …]"),
    ],
)
def test_values_in_words(value: Any, text: str) -> None:
    assert text_of(value) == text


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_whatever_the_bytes_are_one_error_comes(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(FORMS))
    real = plistlib.dumps(SAMPLE, fmt=form)
    raw = data.draw(st.binary(max_size=200).map(lambda tail: b"bplist00" + tail) | st.binary() | damaged(real))
    try:
        found = read_property_list(raw)
    except UnreadableFile:
        return
    assert all(isinstance(text.value, str) for text in texts(found))
    assert isinstance(text_of(found), str)
