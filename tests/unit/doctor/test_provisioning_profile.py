"""Provisioning profiles: the real ones of mitmproxy, and generated ones of every kind."""

from __future__ import annotations

import functools
import plistlib
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from network_extension.doctor.certificates import Certificate, read_certificate
from network_extension.doctor.cms import read_signed_data
from network_extension.doctor.der_values import read_der_value
from network_extension.doctor.entitlement_allowlist import MAX_STEPS, allows
from network_extension.doctor.errors import UnreadableFile
from network_extension.doctor.outcome import Outcome
from network_extension.doctor.profile_verification import ProfileFacts, verify_provisioning_profile
from network_extension.doctor.provisioning_profile import (
    ProfileKind,
    ProvisioningProfile,
    read_provisioning_profile,
)
from tests.doctor_authorities import SIGNING_TIME, WWDR_MARKER, Authority, Identity, sign_cms
from tests.doctor_bundles import contents_of, executable_of, extensions_of, make_profile, profile_contents
from tests.doctor_code_directory import SLOT_CMS, signatures
from tests.doctor_signing import entitlements_der

from .corpus import VERSIONS, app

NETWORK_EXTENSION = "com.apple.developer.networking.networkextension"
APPLICATION = "FAKETEAM01.com.example.app"


@functools.cache
def authority() -> Authority:
    return Authority.make(WWDR_MARKER, "p256")


@functools.cache
def developer() -> Identity:
    return Authority.make(key_kind="p256").issue()


def signer(**options: Any) -> Identity:
    return authority().issue("Mac OS X Provisioning Profile Signing", None, **options)


def inner_signer() -> Identity:
    return authority().issue("WWDR Provisioning Profile Signing", None)


def anchors() -> tuple[Certificate]:
    return (read_certificate(authority().root.der),)


def made(**options: Any) -> ProvisioningProfile:
    return read_provisioning_profile(make_profile(profile_contents(APPLICATION, [developer()], **options), signer()))


def verified(data: bytes) -> ProfileFacts:
    return verify_provisioning_profile(read_provisioning_profile(data), anchors=anchors())


def real_profiles(version: str) -> list[Path]:
    bundles = [app(version), *extensions_of(app(version))]
    return [contents_of(bundle) / "embedded.provisionprofile" for bundle in bundles]


@pytest.mark.parametrize("version", VERSIONS)
def test_real_profiles(version: str) -> None:
    for path, suffix in zip(real_profiles(version), ("", ".network-extension"), strict=True):
        profile = read_provisioning_profile(path.read_bytes())
        assert profile.kind is ProfileKind.DEVELOPER_ID
        assert profile.application_identifier == f"S8XHQB96PW.org.mitmproxy.macos-redirector{suffix}"
        assert not profile.is_wildcard
        assert profile.team_identifiers == profile.application_identifier_prefixes == ("S8XHQB96PW",)
        assert (profile.platforms, profile.team_name) == (("OSX",), "Maximilian Hils")
        assert profile.provisions_all_devices and profile.provisioned_devices is None
        assert (profile.version, profile.time_to_live, profile.is_xcode_managed) == (1, 6570, False)
        assert profile.creation_date is not None and profile.creation_date.date().isoformat() == "2023-08-22"
        assert profile.expiration_date is not None and profile.expiration_date.date().isoformat() == "2041-08-17"
        assert not profile.expired_at(datetime(2041, 8, 1, tzinfo=UTC))
        assert profile.expired_at(datetime(2042, 1, 1, tzinfo=UTC))
        assert profile.uuid is not None and len(profile.uuid) == 36
        assert profile.name == profile.app_id_name


