from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from hypothesis import given
from hypothesis import strategies as st

from network_extension.doctor.code_signature import read_code_signature
from network_extension.doctor.macho import read_macho
from network_extension.doctor.requirement_evaluation import CertificateFacts, SignatureFacts, evaluate, unmet
from network_extension.doctor.requirement_match import APPLE_EPOCH, Comparison, Match
from network_extension.doctor.requirement_tree import (
    And,
    AppleAnchor,
    CertificateExtension,
    CertificateField,
    CertificateHash,
    CodeDirectoryHash,
    Constant,
    EntitlementField,
    ExtensionKind,
    Identifier,
    InfoField,
    LegacyDeveloperID,
    NamedAnchor,
    NamedCode,
    Not,
    Notarized,
    Or,
    PlatformIs,
    Requirement,
    Trusted,
    Unknown,
)
from network_extension.doctor.requirements import RequirementType, read_requirement_set

from .corpus import VERSIONS, executables
from .test_requirements import TREES

EXISTS, ABSENT = Match(Comparison.EXISTS), Match(Comparison.ABSENT)
TRUE, FALSE, OPEN = Constant(True), Constant(False), Notarized()
DATE = "1.2.840.113635.100.6.1.33"
LEAF = CertificateFacts(
    subject={"CN": "Developer ID Application: Someone", "OU": "TEAM123456"},
    extensions={"1.2.840.113635.100.6.1.13": b"\x05\x00", DATE: b"\x0c\x0f20230814000000Z"},
    policies=frozenset({"1.2.840.113635.100.5.1"}),
    emails=("a@example.com", "b@example.com"),
    sha1=b"leaf hash",
)
ISSUER = CertificateFacts({"CN": "Developer ID Certification Authority", "O": "Apple Inc."}, {DATE[:-5] + "2.6": b""})
ROOT = CertificateFacts({"CN": "Apple Root CA"}, sha1=b"root hash")
FACTS = SignatureFacts(
    identifier="com.example.app",
    certificates=(LEAF, ISSUER, ROOT),
    apple_root=True,
    info_plist={"CFBundleVersion": "1.10", "Off": False, "On": True, "Number": 3, "When": datetime(2026, 1, 1)},  # noqa: DTZ001  # as plistlib has it
    entitlements={"com.apple.x": ["one", "two"], "empty": []},
    cdhash=b"0123456789abcdefghij",
    platform=2,
)


def info(key: bytes, comparison: Comparison, operand: bytes | int | None = None) -> InfoField:
    return InfoField(key, Match(comparison, operand))


def seconds(*date: int) -> int:
    year, month, day = date
    return int((datetime(year, month, day, tzinfo=UTC) - APPLE_EPOCH).total_seconds())


