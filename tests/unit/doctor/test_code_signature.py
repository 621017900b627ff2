from __future__ import annotations

import hashlib
import struct

import pytest

from network_extension.doctor.code_check import SlotState, check_code, check_slots
from network_extension.doctor.code_directory import CodeFlags, HashType, Linkage, Scatter, read_code_directory
from network_extension.doctor.code_signature import CodeSignature, Slot, read_code_signature
from network_extension.doctor.errors import UnreadableFile
from network_extension.doctor.os_version import OSVersion

from . import signature_bytes as made

CODE = bytes(range(256)) * 50  # three pages of 4096, and a bit
INFO, RESOURCES = b"<plist>info</plist>", b"<plist>resources</plist>"
REQUIREMENTS = made.blob(0xFADE0C01, bytes(4))
XML, DER = made.blob(0xFADE7171, b"<plist/>"), made.blob(0xFADE7172, b"\x70\x00")
CONSTRAINT = made.blob(0xFADE8181, b"\x70\x03abc")
SEALED = {1: INFO, 2: REQUIREMENTS, 3: RESOURCES, 5: XML, 7: DER, 8: CONSTRAINT}
BLOBS = {2: REQUIREMENTS, 5: XML, 7: DER, 8: CONSTRAINT}
CMS = made.blob(0xFADE0B01, b"signed")


def signature(**options: object) -> CodeSignature:
    directory = made.code_directory(CODE, special=SEALED, **options)  # type: ignore[arg-type]  # whatever the test says
    return read_code_signature(made.super_blob({0: directory, **BLOBS, 0x10000: CMS}) + bytes(64))


def states(
    found: CodeSignature, info: bytes | None = INFO, resources: bytes | None = RESOURCES
) -> dict[int, SlotState]:
    return {check.slot: check.state for check in check_slots(found, found.directory, info, resources)}


@pytest.mark.parametrize("version", made.VERSIONS)
@pytest.mark.parametrize("hash_type", list(HashType))
def test_every_version_with_every_hash_is_read_and_holds(version: int, hash_type: HashType) -> None:
    found = signature(version=version, hash_type=hash_type)
    directory = found.directory
    assert (directory.version, directory.hash_type, directory.identifier) == (version, hash_type, "com.example.app")
    assert directory.team == ("TEAM123456" if version >= 0x20200 else None)
    assert (directory.page_size, directory.code_limit, len(directory.page_hashes)) == (4096, len(CODE), 4)
    assert (directory.executable_segment is not None) == (version >= 0x20400)
    assert directory.runtime_version == (OSVersion(14, 5) if version >= 0x20500 else None)
    assert directory.linkage == (Linkage(0, 1, 2, 3, 4) if version >= 0x20600 else None)
    assert check_code(directory, CODE, len(CODE)).holds
    assert states(found) == dict.fromkeys(SEALED, SlotState.HOLDS)


@pytest.mark.parametrize(("hash_type", "name"), [(1, "sha1"), (2, "sha256"), (3, "sha256"), (4, "sha384")])
def test_the_cdhash_is_the_hash_of_the_directory_cut_to_twenty_bytes(hash_type: int, name: str) -> None:
    raw = made.code_directory(CODE, hash_type=hash_type)
    assert read_code_directory(raw).cdhash == hashlib.new(name, raw).digest()[:20]


def test_parts_of_the_signature_come_out_as_they_are() -> None:
    found = signature()
    assert (found.requirements, found.entitlements_xml, found.entitlements_der) == (
        REQUIREMENTS,
        b"<plist/>",
        b"\x70\x00",
    )
    assert found.constraints == {Slot.LAUNCH_CONSTRAINT_SELF: b"\x70\x03abc"}
    assert found.cms == b"signed"
    assert found.signed_directory.raw == made.code_directory(CODE, special=SEALED)


@pytest.mark.parametrize(("page_shift", "pages"), [(0, 1), (12, 4), (14, 1), (5, 400)])
def test_pages_of_any_size_are_checked(page_shift: int, pages: int) -> None:
    directory = read_code_directory(made.code_directory(CODE, page_shift=page_shift))
    assert len(directory.page_hashes) == pages
    assert check_code(directory, CODE, len(CODE)).holds
    check = check_code(directory, CODE[:-1] + b"x", len(CODE))
    assert check.bad_pages == (pages - 1,)


def test_a_page_that_was_changed_is_named() -> None:
    directory = read_code_directory(made.code_directory(CODE))
    changed = bytearray(CODE)
    changed[4096] ^= 1
    changed[12288] ^= 1
    assert check_code(directory, bytes(changed), len(CODE)).bad_pages == (1, 3)


def test_code_that_was_cut_lacks_its_last_pages() -> None:
    check = check_code(read_code_directory(made.code_directory(CODE)), CODE[:8192], 8192)
    assert check.bad_pages == (2, 3) and not check.holds


def test_bytes_between_the_code_limit_and_the_signature_are_not_covered() -> None:
    check = check_code(read_code_directory(made.code_directory(CODE)), CODE + b"more", len(CODE) + 4)
    assert (check.bad_pages, check.covered, check.to_be_covered) == ((), len(CODE), len(CODE) + 4)
    assert not check.holds


def test_scattered_hashes_belong_to_the_pages_that_the_list_names() -> None:
    directory = read_code_directory(made.code_directory(CODE, scatter=[(1, 0, 0), (2, 2, 8192)]))
    assert directory.scatter == (Scatter(1, 0, 0), Scatter(2, 2, 8192))
    check = check_code(directory, CODE, len(CODE))
    assert check.bad_pages == () and check.covered == 4096 and not check.holds  # page 1 has no hash
    assert check_code(directory, CODE[:8192] + b"x" + CODE[8193:], len(CODE)).bad_pages == (2,)
    whole = read_code_directory(made.code_directory(CODE, scatter=[(1, 0, 0), (3, 1, 4096)]))
    assert check_code(whole, CODE, len(CODE)).holds