@pytest.mark.parametrize("version", VERSIONS)
def test_real_profiles_allow_what_is_claimed_and_cover_who_signed(version: str) -> None:
    bundles = [app(version), *extensions_of(app(version))]
    for bundle, path in zip(bundles, real_profiles(version), strict=True):
        profile = read_provisioning_profile(path.read_bytes())
        for blobs in signatures(executable_of(bundle).read_bytes()):
            claimed = plistlib.loads(blobs[5][8:])
            unrestricted = {"com.apple.security.application-groups"}  # by a team's prefix, which needs no profile
            for key in claimed.keys() - unrestricted:
                assert profile.allows(key, claimed[key]), key
            signed = read_signed_data(blobs[SLOT_CMS][8:])
            leaf = signed.certificate_of(signed.signers[0])
            assert leaf is not None and profile.covers(leaf) and profile.covers(leaf.der)
            assert not any(profile.covers(other) for other in signed.certificates if other != leaf)
        assert profile.allows(NETWORK_EXTENSION, ["dns-proxy-systemextension", "dns-settings"])
        assert not profile.allows(NETWORK_EXTENSION, ["dns-proxy"])
        assert not profile.allows(NETWORK_EXTENSION, ["dns-proxy-systemextension", "url-filter-provider"])
        assert profile.allows("keychain-access-groups", ["S8XHQB96PW.anything"])
        assert not profile.allows("keychain-access-groups", ["S8XHQB96PW.anything", "OTHERTEAM1.group"])
        assert not profile.allows("com.apple.security.application-groups", ["S8XHQB96PW.group"])


@pytest.mark.parametrize("version", VERSIONS)
def test_real_profiles_are_trusted_though_their_signer_has_expired(version: str) -> None:
    for path in real_profiles(version):
        facts = verify_provisioning_profile(read_provisioning_profile(path.read_bytes()))
        assert facts.trusted and facts.signature.announced is Outcome.HOLDS
        assert facts.signature.chain is not None and facts.signature.chain.anchor == "Apple Root CA"
        assert facts.der_signature is not None and facts.der_signature.chain is not None
        assert facts.der_signature.chain.anchor == "Apple Root CA - G3"
        assert facts.der_agrees is Outcome.HOLDS and facts.unreadable_der is None
        assert facts.signed_at is not None and facts.signed_at.date().isoformat() == "2023-08-22"
        (expired,) = facts.expired_signers(datetime(2026, 11, 1, tzinfo=UTC))
        assert expired.subject.common_name == "Mac OS X Provisioning Profile Signing"
        assert facts.expired_signers(datetime(2026, 8, 1, tzinfo=UTC)) == ()


def test_openssl_agrees_about_a_real_profile_and_a_made_one(tmp_path: Path) -> None:
    contents = profile_contents(APPLICATION, [developer()])
    ours = make_profile(contents, signer())
    real = real_profiles("0.12.15")[0].read_bytes()
    root = next(item for item in read_signed_data(real).certificates if item.is_self_issued)
    for data, anchor in ((ours, authority().root.der), (real, root.der)):
        profile = read_provisioning_profile(data)
        (tmp_path / "profile").write_bytes(data)
        pem = subprocess.run(["openssl", "x509", "-inform", "der"], input=anchor, capture_output=True, check=True)
        (tmp_path / "root.pem").write_bytes(pem.stdout)
        signed_at = profile.signed_data.signers[0].signing_time
        assert signed_at is not None
        command = "openssl cms -verify -inform der -in profile -CAfile root.pem -purpose any -ignore_critical"
        when = f"-attime {int(signed_at.timestamp())} -auth_level 0"
        done = subprocess.run([*command.split(), *when.split()], cwd=tmp_path, capture_output=True, check=True)
        assert plistlib.loads(done.stdout)["UUID"] == profile.uuid


