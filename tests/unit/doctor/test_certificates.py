"""Certificates and chains: Apple's own from real apps, and generated ones with one fault each."""

from __future__ import annotations

import functools
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from network_extension.doctor.certificate_chain import MAX_CHAIN, build_chain
from network_extension.doctor.certificate_kinds import (
    APPLE_ROOTS,
    DEVELOPER_ID_AUTHORITY,
    DEVELOPER_ID_DATE,
    WORLDWIDE_DEVELOPER_RELATIONS_AUTHORITY,
    CertificateKind,
)
from network_extension.doctor.certificates import Certificate, read_certificate
from network_extension.doctor.cms import read_signed_data
from network_extension.doctor.errors import UnreadableFile
from network_extension.doctor.outcome import Outcome
from network_extension.doctor.provisioning_profile import read_provisioning_profile
from tests.doctor_authorities import (
    NOT_AFTER,
    NOT_BEFORE,
    WWDR_MARKER,
    Authority,
    Identity,
    private_key,
)
from tests.doctor_bundles import contents_of, executable_of
from tests.doctor_code_directory import SLOT_CMS, signatures

from .corpus import VERSIONS, app

Kind = CertificateKind


@functools.cache
def authority() -> Authority:
    return Authority.make(key_kind="p256")


def read(*identities: Identity) -> list[Certificate]:
    return [read_certificate(identity.der) for identity in identities]


def test_the_leaf_of_a_real_app() -> None:
    blobs = next(signatures(executable_of(app("0.12.15")).read_bytes()))
    signed = read_signed_data(blobs[SLOT_CMS][8:])
    leaf = signed.certificate_of(signed.signers[0])
    assert leaf is not None
    assert leaf.subject.common_name == "Developer ID Application: Maximilian Hils (S8XHQB96PW)"
    assert leaf.team_identifier == leaf.subject.organizational_unit == leaf.subject.user_id == "S8XHQB96PW"
    assert (leaf.subject.organization, leaf.subject.country) == ("Maximilian Hils", "US")
    assert leaf.issuer.common_name == "Developer ID Certification Authority"
    assert (leaf.not_before, leaf.not_after) == (
        datetime(2023, 8, 14, 12, 48, 22, tzinfo=UTC),
        datetime(2027, 2, 1, 22, 12, 15, tzinfo=UTC),
    )
    assert leaf.kinds == {Kind.DEVELOPER_ID_APPLICATION}
    assert leaf.field_text(DEVELOPER_ID_DATE) == "20230814000000Z"
    assert "1.2.840.113635.100.6.1.13" in leaf.critical_fields and DEVELOPER_ID_DATE not in leaf.critical_fields
    assert leaf.field_text("1.2.840.113635.100.6.1.13") is None  # there, but NULL
    assert not leaf.is_authority and not leaf.is_self_issued
    chain = build_chain(leaf, signed.certificates)
    assert DEVELOPER_ID_AUTHORITY in chain.certificates[1].fields and not chain.certificates[1].kinds
    assert chain.outside_dates(datetime(2027, 3, 1, tzinfo=UTC)) == chain.certificates[:2]


@pytest.mark.parametrize("version", VERSIONS)
def test_both_pinned_roots_that_real_files_hold(version: str) -> None:
    profile = read_provisioning_profile((contents_of(app(version)) / "embedded.provisionprofile").read_bytes())
    assert profile.der_encoded_profile is not None
    inner = read_signed_data(profile.der_encoded_profile)
    found = {
        certificate.fingerprint: certificate.subject.common_name
        for certificate in (*profile.signed_data.certificates, *inner.certificates)
        if certificate.is_self_issued
    }
    assert sorted(found.values(), key=str) == ["Apple Root CA", "Apple Root CA - G3"]
    assert all(APPLE_ROOTS[fingerprint] == name for fingerprint, name in found.items())
    outer_leaf = profile.signed_data.certificate_of(profile.signed_data.signers[0])
    assert outer_leaf is not None and outer_leaf.kinds == {Kind.PROFILE_SIGNING}
    outer = build_chain(outer_leaf, profile.signed_data.certificates)
    assert outer.trusted and WORLDWIDE_DEVELOPER_RELATIONS_AUTHORITY in outer.certificates[1].fields


@pytest.mark.parametrize(
    ("leaf", "kinds"),
    [
        ("Developer ID Application", {Kind.DEVELOPER_ID_APPLICATION}),
        ("Developer ID Installer", {Kind.DEVELOPER_ID_INSTALLER}),
        ("Apple Development", {Kind.IOS_DEVELOPMENT, Kind.MAC_DEVELOPMENT}),
        ("Apple Distribution", {Kind.IOS_DISTRIBUTION, Kind.MAC_APP_SUBMISSION}),
        ("Apple Mac OS Application Signing", {Kind.MAC_APP_STORE}),
        ("Apple iPhone OS Application Signing", {Kind.IOS_APP_STORE}),
        ("TestFlight Beta Distribution", {Kind.TESTFLIGHT}),
        ("Somebody", set()),
    ],
)
def test_kinds_of_leaves(leaf: str, kinds: set[CertificateKind]) -> None:
    (certificate,) = read(authority().issue(leaf))
    assert certificate.kinds == kinds
    assert certificate.team_identifier == "FAKETEAM01"


def test_a_chain_to_an_extra_anchor_in_any_order_of_certificates() -> None:
    made = authority()
    leaf, middle, root = read(made.issue(), made.intermediate, made.root)
    for others in ([middle, root], [root, middle], [leaf, middle, leaf], [middle]):
        chain = build_chain(leaf, others, [root])
        assert chain.certificates == (leaf, middle, root) and chain.leaf == leaf
        assert chain.trusted and chain.anchor == "Fake Apple Root CA" and not chain.is_apple


