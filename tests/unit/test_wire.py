"""Messages as bytes: what is encoded comes back, and nothing that comes from outside raises anything but WireError."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.runtime import wire
from network_extension.runtime.wire import MAX_MESSAGE, MessageType, WireError, decode, encode

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
bodies = st.dictionaries(st.text(max_size=8), values, max_size=5)


@given(st.sampled_from(list(MessageType)), st.integers(0, 2**64 - 1), bodies)
def test_round_trip(kind: MessageType, flow: int, body: dict[str, Any]) -> None:
    assert decode(encode(kind, flow, body)) == (kind, flow, body)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        decode(data)
    except WireError as error:
        assert len(str(error)) < 300


@given(st.sampled_from(list(MessageType)), st.text(max_size=100))
def test_any_body(kind: MessageType, body: str) -> None:
    try:
        decode(wire.HEADER.pack(kind, 1) + body.encode("utf-8", "surrogatepass"))
    except WireError as error:
        assert kind.name in str(error)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "0 bytes"),
        (b"\x01" * 8, "8 bytes"),
        (bytes(9), "type 0"),
        (b"\xff" + bytes(8), "type 255"),
        (b"\x03" + bytes(8) + b"[1]", "list, not an object"),
        (b"\x03" + bytes(8) + b"[" * 60000, "not JSON"),
        (b"\x03" + bytes(8) + b'{"a":NaN}', "NaN is not JSON"),
        (b"\x03" + bytes(8) + b'{"a":' + b"9" * 5000 + b"}", "not JSON"),
        (b"\x03" + bytes(8) + b'{"a":"\xff"}', "not JSON"),
        (b"\x03" + bytes(MAX_MESSAGE), "bytes"),
    ],
)
def test_bad_messages(data: bytes, text: str) -> None:
    with pytest.raises(WireError, match=text):
        decode(data)


@pytest.mark.parametrize("body", [{"a": object()}, {"a": float("nan")}, {"a": "x" * MAX_MESSAGE}])
def test_what_cannot_be_sent(body: dict[str, Any]) -> None:
    with pytest.raises(WireError, match="NEW_FLOW"):
        encode(MessageType.NEW_FLOW, 1, body)


@pytest.mark.parametrize("flow", [-1, 2**64])
def test_flow_ids_are_64_bits(flow: int) -> None:
    with pytest.raises(WireError):
        encode(MessageType.CLAIM, flow)


def test_names_that_are_no_utf8_survive() -> None:
    argument = b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert decode(encode(MessageType.NEW_FLOW, 1, {"a": argument}))[2] == {"a": argument}


@given(values)
def test_field_readers_raise_only_wire_errors(value: Any) -> None:
    body = {"k": value}
    for read in (
        wire.text_field,
        wire.optional_text_field,
        wire.int_field,
        wire.seconds_field,
        wire.object_field,
        wire.endpoint_field,
        wire.optional_endpoint_field,
    ):
        try:
            read(body, "k")
        except WireError as error:
            assert str(error).startswith("k")


def test_field_readers() -> None:
    body = {"t": "x", "n": 3, "s": 0.5, "e": ["192.0.2.1", 80], "z": None}
    assert wire.text_field(body, "t") == "x" and wire.optional_text_field(body, "z") is None
    assert wire.int_field(body, "n") == 3 and wire.int_field(body, "absent", 7) == 7
    assert wire.seconds_field(body, "s") == 0.5 and wire.object_field(body, "z") == {}
    assert wire.endpoint_field(body, "e") == ("192.0.2.1", 80) and wire.optional_endpoint_field(body, "z") is None
    with pytest.raises(WireError, match="n: a number from 0 to 2"):
        wire.int_field(body, "n", high=2)
