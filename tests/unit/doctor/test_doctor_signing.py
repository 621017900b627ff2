"""The re-signer itself: what it writes is right in all ways, and one thing changes when one thing is asked for."""

from __future__ import annotations

import functools
import hashlib
import plistlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from network_extension.doctor.certificates import read_certificate
from network_extension.doctor.cms import read_signed_data
from network_extension.doctor.cms_verification import SignatureFacts, verify_code_signature
from network_extension.doctor.der_values import read_der_value
from network_extension.doctor.outcome import Outcome
from tests.doctor_authorities import TEAM, Authority
from tests.doctor_bundles import (
    SEAL,
    contents_of,
    executable_of,
    extensions_of,
    make_profile,
    profile_contents,
    reseal,
    resign_app,
    resign_bundle,
)
from tests.doctor_code_directory import (
    ADHOC,
    LINKER_SIGNED,
    RUNTIME,
    SLOT_ALTERNATE,
    SLOT_CMS,
    SLOT_CODE_DIRECTORY,
    SLOT_DER_ENTITLEMENTS,
    SLOT_ENTITLEMENTS,
    SLOT_INFO,
    SLOT_REQUIREMENTS,
    SLOT_RESOURCES,
    CodeDirectory,
    cdhashes,
    developer_id_requirement,
    page_hashes,
    signatures,
    slices,
    super_blob,
    without_signature,
)
from tests.doctor_signing import Signing, entitlements_der, resign

from .corpus import VERSIONS, app
from .test_cms import openssl_verifies, real_executables

NETWORK_EXTENSION = "com.apple.developer.networking.networkextension"


@functools.cache
def authority() -> Authority:
    return Authority.make()


@functools.cache
def real() -> bytes:
    return extension_of(app("0.12.15")).read_bytes()


def extension_of(bundle: Path) -> Path:
    return executable_of(extensions_of(bundle)[0])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(app("0.12.15"), tmp_path / "Mitmproxy Redirector.app"))


def facts_of(data: bytes) -> list[SignatureFacts]:
    anchors = [read_certificate(authority().root.der)]
    found = []
    for blobs in signatures(data):
        directories = [blob for slot, blob in blobs.items() if slot == 0 or 0x1000 <= slot < 0x1010]
        signed = read_signed_data(blobs[SLOT_CMS][8:])
        found.append(verify_code_signature(signed, directories, anchors=anchors))
    return found


def directories_of(data: bytes) -> list[CodeDirectory]:
    return [CodeDirectory.parse(blobs[SLOT_CODE_DIRECTORY]) for blobs in signatures(data)]


def assert_hashes_are_right(data: bytes, info_plist: bytes | None = None, seal: bytes | None = None) -> None:
    for found, blobs in zip(slices(data), signatures(data), strict=True):
        for slot, blob in blobs.items():
            if slot not in (SLOT_CODE_DIRECTORY, SLOT_ALTERNATE):
                continue
            directory = CodeDirectory.parse(blob)
            code = data[found.offset : found.offset + found.signature_offset]
            assert directory.code_limit == found.signature_offset
            assert directory.code_hashes == page_hashes(code, directory.page_shift, directory.hash_name)
            expected = {
                number: hashlib.new(directory.hash_name, content).digest()
                for number, content in (
                    (SLOT_INFO, info_plist),
                    (SLOT_REQUIREMENTS, blobs.get(SLOT_REQUIREMENTS)),
                    (SLOT_RESOURCES, seal),
                    (SLOT_ENTITLEMENTS, blobs.get(SLOT_ENTITLEMENTS)),
                    (SLOT_DER_ENTITLEMENTS, blobs.get(SLOT_DER_ENTITLEMENTS)),
                )
                if content is not None
            }
            assert expected.items() <= directory.special.items()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_writer_reproduces_real_signatures_byte_for_byte(version: str) -> None:
    for path in real_executables(version):
        data = path.read_bytes()
        for found, blobs in zip(slices(data), signatures(data), strict=True):
            directory = CodeDirectory.parse(blobs[SLOT_CODE_DIRECTORY])
            assert directory.build() == blobs[SLOT_CODE_DIRECTORY]
            assert directory.team is not None
            assert developer_id_requirement(directory.identifier, directory.team) == blobs[SLOT_REQUIREMENTS]
            whole = super_blob(blobs)
            start = found.offset + found.signature_offset
            assert data[start : start + len(whole)] == whole
            if SLOT_DER_ENTITLEMENTS in blobs:  # the library of 0.3.0 has XML alone
                claimed = plistlib.loads(blobs[SLOT_ENTITLEMENTS][8:])
                assert entitlements_der(claimed) == blobs[SLOT_DER_ENTITLEMENTS][8:]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_sealer_reproduces_real_seals(version: str, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(app(version), tmp_path / "app"))
    for found in (bundle, *extensions_of(bundle)):
        before = plistlib.loads((contents_of(found) / SEAL).read_bytes())
        assert plistlib.loads(reseal(found)) == before