def test_special_slots_say_what_became_of_their_content() -> None:
    found = signature()
    assert states(found, info=b"stamped later")[1] is SlotState.DIFFERS
    assert states(found, resources=None)[3] is SlotState.MISSING
    without = read_code_signature(made.super_blob({0: made.code_directory(CODE, special={4: b"?"}), 5: XML}))
    assert states(without) == {
        1: SlotState.UNSEALED,
        3: SlotState.UNSEALED,
        4: SlotState.UNCHECKED,
        5: SlotState.UNSEALED,
    }
    assert states(without, None, None).keys() == {4, 5}


def test_of_several_directories_the_strongest_counts_and_all_are_checked() -> None:
    kinds = {0: made.SHA1, 0x1000: made.SHA256, 0x1001: made.SHA384, 0x1002: made.SHA256_TRUNCATED}
    blobs = {slot: made.code_directory(CODE, special=SEALED, hash_type=kind) for slot, kind in kinds.items()}
    found = read_code_signature(made.super_blob({**blobs, **BLOBS}))
    assert [directory.hash_type for directory in found.directories] == list(kinds.values())
    assert found.directory.hash_type is HashType.SHA384 and found.signed_directory.hash_type is HashType.SHA1
    for directory in found.directories:
        assert check_code(directory, CODE, len(CODE)).holds
        assert {check.state for check in check_slots(found, directory, INFO, RESOURCES)} == {SlotState.HOLDS}


@pytest.mark.parametrize(
    ("flags", "cms", "adhoc", "linker"),
    [
        (0x10000, CMS, False, False),
        (0x2, CMS, True, False),
        (0x20002, None, True, True),
        (0x10002, made.blob(0xFADE0B01, b""), True, False),
        (0x10000, made.blob(0xFADE0B01, b""), True, False),
    ],
)
def test_adhoc_is_a_flag_or_the_want_of_a_certificate(flags: int, cms: bytes | None, adhoc: bool, linker: bool) -> None:
    blobs = {0: made.code_directory(CODE, flags=flags)} | ({} if cms is None else {0x10000: cms})
    found = read_code_signature(made.super_blob(blobs))
    assert (found.is_adhoc, found.is_linker_signed) == (adhoc, linker)
    assert found.directory.flags == CodeFlags(flags)


def with_entry(number: int, slot: int, offset: int) -> bytes:
    raw = bytearray(made.super_blob({0: made.code_directory(CODE), 5: XML}))
    struct.pack_into(">2I", raw, 12 + 8 * number, slot, offset)
    return bytes(raw)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not within"),
        (made.code_directory(CODE), "no SuperBlob"),
        (struct.pack(">3I", 0xFADE0CC0, 12, 0), "no code directory"),
        (struct.pack(">3I", 0xFADE0CC0, 1 << 31, 0), "not within"),
        (struct.pack(">3I", 0xFADE0CC0, 12, 1 << 31), "2147483648 blobs"),
        (made.super_blob({5: XML}), "no code directory"),
        (made.super_blob({0: made.code_directory(CODE), 5: DER}), "magic number 0xfade7172"),
        (made.super_blob({0: made.code_directory(CODE), 0x1000: XML}), "magic number 0xfade7171"),
        (made.super_blob({0: made.code_directory(CODE)})[:-1], "not within"),
        (made.super_blob({0: made.code_directory(CODE), 9: struct.pack(">2I", 0xFADE8181, 7)}), "has 7 bytes"),
        (with_entry(1, 5, 0xFFFFFFF0), "not within"),
        (with_entry(1, 0, 28), "two blobs for slot 0x0"),
        (with_entry(1, 0x1000, 28), "overlaps"),
    ],
)
def test_what_is_no_signature_is_refused_with_its_reason(data: bytes, why: str) -> None:
    with pytest.raises(UnreadableFile, match=why) as caught:
        read_code_signature(data)
    assert caught.value.what == "code signature"


@pytest.mark.parametrize(
    ("at", "number", "why"),
    [
        (0, 0xFADE0C01, "magic"),
        (4, 99, "length"),
        (8, 0x20000, "version"),
        (8, 0x30000, "version"),
        (16, 1 << 31, "not within"),
        (16, 60, "do not fit"),
        (20, 1 << 31, "not within"),
        (24, 1 << 31, "do not fit"),
        (28, 1 << 31, "not within"),
        (36, 0x20090000, "hash type 9"),
        (36, 0x14020000, "hashes of 20 bytes"),
        (36, 0x20020019, "2\\^25"),
        (44, 1 << 31, "not within"),
        (48, 1 << 31, "not within"),
    ],
)
def test_a_code_directory_with_a_number_out_of_bounds_is_refused(at: int, number: int, why: str) -> None:
    raw = bytearray(made.code_directory(CODE, special=SEALED))
    struct.pack_into(">I", raw, at, number)
    with pytest.raises(UnreadableFile, match=why):
        read_code_directory(bytes(raw))


def test_scatter_lists_that_count_too_much_or_go_back_are_refused() -> None:
    raw = bytearray(made.code_directory(CODE, scatter=[(1, 0, 0), (2, 2, 0)]))
    (at,) = struct.unpack_from(">I", raw, 44)
    for entry, numbers in ((0, (4, 0)), (0, (1, 2)), (1, (4, 2)), (1, (2, 0))):
        bad = bytearray(raw)
        struct.pack_into(">2I", bad, at + 24 * entry, *numbers)
        with pytest.raises(UnreadableFile, match="scatter entry"):
            read_code_directory(bytes(bad))