MET: list[Requirement] = [
    TRUE,
    Identifier(b"com.example.app"),
    AppleAnchor(generic=True),
    CodeDirectoryHash(FACTS.cdhash),
    PlatformIs(2),
    CertificateHash(0, b"leaf hash"),
    CertificateHash(-1, b"root hash"),
    CertificateHash(2, b"root hash"),
    CertificateField(0, b"subject.OU", Match(Comparison.EQUAL, b"TEAM123456")),
    CertificateField(-2, b"subject.CN", Match(Comparison.BEGINS_WITH, b"Developer ID")),
    CertificateField(0, b"email", Match(Comparison.EQUAL, b"b@example.com")),
    CertificateExtension(0, ExtensionKind.FIELD, "1.2.840.113635.100.6.1.13", EXISTS),
    CertificateExtension(0, ExtensionKind.FIELD, "1.2.840.113635.100.6.1.9", ABSENT),
    CertificateExtension(0, ExtensionKind.POLICY, "1.2.840.113635.100.5.1", EXISTS),
    CertificateExtension(0, ExtensionKind.TIMESTAMP, DATE, Match(Comparison.ON, seconds(2023, 8, 14))),
    CertificateExtension(0, ExtensionKind.TIMESTAMP, DATE, Match(Comparison.BEFORE, seconds(2023, 8, 15))),
    CertificateExtension(0, ExtensionKind.TIMESTAMP, DATE, Match(Comparison.ON_OR_AFTER, seconds(2023, 8, 14))),
    info(b"CFBundleVersion", Comparison.EQUAL, b"1.10"),
    info(b"CFBundleVersion", Comparison.GREATER_THAN, b"1.9"),
    info(b"CFBundleVersion", Comparison.LESS_EQUAL, b"1.010"),
    info(b"CFBundleVersion", Comparison.LESS_THAN, b"1." + b"9" * 10_000),
    info(b"CFBundleVersion", Comparison.CONTAINS, b"."),
    info(b"CFBundleVersion", Comparison.ENDS_WITH, b".10"),
    info(b"On", Comparison.EXISTS),
    info(b"nothing", Comparison.ABSENT),
    info(b"When", Comparison.AFTER, seconds(2025, 12, 31)),
    EntitlementField(b"com.apple.x", Match(Comparison.EQUAL, b"two")),
    EntitlementField(b"empty", EXISTS),
    Unknown(99, TRUE),
]
NOT_MET: list[Requirement] = [
    FALSE,
    Identifier(b"com.example"),
    AppleAnchor(generic=False),
    CodeDirectoryHash(b""),
    PlatformIs(0),
    CertificateHash(1, b"leaf hash"),
    CertificateHash(3, b""),
    CertificateHash(-4, b"leaf hash"),
    CertificateField(0, b"subject.ST", ABSENT),  # a part of the subject is never absent
    CertificateField(0, b"issuer.CN", EXISTS),
    CertificateField(5, b"subject.OU", ABSENT),
    CertificateExtension(5, ExtensionKind.FIELD, "1.2.3", ABSENT),
    CertificateExtension(0, ExtensionKind.FIELD, "1.2.3", EXISTS),
    CertificateExtension(0, ExtensionKind.POLICY, "1.2.3", EXISTS),
    CertificateExtension(0, ExtensionKind.TIMESTAMP, DATE, Match(Comparison.AFTER, seconds(2023, 8, 14))),
    CertificateExtension(0, ExtensionKind.TIMESTAMP, "1.2.840.113635.100.6.1.13", Match(Comparison.AFTER, 0)),
    info(b"CFBundleVersion", Comparison.LESS_THAN, b"1.9"),
    info(b"CFBundleVersion", Comparison.GREATER_EQUAL, b"2"),
    info(b"CFBundleVersion", Comparison.BEGINS_WITH, b"1.10.1"),
    info(b"CFBundleVersion", Comparison.CONTAINS, b""),
    info(b"CFBundleVersion", Comparison.ABSENT),
    info(b"CFBundleVersion", Comparison.ON, 0),
    info(b"Off", Comparison.EXISTS),
    info(b"Number", Comparison.EQUAL, b"3"),
    info(b"nothing", Comparison.EXISTS),
    EntitlementField(b"com.apple.x", Match(Comparison.EQUAL, b"three")),
    Unknown(99, None),
]
UNDECIDED: list[Requirement] = [
    Notarized(),
    LegacyDeveloperID(),
    Trusted(None),
    Trusted(0),
    NamedAnchor(b"x"),
    NamedCode(b"x"),
]


@pytest.mark.parametrize("requirement", MET, ids=str)
def test_these_are_met(requirement: Requirement) -> None:
    assert evaluate(requirement, FACTS) is True and unmet(requirement, FACTS) == ()


@pytest.mark.parametrize("requirement", NOT_MET, ids=str)
def test_these_are_not_met(requirement: Requirement) -> None:
    assert evaluate(requirement, FACTS) is False
    assert unmet(requirement, FACTS) == (str(requirement).strip(),)


@pytest.mark.parametrize("requirement", UNDECIDED, ids=str)
def test_these_cannot_be_decided_from_files(requirement: Requirement) -> None:
    assert evaluate(requirement, FACTS) is None
    assert unmet(requirement, FACTS) == (str(requirement),)


def test_apples_own_code_is_told_by_its_intermediate() -> None:
    own = CertificateFacts({"CN": "Apple Code Signing Certification Authority", "O": "Apple Inc."})
    facts = replace(FACTS, certificates=(LEAF, own, ROOT))
    assert evaluate(AppleAnchor(generic=False), facts) is True
    assert evaluate(AppleAnchor(generic=False), replace(facts, apple_root=False)) is False


def test_adhoc_code_has_no_certificates_to_ask() -> None:
    facts = replace(FACTS, certificates=(), apple_root=False)
    assert evaluate(CertificateExtension(0, ExtensionKind.FIELD, "1.2.3", ABSENT), facts) is False
    assert evaluate(CodeDirectoryHash(FACTS.cdhash), facts) is True


def test_a_ticket_decides_notarized() -> None:
    assert evaluate(Notarized(), replace(FACTS, notarized=True)) is True
    assert evaluate(Notarized(), replace(FACTS, notarized=False)) is False