@pytest.mark.parametrize("version", VERSIONS)
def test_a_whole_app_signed_again(version: str, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(app(version), tmp_path / "app"))
    sizes = {path: path.stat().st_size for path in bundle.rglob("*")}
    resign_app(bundle, Signing(authority().issue(), timestamp=authority().timestamp_signer()))
    for found in (bundle, *extensions_of(bundle)):
        data = executable_of(found).read_bytes()
        assert len(data) == sizes[executable_of(found)]
        contents = contents_of(found)
        assert_hashes_are_right(data, (contents / "Info.plist").read_bytes(), (contents / SEAL).read_bytes())
        for facts, directory in zip(facts_of(data), directories_of(data), strict=True):
            assert facts.trusted and facts.announced is Outcome.HOLDS and facts.proven_time is not None
            assert facts.cdhashes is facts.cdhash_digests is Outcome.HOLDS
            assert (directory.team, directory.flags) == (TEAM, RUNTIME)
        for blobs in signatures(data):
            message, directory_blob = blobs[SLOT_CMS][8:], blobs[SLOT_CODE_DIRECTORY]
            assert openssl_verifies(message, directory_blob, authority().root.der, tmp_path)
    sealed = plistlib.loads((contents_of(bundle) / SEAL).read_bytes())["files2"]
    name = extension_of(bundle).relative_to(contents_of(bundle)).as_posix()
    assert sealed[name]["hash2"] == hashlib.sha256(extension_of(bundle).read_bytes()).digest()
    if version == "0.3.0":
        library = contents_of(bundle) / "Frameworks" / "libswift_Concurrency.dylib"
        assert sealed["Frameworks/libswift_Concurrency.dylib"]["cdhash"] == cdhashes(library.read_bytes())[0]
        assert all(facts.trusted for facts in facts_of(library.read_bytes()))


def test_only_the_signature_changes() -> None:
    changed = resign(real(), Signing(authority().issue()))
    for found in slices(real()):
        end = found.offset + found.signature_offset
        assert changed[found.offset : end] == real()[found.offset : end]
    assert [item._replace(signature_command=0) for item in slices(changed)] == [
        item._replace(signature_command=0) for item in slices(real())
    ]
    for before, after in zip(directories_of(real()), directories_of(changed), strict=True):
        assert before.special == after.special and before.identifier == after.identifier
        assert before.page_shift == after.page_shift  # 4096 for one architecture, 16384 for the other
        assert before.executable_segment == after.executable_segment and before.runtime == after.runtime


def test_chosen_entitlements_in_xml_and_der() -> None:
    claimed: dict[str, Any] = {NETWORK_EXTENSION: ["dns-proxy"], "com.apple.security.get-task-allow": True}
    changed = resign(real(), Signing(authority().issue(), entitlements=claimed))
    assert_hashes_are_right(changed)
    for blobs in signatures(changed):
        assert plistlib.loads(blobs[SLOT_ENTITLEMENTS][8:]) == claimed
        assert read_der_value(blobs[SLOT_DER_ENTITLEMENTS][8:], "entitlements") == claimed
    assert all(facts.trusted for facts in facts_of(changed))


def test_xml_and_der_that_differ_and_either_left_out() -> None:
    xml = plistlib.dumps({"a": True})
    differing = resign(real(), Signing(authority().issue(), entitlements_xml=xml))
    xml_only = resign(real(), Signing(authority().issue(), entitlements_der=None))
    neither = resign(real(), Signing(authority().issue(), entitlements=None))
    for changed, slots in ((differing, {5, 7}), (xml_only, {5}), (neither, set())):
        assert_hashes_are_right(changed)
        for blobs, directory in zip(signatures(changed), directories_of(changed), strict=True):
            assert blobs.keys() & {5, 7} == slots == directory.special.keys() & {5, 7}
    assert next(signatures(differing))[SLOT_ENTITLEMENTS][8:] == xml
    assert next(signatures(differing))[SLOT_DER_ENTITLEMENTS] == next(signatures(real()))[SLOT_DER_ENTITLEMENTS]


