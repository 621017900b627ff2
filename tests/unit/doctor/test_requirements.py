from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.doctor.errors import UnreadableFile
from network_extension.doctor.requirement_match import Comparison, Match
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
from network_extension.doctor.requirements import RequirementType, read_requirement, read_requirement_set

from . import requirement_bytes as made
from .signature_bytes import blob

EXISTS = Match(Comparison.EXISTS)
A, B, C = Identifier(b"a"), Identifier(b"b"), Identifier(b"c")

WORDS, POSITIONS = st.binary(max_size=9), st.integers(-3, 3)
OIDS = st.sampled_from(["1.2.840.113635.100.6.1.13", "2.5.29.15", "0.9.2342", "1.39.128.16384", "2.47.1"])
TEXT_COMPARISONS = st.sampled_from([each for each in Comparison if 0 < each < Comparison.ON])
TIMES = st.sampled_from([each for each in Comparison if each.is_of_times])
MATCHES = st.one_of(
    st.sampled_from([EXISTS, Match(Comparison.ABSENT)]),
    st.builds(Match, TEXT_COMPARISONS, WORDS),
    st.builds(Match, TIMES, st.integers(-(1 << 63), (1 << 63) - 1)),
)
LEAVES: st.SearchStrategy[Requirement] = st.one_of(
    st.builds(Constant, st.booleans()),
    st.builds(Identifier, WORDS),
    st.builds(AppleAnchor, st.booleans()),
    st.builds(NamedAnchor, WORDS),
    st.builds(NamedCode, WORDS),
    st.builds(CertificateHash, POSITIONS, WORDS),
    st.builds(CertificateField, POSITIONS, WORDS, MATCHES),
    st.builds(CertificateExtension, POSITIONS, st.sampled_from(ExtensionKind), OIDS, MATCHES),
    st.builds(Trusted, st.none() | POSITIONS),
    st.builds(InfoField, WORDS, MATCHES),
    st.builds(EntitlementField, WORDS, MATCHES),
    st.builds(CodeDirectoryHash, WORDS),
    st.builds(PlatformIs, POSITIONS),
    st.just(Notarized()),
    st.just(LegacyDeveloperID()),
)
TREES: st.SearchStrategy[Requirement] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.builds(And, inner, inner), st.builds(Or, inner, inner), st.builds(Not, inner)),
    max_leaves=12,
)


@given(TREES)
def test_every_tree_reads_back_from_its_bytes(tree: Requirement) -> None:
    assert read_requirement(made.requirement(tree)) == tree
    assert str(tree)


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (Constant(True), "always"),
        (Constant(False), "never"),
        (Identifier(b"com.example.app"), 'identifier "com.example.app"'),
        (Identifier(b"app"), "identifier app"),
        (Identifier(b""), 'identifier ""'),
        (Identifier(b"7up"), 'identifier "7up"'),
        (Identifier(b'a "b" \\'), 'identifier "a \\"b\\" \\\\"'),
        (Identifier(b"\xff\x00"), "identifier 0xff00"),
        (AppleAnchor(generic=False), "anchor apple"),
        (AppleAnchor(generic=True), "anchor apple generic"),
        (NamedAnchor(b"iphone"), "anchor apple iphone"),
        (NamedCode(b"x"), "(x)"),
        (Trusted(None), "anchor trusted"),
        (Trusted(-1), "certificate roottrusted"),  # codesign leaves the blank out as well
        (CertificateHash(-1, b"\x01\xab"), 'certificate root = H"01ab"'),
        (CertificateHash(2, b""), 'certificate 2 = H""'),
        (CertificateField(0, b"subject.OU", Match(Comparison.EQUAL, b"TEAM")), "certificate leaf[subject.OU] = TEAM"),
        (CertificateField(0, b"subject.OU", Match(Comparison.EQUAL, b"9A")), 'certificate leaf[subject.OU] = "9A"'),
        (
            CertificateExtension(1, ExtensionKind.FIELD, "1.2.840.113635.100.6.2.6", EXISTS),
            "certificate 1[field.1.2.840.113635.100.6.2.6] /* exists */",
        ),
        (
            CertificateExtension(0, ExtensionKind.POLICY, "1.2.3", Match(Comparison.ABSENT)),
            "certificate leaf[policy.1.2.3] absent ",
        ),
        (
            CertificateExtension(0, ExtensionKind.TIMESTAMP, "1.2.3", Match(Comparison.ON_OR_AFTER, 86400)),
            "certificate leaf[timestamp.1.2.3] >= <2001-01-02 00:00:00 +0000>",
        ),
        (InfoField(b"CFBundleName", Match(Comparison.BEGINS_WITH, b"x")), "info[CFBundleName] = x*"),
        (InfoField(b"a b", Match(Comparison.ENDS_WITH, b"x")), 'info["a b"] = *x'),
        (InfoField(b"V", Match(Comparison.CONTAINS, b"1.0")), 'info[V] ~ "1.0"'),
        (InfoField(b"V", Match(Comparison.LESS_THAN, b"x")), "info[V] < x"),
        (InfoField(b"V", Match(Comparison.GREATER_THAN, b"x")), "info[V] > x"),
        (InfoField(b"V", Match(Comparison.LESS_EQUAL, b"x")), "info[V] <= x"),
        (InfoField(b"V", Match(Comparison.GREATER_EQUAL, b"x")), "info[V] >= x"),
        (EntitlementField(b"com.apple.x", EXISTS), "entitlement[com.apple.x] /* exists */"),
        (CodeDirectoryHash(bytes(range(20))), 'cdhash H"000102030405060708090a0b0c0d0e0f10111213"'),
        (PlatformIs(-1), "platform = -1"),
        (Notarized(), "notarized"),
        (LegacyDeveloperID(), "legacy"),
        (And(Or(A, B), C), "(identifier a or identifier b) and identifier c"),
        (Or(And(A, B), C), "identifier a and identifier b or identifier c"),
        (And(A, And(B, C)), "identifier a and identifier b and identifier c"),
        (Not(And(A, B)), "! (identifier a and identifier b)"),
        (And(Not(A), Not(Not(B))), "! identifier a and ! ! identifier b"),
    ],
)
def test_the_text_is_what_codesign_prints(tree: Requirement, text: str) -> None:
    assert str(read_requirement(made.requirement(tree))) == text


