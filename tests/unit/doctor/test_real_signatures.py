"""The signatures of real apps: all holds, and one byte that is changed anywhere is found."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from network_extension.doctor.code_check import SlotCheck, SlotState, check_code, check_slots
from network_extension.doctor.code_directory import CodeFlags
from network_extension.doctor.code_signature import CodeSignature, read_code_signature
from network_extension.doctor.der_entitlements import (
    differences,
    encode_der_entitlements,
    read_der_entitlements,
    read_xml_entitlements,
)
from network_extension.doctor.macho import Slice, read_macho
from network_extension.doctor.requirements import RequirementType, read_requirement_set

from .corpus import VERSIONS, app, executables

IDENTIFIER = "org.mitmproxy.macos-redirector"
SEALED = (1, 2, 3, 5, 7)
EACH = [(version, bundle, number) for version in VERSIONS for bundle in (0, 1) for number in (0, 1)]


class Signed(NamedTuple):
    image: Slice
    signature: CodeSignature
    signature_offset: int
    info_plist: bytes
    resources: bytes


@cache
def signed(version: str, bundle: int, number: int) -> Signed:
    """One slice of the app (0) or of its system extension (1)."""
    executable: Path = executables(version)[bundle]
    contents = executable.parents[1]
    image = read_macho(executable.read_bytes())[number]
    place, data = image.commands.code_signature, image.signature_data
    assert place is not None and data is not None
    files = (contents / "Info.plist", contents / "_CodeSignature" / "CodeResources")
    return Signed(image, read_code_signature(data), place.offset, *(file.read_bytes() for file in files))


@pytest.mark.parametrize("which", EACH)
def test_all_page_hashes_and_special_slots_hold(which: tuple[str, int, int]) -> None:
    found = signed(*which)
    (directory,) = found.signature.directories
    assert check_code(directory, found.image.data, found.signature_offset).holds
    slots = check_slots(found.signature, directory, found.info_plist, found.resources)
    assert slots == tuple(SlotCheck(slot, SlotState.HOLDS) for slot in SEALED)


@pytest.mark.parametrize("which", EACH)
def test_the_code_directory_says_who_signed_what_and_how(which: tuple[str, int, int]) -> None:
    version, bundle, number = which
    found = signed(*which)
    directory = found.signature.directory
    assert directory.identifier == IDENTIFIER + (".network-extension" if bundle else "")
    assert (directory.version, directory.team, directory.flags) == (0x20500, "S8XHQB96PW", CodeFlags.RUNTIME)
    assert directory.page_size == (16384 if (version, number) == ("0.12.15", 1) else 4096)
    assert directory.runtime_version == found.image.commands.build_versions[0].sdk
    assert directory.executable_segment is not None and directory.executable_segment.flags == 1
    assert not found.signature.is_adhoc and not found.signature.is_linker_signed
    assert found.signature.cms is not None and found.signature.cms[0] == 0x30


@pytest.mark.parametrize("version", VERSIONS)
def test_the_notarisation_ticket_knows_every_cdhash(version: str) -> None:
    ticket = (app(version) / "Contents" / "CodeResources").read_bytes()
    hashes = {signed(version, bundle, number).signature.directory.cdhash for bundle in (0, 1) for number in (0, 1)}
    assert len(hashes) == 4 and all(cdhash in ticket for cdhash in hashes)


@pytest.mark.parametrize("which", EACH)
def test_one_changed_byte_of_the_code_is_found_in_its_page(which: tuple[str, int, int]) -> None:
    found = signed(*which)
    directory = found.signature.directory
    chance = random.Random(repr(which))
    code = bytearray(found.image.data)
    for at in (0, found.signature_offset - 1, *(chance.randrange(found.signature_offset) for _ in range(5))):
        code[at] ^= 1 << chance.randrange(8)
        check = check_code(directory, bytes(code), found.signature_offset)
        assert check.bad_pages == (at // directory.page_size,)
        code[at] = found.image.data[at]


@pytest.mark.parametrize("which", EACH)
def test_one_changed_byte_of_what_is_sealed_is_found_in_its_slot(which: tuple[str, int, int]) -> None:
    found = signed(*which)
    contents = {1: found.info_plist, 3: found.resources, **{slot: found.signature.blobs[slot] for slot in (2, 5, 7)}}
    chance = random.Random(repr(which))
    for slot, content in contents.items():
        for at in (8, len(content) - 1, chance.randrange(8, len(content))):
            changed = bytearray(content)
            changed[at] ^= 1 << chance.randrange(8)
            there = contents | {slot: bytes(changed)}
            blobs = {number: there[number] for number in (2, 5, 7)}
            signature = CodeSignature(found.signature.directories, blobs)
            slots = check_slots(signature, signature.directory, there[1], there[3])
            assert [check.slot for check in slots if check.state is not SlotState.HOLDS] == [slot]


@pytest.mark.parametrize("which", EACH)
def test_entitlements_say_the_same_in_both_forms_and_go_back_to_the_same_bytes(which: tuple[str, int, int]) -> None:
    version, bundle, _ = which
    signature = signed(*which).signature
    assert signature.entitlements_xml is not None and signature.entitlements_der is not None
    xml, der = read_xml_entitlements(signature.entitlements_xml), read_der_entitlements(signature.entitlements_der)
    assert differences(xml, der) == ()
    assert encode_der_entitlements(der) == signature.entitlements_der
    kind = "packet-tunnel" if version == "0.3.0" else "app-proxy"
    assert der["com.apple.developer.networking.networkextension"] == [f"{kind}-provider-systemextension"]
    assert der.get("com.apple.developer.system-extension.install") is (None if bundle else True)


@pytest.mark.parametrize("which", EACH)
def test_the_designated_requirement_reads_as_codesign_prints_it(which: tuple[str, int, int]) -> None:
    signature = signed(*which).signature
    assert signature.requirements is not None
    requirements = read_requirement_set(signature.requirements)
    assert requirements.keys() == {RequirementType.DESIGNATED}
    assert str(requirements[RequirementType.DESIGNATED]) == (
        f'anchor apple generic and identifier "{signature.directory.identifier}" and '
        "(certificate leaf[field.1.2.840.113635.100.6.1.9] /* exists */ or "
        "certificate 1[field.1.2.840.113635.100.6.2.6] /* exists */ and "
        "certificate leaf[field.1.2.840.113635.100.6.1.13] /* exists */ and "
        "certificate leaf[subject.OU] = S8XHQB96PW)"
    )