def test_identifier_flags_team_and_requirements() -> None:
    requirements = developer_id_requirement("com.example.app", "OTHERTEAM1")
    chosen = Signing(authority().issue(), "com.example.app", "OTHERTEAM1", flags=0x200, requirements=requirements)
    changed = resign(real(), chosen)
    assert_hashes_are_right(changed)
    for directory, blobs in zip(directories_of(changed), signatures(changed), strict=True):
        assert (directory.identifier, directory.team, directory.flags) == ("com.example.app", "OTHERTEAM1", 0x200)
        assert blobs[SLOT_REQUIREMENTS] == requirements
    without = resign(real(), Signing(authority().issue(), requirements=None))
    assert all(SLOT_REQUIREMENTS not in blobs for blobs in signatures(without))


def test_ad_hoc_linker_signed_and_unsigned() -> None:
    ad_hoc = resign(real(), Signing(None))
    linked = resign(real(), Signing(None, flags=ADHOC | LINKER_SIGNED, with_cms_slot=False))
    for data, flags, slot in ((ad_hoc, ADHOC | RUNTIME, True), (linked, ADHOC | LINKER_SIGNED, False)):
        assert_hashes_are_right(data)
        assert all((found.flags, found.team) == (flags, None) for found in directories_of(data))
        assert all((SLOT_CMS in blobs) is slot for blobs in signatures(data))
    assert all(len(blobs[SLOT_CMS]) == 8 for blobs in signatures(ad_hoc))
    unsigned = without_signature(real())
    assert len(unsigned) == len(real()) and all(found.signature_command == 0 for found in slices(unsigned))


def test_alternate_code_directories() -> None:
    info, seal = b"an Info.plist", b"a seal"
    chosen = Signing(authority().issue(), info_plist=info, code_resources=seal, digests=("sha1", "sha256"))
    changed = resign(real(), chosen)
    assert_hashes_are_right(changed, info, seal)
    assert all(facts.trusted and facts.cdhashes is Outcome.HOLDS for facts in facts_of(changed))
    assert [directory.hash_name for directory in directories_of(changed)] == ["sha1", "sha1"]


def test_faults_in_the_cms_alone() -> None:
    leaf = authority().issue()
    listed = facts_of(resign(real(), Signing(leaf, listed_cdhashes=[bytes(20)])))
    assert all(facts.cdhashes is Outcome.FAILS and facts.signature is Outcome.HOLDS for facts in listed)
    digest = facts_of(resign(real(), Signing(leaf, message_digest=bytes(32))))
    assert all(facts.message_digest is Outcome.FAILS and facts.signature is Outcome.HOLDS for facts in digest)
    broken = facts_of(resign(real(), Signing(leaf, cms=lambda message: message[:-1] + bytes([message[-1] ^ 1]))))
    assert all(facts.signature is Outcome.FAILS and facts.message_digest is Outcome.HOLDS for facts in broken)


def test_another_page_size() -> None:
    changed = resign(real(), Signing(authority().issue(), page_shift=14))
    assert_hashes_are_right(changed)
    assert [directory.page_shift for directory in directories_of(changed)] == [14, 14]


def test_one_slice_alone() -> None:
    found = slices(real())[1]
    thin = resign(real()[found.offset : found.offset + found.size], Signing(authority().issue()))
    assert_hashes_are_right(thin)
    assert facts_of(thin)[0].trusted


def test_a_signature_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        resign(real(), Signing(authority().issue(), entitlements={"a": "x" * 50_000}))


def test_a_changed_profile_and_plist_are_sealed(copy: Path) -> None:
    contents = contents_of(copy)
    leaf = authority().issue()
    profile = make_profile(profile_contents(f"{TEAM}.com.example.app", [leaf]), authority().issue("Profiles", None))
    (contents / "embedded.provisionprofile").write_bytes(profile)
    (contents / "Resources" / "added.txt").write_text("added")
    resign_bundle(copy, Signing(leaf))
    seal = plistlib.loads((contents / SEAL).read_bytes())
    assert seal["files2"]["embedded.provisionprofile"]["hash2"] == hashlib.sha256(profile).digest()
    assert seal["files2"]["Resources/added.txt"] == {"hash2": hashlib.sha256(b"added").digest()}
    assert seal["files"]["Resources/added.txt"] == hashlib.sha1(b"added").digest()
    assert_hashes_are_right(
        executable_of(copy).read_bytes(), (contents / "Info.plist").read_bytes(), (contents / SEAL).read_bytes()
    )