def test_the_older_opcode_for_a_key_of_info_plist_is_read_as_the_newer_one() -> None:
    raw = made.raw_requirement(struct.pack(">I", 5) + made.data(b"CFBundleName") + made.data(b"Foo"))
    assert read_requirement(raw) == InfoField(b"CFBundleName", Match(Comparison.EQUAL, b"Foo"))


def test_opcodes_of_later_systems_are_false_or_passed_over_as_they_ask() -> None:
    payload = struct.pack(">I", 5) + b"later"
    false = read_requirement(made.raw_requirement(struct.pack(">I", 0x80000063) + payload))
    skipped = read_requirement(made.raw_requirement(struct.pack(">I", 0x40000063) + payload + struct.pack(">I", 1)))
    assert (false, skipped) == (Unknown(99, None), Unknown(99, Constant(True)))
    assert (str(false), str(skipped)) == (" false /* opcode 99 */", " /* opcode 99 */ always")
    known = made.raw_requirement(struct.pack(">I", 0x80000015))
    assert read_requirement(known) == Notarized()  # who knows it, does not pass it over


def test_a_set_holds_requirements_by_their_type() -> None:
    raw = made.requirement_set({3: made.requirement(A), 1: made.requirement(B), 77: made.requirement(C)})
    assert read_requirement_set(raw) == {RequirementType.DESIGNATED: A, RequirementType.HOST: B, 77: C}
    assert read_requirement_set(made.requirement_set({})) == {}


def test_a_chain_as_long_as_is_allowed_is_read_and_a_longer_one_refused() -> None:
    chain: Requirement = A
    for _ in range(99):
        chain = And(chain, B)
    assert str(read_requirement(made.requirement(chain))).count(" and ") == 99
    with pytest.raises(UnreadableFile, match="nested deeper"):
        read_requirement(made.requirement(And(chain, C)))
    with pytest.raises(UnreadableFile, match="nested deeper"):
        read_requirement(made.raw_requirement(struct.pack(">I", 9) * 15_000))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not within"),
        (blob(0xFADE0C01, bytes(4)), "magic 0xfade0c01"),
        (made.requirement(A) + b"\0", "in a blob of 25 bytes"),
        (blob(0xFADE0C00, bytes(4)), "of form 0"),
        (blob(0xFADE0C00, struct.pack(">2I", 2, 1)), "of form 2"),
        (made.raw_requirement(b""), "not within"),
        (made.raw_requirement(struct.pack(">2I", 1, 1)), "4 bytes behind"),
        (made.raw_requirement(struct.pack(">I", 24)), "opcode 24"),
        (made.raw_requirement(struct.pack(">2I", 2, 1 << 31)), "not within"),
        (made.raw_requirement(struct.pack(">2I", 2, 1) + b"a"), "not within"),  # without its padding
        (made.raw_requirement(struct.pack(">I", 10) + made.data(b"k") + struct.pack(">I", 15)), "comparison 15"),
        (made.raw_requirement(struct.pack(">2I", 14, 0) + made.data(b"") + bytes(4)), "no object identifier"),
        (made.raw_requirement(struct.pack(">2I", 14, 0) + made.data(b"\x2a\x86") + bytes(4)), "no object identifier"),
    ],
)
def test_what_is_no_requirement_is_refused_with_its_reason(data: bytes, why: str) -> None:
    with pytest.raises(UnreadableFile, match=why):
        read_requirement(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (made.requirement(A), "magic 0xfade0c00"),
        (blob(0xFADE0C01, struct.pack(">I", 65)), "a set of 65"),
        (blob(0xFADE0C01, struct.pack(">3I", 1, 3, 1 << 30)), "not within"),
        (blob(0xFADE0C01, struct.pack(">5I", 2, 3, 28, 3, 28) + made.requirement(A)), "two of type 3"),
    ],
)
def test_what_is_no_set_is_refused_with_its_reason(data: bytes, why: str) -> None:
    with pytest.raises(UnreadableFile, match=why):
        read_requirement_set(data)