def test_a_chain_without_anchor_says_how_far_it_came() -> None:
    made = authority()
    leaf, middle, root = read(made.issue(), made.intermediate, made.root)
    whole = build_chain(leaf, [middle, root])
    assert whole.certificates == (leaf, middle, root) and whole.anchor is None and not whole.trusted
    assert whole.signatures is Outcome.HOLDS  # nothing is missing: it ends at a root, which nobody trusts
    cut = build_chain(leaf, [middle])
    assert cut.certificates == (leaf, middle) and cut.signatures is Outcome.ABSENT
    assert build_chain(leaf, []).signatures is Outcome.ABSENT


def test_a_namesake_that_did_not_sign_is_told_and_the_right_one_is_found_behind_it() -> None:
    made = authority()
    impostor = Authority.make(key_kind="p384")  # the same names, other keys
    leaf, middle, root, wrong = read(made.issue(), made.intermediate, made.root, impostor.intermediate)
    alone = build_chain(leaf, [wrong, root], [root])
    assert alone.signatures is Outcome.FAILS and alone.certificates == (leaf,) and not alone.trusted
    assert build_chain(leaf, [wrong, middle, root], [root]).trusted


def test_a_root_of_the_same_name_as_apples_is_not_apples() -> None:
    made = Authority.make(key_kind="p256", name="Apple Root CA")
    leaf, middle, root = read(made.issue(), made.intermediate, made.root)
    assert build_chain(leaf, [middle, root]).anchor is None


def test_a_leaf_may_not_issue() -> None:
    made = authority()
    rogue = made.issue("Developer ID Application")
    forged = issued_by(rogue, "Forged")
    forged_certificate, leaf, middle, root = read(forged, rogue, made.intermediate, made.root)
    chain = build_chain(forged_certificate, [leaf, middle, root], [root])
    assert chain.anchor is not None and chain.signatures is Outcome.HOLDS
    assert chain.authorities is Outcome.FAILS and not chain.trusted


def test_a_path_length_is_kept() -> None:
    made = authority()
    short = issued_by(made.root, "Short CA", constraints=x509.BasicConstraints(True, 0))
    below = issued_by(short, "One too many CA", constraints=x509.BasicConstraints(True, None))
    leaf = issued_by(below, "Leaf")
    direct = issued_by(short, "Direct leaf")
    (root,) = read(made.root)
    others = read(short, below)
    assert build_chain(read(leaf)[0], others, [root]).authorities is Outcome.FAILS
    assert build_chain(read(direct)[0], others, [root]).trusted


def issued_by(issuer: Identity, name: str, constraints: x509.BasicConstraints | None = None) -> Identity:
    key = private_key("p256", name)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(
        issuer.certificate.subject, subject, key.public_key(), x509.random_serial_number(), NOT_BEFORE, NOT_AFTER
    )
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    return Identity(builder.sign(issuer.key, hashes.SHA256()), key)


def test_a_long_chain_ends_somewhere() -> None:
    links = [authority().root]
    for number in range(MAX_CHAIN + 4):
        links.append(issued_by(links[-1], f"CA {number}", x509.BasicConstraints(True, None)))
    certificates = read(*reversed(links))
    chain = build_chain(certificates[0], certificates, [certificates[-1]])
    assert len(chain.certificates) == MAX_CHAIN and not chain.trusted


def test_dates_are_asked_for_at_a_time() -> None:
    made = authority()
    until = datetime(2026, 1, 1, tzinfo=UTC)
    leaf, middle, root = read(made.issue(not_after=until), made.intermediate, made.root)
    chain = build_chain(leaf, [middle], [root])
    assert chain.valid_at(until) and chain.valid_at(datetime(2025, 1, 1))  # noqa: DTZ001 - without a zone it is UTC
    assert chain.outside_dates(datetime(2027, 1, 1, tzinfo=UTC)) == (leaf,)
    assert leaf.expired_at(datetime(2027, 1, 1, tzinfo=UTC)) and not leaf.expired_at(NOT_BEFORE.replace(year=2020))
    assert not leaf.valid_at(NOT_BEFORE.replace(year=2020))


def test_a_signature_algorithm_that_is_not_known_is_no_failure() -> None:
    made = authority()
    leaf, middle = read(made.issue(), made.intermediate)
    strange = leaf.__class__(**{name: getattr(leaf, name) for name in leaf.__slots__} | {"signature_algorithm": "1.2"})
    assert strange.issued_by(middle) is Outcome.UNSUPPORTED
    assert leaf.issued_by(leaf) is Outcome.ABSENT


def test_wwdr_and_developer_id_differ_by_the_marker_of_the_intermediate() -> None:
    developer_id, wwdr = read(authority().intermediate, Authority.make(WWDR_MARKER, "p256").intermediate)
    assert DEVELOPER_ID_AUTHORITY in developer_id.fields and DEVELOPER_ID_AUTHORITY not in wwdr.fields
    assert WORLDWIDE_DEVELOPER_RELATIONS_AUTHORITY in wwdr.fields


def test_what_is_no_certificate_is_unreadable() -> None:
    der = authority().root.certificate.public_bytes(Encoding.DER)
    assert read_certificate(memoryview(der)).der == der
    for data in (b"", der[:-1], der + b"\0", bytes(70000), b"\x30\x00"):
        with pytest.raises(UnreadableFile):
            read_certificate(data)


def test_a_certificate_whose_two_signature_algorithms_differ_is_unreadable() -> None:
    der = authority().root.der
    ecdsa_sha256 = bytes.fromhex("06082a8648ce3d040302")
    at = der.rindex(ecdsa_sha256)
    with pytest.raises(UnreadableFile, match="differ"):
        read_certificate(der[: at + 9] + b"\x03" + der[at + 10 :])
