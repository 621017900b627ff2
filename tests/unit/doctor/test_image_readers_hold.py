"""Whatever the bytes are, the readers of images and signatures give an answer or raise UnreadableFile."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from network_extension.doctor.code_check import check_code, check_slots
from network_extension.doctor.code_directory import read_code_directory
from network_extension.doctor.code_signature import CodeSignature, read_code_signature
from network_extension.doctor.der_entitlements import (
    differences,
    encode_der_entitlements,
    read_der_entitlements,
    read_xml_entitlements,
)
from network_extension.doctor.errors import UnreadableFile
from network_extension.doctor.imported_symbols import imported_classes
from network_extension.doctor.macho import Slice, read_macho
from network_extension.doctor.requirement_evaluation import SignatureFacts, evaluate, unmet
from network_extension.doctor.requirements import read_requirement, read_requirement_set

from . import requirement_bytes, signature_bytes
from .corpus import executables
from .damage import damaged
from .macho_bytes import ARM64, X86_64, command, fat, head_size, library, segment, thin

BOUNDED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def tolerated(read: Callable[[bytes], object], data: bytes) -> None:
    try:
        read(data)
    except UnreadableFile as error:
        assert error.what and error.why and "\n" not in str(error)


def all_of_a_file(data: bytes) -> None:
    for image in read_macho(data):
        image.contains_class("Module.Class")
        for step in (imported_classes, _sections, _signature):
            tolerated_step(step, image)


def tolerated_step(step: Callable[[Slice], object], image: Slice) -> None:
    try:
        step(image)
    except UnreadableFile as error:
        assert error.what and error.why


def _sections(image: Slice) -> None:
    for segment_name, section in image.commands.sections:
        image.section(segment_name, section)


def _signature(image: Slice) -> None:
    if image.signature_data is not None:
        assert image.commands.code_signature is not None
        all_of_a_signature(image.signature_data, image.data, image.commands.code_signature.offset)


def all_of_a_signature(data: bytes | memoryview, code: bytes | memoryview = b"code", offset: int = 4) -> CodeSignature:
    signature = read_code_signature(data)
    for directory in signature.directories:
        check_code(directory, code, offset)
        check_slots(signature, directory, b"info", None)
        assert len(directory.cdhash) == 20
    return signature


def all_of_a_requirement(data: bytes) -> None:
    for tree in read_requirement_set(data).values():
        assert isinstance(str(tree), str)
        assert (unmet(tree, SignatureFacts()) == ()) is (evaluate(tree, SignatureFacts()) is True)


def all_of_entitlements(data: bytes) -> None:
    values = read_der_entitlements(data)
    assert differences(dict(values), read_der_entitlements(encode_der_entitlements(values))) == ()


READERS: dict[str, Callable[[bytes], object]] = {
    "file": all_of_a_file,
    "signature": all_of_a_signature,
    "directory": read_code_directory,
    "requirements": all_of_a_requirement,
    "requirement": read_requirement,
    "der": all_of_entitlements,
    "xml": read_xml_entitlements,
}
STARTS = [
    b"",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe\0\0\0\x01",
    b"\xfa\xde\x0c\xc0",
    b"\xfa\xde\x0c\x02",
    b"\x70\x20",
]
STARTS += [b"\xfa\xde\x0c\x01\0\0\0\x10", b"\xfa\xde\x0c\x00\0\0\0\x10\0\0\0\x01", b"<plist><dict><key>"]


@pytest.mark.parametrize("reader", READERS)
@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=300))
@BOUNDED
def test_arbitrary_bytes(reader: str, start: bytes, rest: bytes) -> None:
    tolerated(READERS[reader], start + rest)


def made_file() -> bytes:
    """Two small images that have all that the readers look at."""
    signature = signature_bytes.super_blob(
        {
            0: signature_bytes.code_directory(b"code" * 3000, version=0x20600, special={1: b"info"}),
            2: requirement_bytes.requirement_set({}),
            0x1000: signature_bytes.code_directory(b"code" * 3000, hash_type=1, scatter=[(1, 0, 0), (1, 2, 0)]),
            0x10000: signature_bytes.blob(0xFADE0B01, b"cms"),
        }
    )
    symbols = b"\x01\0\0\0\x01\0\0\0" + bytes(8)
    names, binds = b"\0_OBJC_CLASS_$_NEProvider\0", b"\x40_OBJC_CLASS_$_X\0\x71\x05\x90"

    def commands(start: int) -> list[bytes]:
        at = start + len(symbols)
        return [
            command(0x32, 1, 13 << 16, 14 << 16, 0),
            library(0x0C, "/usr/lib/libSystem.B.dylib"),
            segment("__TEXT", [("__cstring", start, 16), ("__objc_classname", at, 8)]),
            command(0x02, start, 1, at, len(names)),
            command(0x22, 0, 0, at + len(names), len(binds), 0, 0, 0, 0, 0, 0),
            command(0x2C, 0, 16, 0, 0),
            command(0x1D, at + len(names) + len(binds), len(signature)),
        ]

    image = thin(commands(head_size(commands(0))), symbols + names + binds + signature)
    return fat([(X86_64, thin([command(0x24, 1, 1)], cpu=X86_64)), (ARM64, image)])


def test_the_made_file_is_whole() -> None:
    """Else the test below would damage what nobody reads."""
    _, image = read_macho(made_file())
    assert imported_classes(image) == {"NEProvider", "X"}
    assert image.signature_data is not None and len(read_code_signature(image.signature_data).directories) == 2


@given(damaged(made_file()))
@settings(BOUNDED, max_examples=500)
def test_a_damaged_file(data: bytes) -> None:
    tolerated(all_of_a_file, data)


@cache
def real_file() -> bytes:
    return executables("0.12.15")[1].read_bytes()


@cache
def real_signature() -> CodeSignature:
    data = read_macho(real_file())[1].signature_data
    assert data is not None
    return read_code_signature(data)


@given(st.data())
@settings(BOUNDED, max_examples=100)
def test_a_damaged_real_file(data: st.DataObject) -> None:
    raw, image = real_file(), read_macho(real_file())[1]
    head = data.draw(damaged(raw[image.offset : image.offset + 8192]))
    tolerated(all_of_a_file, head + raw[image.offset + 8192 : image.offset + image.size])
    tolerated(all_of_a_file, data.draw(damaged(raw, within=64)))


@given(st.data())
@BOUNDED
def test_a_damaged_real_signature(data: st.DataObject) -> None:
    image = read_macho(real_file())[1]
    assert image.signature_data is not None
    tolerated(
        all_of_a_signature, data.draw(damaged(bytes(image.signature_data[:4096]))) + bytes(image.signature_data[4096:])
    )
    tolerated(all_of_a_signature, data.draw(damaged(bytes(image.signature_data), within=200)))


@pytest.mark.parametrize(
    ("reader", "slot", "head"), [("directory", 0, 0), ("requirements", 2, 0), ("der", 7, 8), ("xml", 5, 8)]
)
@given(data=st.data())
@BOUNDED
def test_damaged_parts_of_a_real_signature(reader: str, slot: int, head: int, data: st.DataObject) -> None:
    tolerated(READERS[reader], data.draw(damaged(real_signature().blobs[slot][head:])))