@pytest.mark.parametrize("platform", ["OSX", "iOS", "tvOS", "xrOS"])
@pytest.mark.parametrize("kind", ["development", "ad hoc", "developer id", "enterprise", "app store"])
def test_kinds(kind: str, platform: str) -> None:
    expected = {
        ("ad hoc", "OSX"): ProfileKind.DEVELOPMENT,  # the Mac has no ad hoc distribution
        ("enterprise", "OSX"): ProfileKind.DEVELOPER_ID,
        ("developer id", "iOS"): ProfileKind.ENTERPRISE,
        ("developer id", "tvOS"): ProfileKind.ENTERPRISE,
        ("developer id", "xrOS"): ProfileKind.ENTERPRISE,
    }.get((kind, platform), ProfileKind(kind))
    profile = made(kind=kind, platform=platform)
    assert profile.kind is expected
    assert profile.application_identifier == APPLICATION
    assert profile.covers_device("00008103-000000000000001E") == (kind != "app store")
    assert profile.covers_device("another") == (kind in ("developer id", "enterprise"))


def test_a_made_profile_with_both_signatures_is_trusted() -> None:
    contents = profile_contents(APPLICATION, [developer()], {NETWORK_EXTENSION: ["dns-proxy"]}, PPQCheck=False)
    data = make_profile(contents, signer(), inner_signer())
    facts = verified(data)
    assert facts.trusted and facts.der_agrees is Outcome.HOLDS
    assert facts.der_signature is not None and facts.der_signature.trusted
    profile = read_provisioning_profile(data)
    assert profile.covers(developer().der) and not profile.covers(signer().der)
    assert profile.contents["PPQCheck"] is False
    assert not verify_provisioning_profile(profile).trusted  # without its root


def test_der_and_xml_that_differ() -> None:
    contents = profile_contents(APPLICATION, [developer()])
    other = profile_contents(APPLICATION, [], {"com.apple.developer.system-extension.install": True})
    facts = verified(make_profile(contents, signer(), inner_signer(), der_contents=other))
    assert facts.signature.trusted and facts.der_agrees is Outcome.FAILS and not facts.trusted


def test_a_der_profile_that_cannot_be_read_is_told() -> None:
    contents = profile_contents(APPLICATION, [developer()]) | {"DER-Encoded-Profile": b"nothing"}
    facts = verified(make_profile(contents, signer()))
    assert facts.der_agrees is Outcome.FAILS and facts.unreadable_der and not facts.trusted


def test_a_signer_that_was_not_valid_at_the_signing_time() -> None:
    late = signer(not_before=SIGNING_TIME.replace(year=2030))
    facts = verified(make_profile(profile_contents(APPLICATION, []), late))
    assert facts.signature.trusted and facts.in_dates is Outcome.FAILS and not facts.trusted
    assert facts.expired_signers(SIGNING_TIME) == ()  # not yet valid is not expired


def test_one_changed_byte_of_the_contents_breaks_the_signature() -> None:
    data = make_profile(profile_contents(APPLICATION, [developer()]), signer())
    changed = data.replace(b"com.example.app", b"com.example.apq")
    facts = verified(changed)
    assert facts.signature.message_digest is Outcome.FAILS and not facts.trusted


def test_an_app_id_with_a_star() -> None:
    contents = profile_contents("FAKETEAM01.*", [])
    profile = read_provisioning_profile(make_profile(contents, signer()))
    assert profile.is_wildcard and profile.covers_application(APPLICATION)
    assert not profile.covers_application("OTHERTEAM1.com.example.app")
    assert made().covers_application(APPLICATION) and not made().covers_application(APPLICATION + ".extension")