@pytest.mark.parametrize(("left", "right"), list(product((TRUE, FALSE, OPEN), repeat=2)), ids=str)
def test_what_is_undecided_spreads_only_where_it_matters(left: Requirement, right: Requirement) -> None:
    """Undecided is right where the two ways that it may turn out differ."""
    ways = [replace(FACTS, notarized=notarized) for notarized in (True, False)]
    for tree in (And(left, right), Or(left, right), Not(Or(left, right))):
        outcomes = {evaluate(tree, facts) for facts in ways}
        assert evaluate(tree, FACTS) is (outcomes.pop() if len(outcomes) == 1 else None)


def test_unmet_names_the_tests_for_want_of_which_it_fails() -> None:
    wrong = CertificateField(0, b"subject.OU", Match(Comparison.EQUAL, b"OTHER"))
    tree = And(And(AppleAnchor(generic=True), Identifier(b"com.other")), Or(wrong, And(TRUE, Not(TRUE))))
    assert unmet(tree, FACTS) == ('identifier "com.other"', "certificate leaf[subject.OU] = OTHER", "! always")


@given(TREES)
def test_unmet_is_empty_exactly_where_the_requirement_is_met(tree: Requirement) -> None:
    assert (unmet(tree, FACTS) == ()) is (evaluate(tree, FACTS) is True)


def real_facts(cms: bytes, **more: object) -> SignatureFacts:
    """The certificates that are found in a real CMS signature, sorted from the leaf to the root."""
    found: dict[bytes, x509.Certificate] = {}
    at = cms.find(b"\x30\x82")
    while at >= 0:
        raw = cms[at : at + 4 + int.from_bytes(cms[at + 2 : at + 4], "big")]
        try:
            certificate = x509.load_der_x509_certificate(raw)
            found[certificate.subject.public_bytes()] = certificate
        except ValueError:
            pass
        at = cms.find(b"\x30\x82", at + 1)
    (current,) = (each for each in found.values() if "Developer ID Application" in each.subject.rfc4514_string())
    chain = [current]
    while current.issuer != current.subject:
        current = found[current.issuer.public_bytes()]
        chain.append(current)
    return SignatureFacts(certificates=[real_certificate(each) for each in chain], **more)  # type: ignore[arg-type]


def real_certificate(certificate: x509.Certificate) -> CertificateFacts:
    return CertificateFacts(
        subject={part.rfc4514_attribute_name: str(part.value) for part in certificate.subject},
        extensions={each.oid.dotted_string: b"" for each in certificate.extensions},
        sha1=certificate.fingerprint(SHA1()),  # what requirements ask for
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("bundle", [0, 1])
def test_real_code_meets_its_own_designated_requirement(version: str, bundle: int) -> None:
    for image in read_macho(executables(version)[bundle].read_bytes()):
        assert image.signature_data is not None
        signature = read_code_signature(image.signature_data)
        assert signature.requirements is not None and signature.cms is not None
        designated = read_requirement_set(signature.requirements)[RequirementType.DESIGNATED]
        facts = real_facts(signature.cms, identifier=signature.directory.identifier, apple_root=True)
        assert [each.subject["CN"] for each in facts.certificates][1:] == [
            "Developer ID Certification Authority",
            "Apple Root CA",
        ]
        assert evaluate(designated, facts) is True
        assert unmet(designated, replace(facts, apple_root=False)) == ("anchor apple generic",)
        other = [replace(facts.certificates[0], subject={"OU": "OTHERTEAM1"}), *facts.certificates[1:]]
        assert "certificate leaf[subject.OU] = S8XHQB96PW" in unmet(designated, replace(facts, certificates=other))
        assert evaluate(designated, replace(facts, identifier="org.other")) is False


@given(st.text(max_size=9), st.text(max_size=9))
def test_numeric_comparison_is_an_order(one: str, other: str) -> None:
    facts = SignatureFacts(info_plist={"V": one})

    def outcome(comparison: Comparison) -> bool | None:
        return evaluate(info(b"V", comparison, other.encode()), facts)

    assert outcome(Comparison.LESS_THAN) is (not outcome(Comparison.GREATER_EQUAL))
    assert outcome(Comparison.GREATER_THAN) is (not outcome(Comparison.LESS_EQUAL))
    assert not (outcome(Comparison.LESS_THAN) and outcome(Comparison.GREATER_THAN))