@pytest.mark.parametrize(
    ("listed", "claimed", "allowed"),
    [
        (True, True, True),
        (True, False, True),
        (False, True, False),
        (False, False, True),
        (True, 1, False),
        (1, True, False),
        (1, 1, True),
        (1, 2, False),
        ("TEAM.*", "TEAM.com.example", True),
        ("TEAM.*", "TEAM.", True),
        ("TEAM.*", "TEAMS.com.example", False),
        ("TEAM.a*c", "TEAM.abc", False),
        ("*", "anything", True),
        ("a", "a", True),
        ("a", "A", False),
        (["TEAM.*", "other"], "other", True),
        (["TEAM.*", "other"], ["TEAM.x", "other"], True),
        (["TEAM.*", "other"], ["TEAM.x", "third"], False),
        ("*", ["a", "b"], True),
        ("a", ["a"], True),
        ([], ["a"], False),
        (["a"], [], True),
        (["a"], True, False),
        ("a", b"a", False),
        (b"a", b"a", True),
        ({"k": ["a", "b"]}, {"k": ["a"]}, True),
        ({"k": ["a"]}, {"k": ["b"]}, False),
        ({"k": "a"}, {"other": "a"}, False),
        ({"k": "a"}, "a", False),
    ],
)
def test_what_an_allowlist_allows(listed: Any, claimed: Any, allowed: bool) -> None:
    assert allows(listed, claimed) is allowed
    profile = made(entitlements={"key": listed})
    assert profile.allows("key", claimed) is allowed
    assert not profile.allows("another", claimed)


def test_matching_is_bounded() -> None:
    many = [str(number) for number in range(MAX_STEPS)]
    assert not allows(many, [str(MAX_STEPS - 1), *many])
    deep: Any = "a"
    for _ in range(2000):
        deep = [deep]
    assert not allows("a", deep) and not allows(deep, "a")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Platform", "OSX"),
        ("TeamIdentifier", [1]),
        ("ProvisionsAllDevices", 1),
        ("Version", True),
        ("ExpirationDate", "tomorrow"),
        ("DeveloperCertificates", ["text"]),
        ("Entitlements", []),
    ],
)
def test_a_key_of_another_type_is_unreadable(key: str, value: Any) -> None:
    contents = profile_contents(APPLICATION, []) | {key: value}
    with pytest.raises(UnreadableFile, match=key):
        read_provisioning_profile(sign_cms(plistlib.dumps(contents), signer()))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<plist/>",
        plistlib.dumps([]),
        plistlib.dumps({"a": 1}, fmt=plistlib.FMT_BINARY),
        b"<plist><dict><key>CreationDate</key><date>never</date></dict></plist>",
        b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]><plist><dict><key>Name</key><string>&a;</string></dict></plist>",
        b"<plist>" + b"<dict><key>a</key>" * 500 + b"</dict>" * 500 + b"</plist>",
    ],
)
def test_content_that_is_no_property_list_is_unreadable(content: bytes) -> None:
    with pytest.raises(UnreadableFile):
        read_provisioning_profile(sign_cms(content, signer()))


def test_a_profile_without_content_is_unreadable() -> None:
    with pytest.raises(UnreadableFile, match="no content"):
        read_provisioning_profile(sign_cms(b"content", signer(), detached=True))


def test_an_empty_profile_says_nothing() -> None:
    profile = read_provisioning_profile(sign_cms(plistlib.dumps({}), signer()))
    assert profile.kind is ProfileKind.APP_STORE
    assert profile.application_identifier is None and not profile.is_wildcard and not profile.covers(b"")
    assert not profile.covers_application(APPLICATION) and not profile.expired_at(SIGNING_TIME)


def test_der_values_round_trip() -> None:
    value = {
        "bool": True,
        "int": -7,
        "list": ["a", ["b"]],
        "text": "ü",
        "bytes": b"\x00",
        "dict": {},
        "long": "x" * 300,
    }
    assert read_der_value(entitlements_der(value), "DER") == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05\x00",
        b"\x01\x02\x00\x00",
        b"\x0c\x01\xff",
        b"\x17\x01x",
        b"\x70\x03\x02\x01\x01",
        b"\xb0\x02\x30\x00",
        bytes.fromhex("b010 3006 0c0161 020101 3006 0c0161 020102".replace(" ", "")),
        b"\x30\x80\x00\x00",
        b"\x30\x30" * 60,
    ],
)
def test_what_is_no_der_value_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableFile):
        read_der_value(data, "DER")
