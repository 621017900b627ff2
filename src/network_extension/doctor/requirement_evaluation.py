"""Whether signed code meets a code requirement, as Security.framework decides it (reqinterp.cpp).

Some tests cannot be decided from files: what the user trusts, what the system knows by name, and what the notary
service says where no ticket tells. They are neither true nor false (None), and `and`, `or`, `not` pass that on where
it matters: false and undecided is false.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from .requirement_match import ANCHOR, APPLE_EPOCH, Comparison, Match
from .requirement_tree import (
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
    Not,
    Notarized,
    Or,
    PlatformIs,
    Requirement,
    Unknown,
)

__all__ = ["CertificateFacts", "SignatureFacts", "evaluate", "unmet"]


@dataclass(frozen=True)
class CertificateFacts:
    """What requirements can ask of one certificate."""

    subject: Mapping[str, str] = field(default_factory=dict)
    """By "CN", "OU", "O", "C", "L", "ST", "STREET", "UID", "D"."""
    extensions: Mapping[str, bytes] = field(default_factory=dict)
    """Values of its extensions by object identifier in dotted form."""
    policies: frozenset[str] = frozenset()
    """Object identifiers of its certificate policies."""
    emails: tuple[str, ...] = ()
    sha1: bytes = b""
    """Of the whole certificate."""


@dataclass(frozen=True)
class SignatureFacts:
    """What requirements can ask of one signed image. The signature itself is taken to be valid."""

    identifier: str = ""
    certificates: Sequence[CertificateFacts] = ()
    """The chain from the signer's own certificate to the root. Empty: ad hoc."""
    apple_root: bool = False
    """Whether the chain ends in one of Apple's roots."""
    info_plist: Mapping[str, object] = field(default_factory=dict)
    entitlements: Mapping[str, object] = field(default_factory=dict)
    cdhash: bytes = b""
    platform: int = 0
    notarized: bool | None = None
    """None: not known."""

    def certificate(self, position: int) -> CertificateFacts | None:
        """That at a position of the chain: from 0, or from the end, -1 is the root. None where there is none."""
        count = len(self.certificates)
        return self.certificates[position] if -count <= position < count else None


def evaluate(requirement: Requirement, facts: SignatureFacts) -> bool | None:
    """Whether the requirement is met; None where that cannot be decided from the facts."""
    return _judged(requirement, facts).holds


def unmet(requirement: Requirement, facts: SignatureFacts) -> tuple[str, ...]:
    """The single tests, as `codesign` writes them, for want of which the requirement is not met: those that fail, and
    those that cannot be decided. Empty where it is met.
    """
    return _judged(requirement, facts).unmet


class _Judged(NamedTuple):
    holds: bool | None
    unmet: tuple[str, ...]


def _judged(requirement: Requirement, facts: SignatureFacts) -> _Judged:
    match requirement:
        case And(left, right):
            one, other = _judged(left, facts), _judged(right, facts)
            return _Judged(_both(one.holds, other.holds), one.unmet + other.unmet)
        case Or(left, right):
            one, other = _judged(left, facts), _judged(right, facts)
            holds = _not(_both(_not(one.holds), _not(other.holds)))
            return _Judged(holds, () if holds else one.unmet + other.unmet)
        case Not(test):
            return _leaf(requirement, _not(_judged(test, facts).holds))
        case Unknown(_, then):
            return _leaf(requirement, False) if then is None else _judged(then, facts)
        case _:
            return _leaf(requirement, _test(requirement, facts))


def _both(one: bool | None, other: bool | None) -> bool | None:
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def _not(holds: bool | None) -> bool | None:
    return None if holds is None else not holds


def _leaf(requirement: Requirement, holds: bool | None) -> _Judged:
    return _Judged(holds, () if holds else (str(requirement).strip(),))


def _test(requirement: Requirement, facts: SignatureFacts) -> bool | None:
    match requirement:
        case Constant(value):
            return value
        case Identifier(name):
            return name.decode("utf-8", "surrogateescape") == facts.identifier
        case CodeDirectoryHash(wanted):
            return wanted == facts.cdhash
        case PlatformIs(number):
            return number == facts.platform
        case InfoField(key, match_):
            return _matches(match_, _looked_up(facts.info_plist, key))
        case EntitlementField(key, match_):
            return _matches(match_, _looked_up(facts.entitlements, key))
        case AppleAnchor(generic):
            return facts.apple_root and (generic or _is_apples_own(facts))
        case CertificateHash() | CertificateField() | CertificateExtension():
            certificate = facts.certificate(requirement.position)
            return certificate is not None and _certificate_test(requirement, certificate)
        case Notarized():
            return facts.notarized
        case _:
            return None


def _looked_up(values: Mapping[str, object], key: bytes) -> object:
    return values.get(key.decode("utf-8", "surrogateescape"))


_OWN_INTERMEDIATE = ("Apple Code Signing Certification Authority", "Apple Inc.")


def _is_apples_own(facts: SignatureFacts) -> bool:
    issuer = facts.certificate(ANCHOR - 1)
    return issuer is not None and (issuer.subject.get("CN"), issuer.subject.get("O")) == _OWN_INTERMEDIATE


def _certificate_test(
    requirement: CertificateHash | CertificateField | CertificateExtension, certificate: CertificateFacts
) -> bool:
    match requirement:
        case CertificateHash(_, wanted):
            return wanted == certificate.sha1
        case CertificateField(_, b"email", match_):
            return _matches(match_, list(certificate.emails))
        case CertificateField(_, name, match_):
            prefix, _, attribute = name.partition(b".")
            value = _looked_up(certificate.subject, attribute) if prefix == b"subject" else None
            # Unlike a key of Info.plist, a part of the subject that is not there is not even absent.
            return value is not None and _matches(match_, value)
        case CertificateExtension(_, ExtensionKind.POLICY, oid, match_):
            return _matches(match_, True if oid in certificate.policies else None)
        case CertificateExtension(_, ExtensionKind.TIMESTAMP, oid, match_):
            return _matches(match_, _time(certificate.extensions.get(oid)))
        case CertificateExtension(_, _, oid, match_):
            return _matches(match_, True if oid in certificate.extensions else None)


_TIME = re.compile(rb"[\x0c\x13\x16\x18]\x0f(\d{14})Z")


def _time(value: bytes | None) -> datetime | None:
    """The time in an extension: a text or GeneralizedTime of fifteen characters, YYYYMMDDhhmmssZ."""
    found = _TIME.fullmatch(value or b"")
    if found is None:
        return None
    try:
        return datetime.strptime(found[1].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _matches(match_: Match, value: object) -> bool:
    """What is not there (None) is ABSENT and nothing else; of a list one item is enough."""
    comparison, operand = match_.comparison, match_.operand
    if value is None or comparison is Comparison.ABSENT:
        return value is None and comparison is Comparison.ABSENT
    if isinstance(value, (list, tuple)) and any(_matches(match_, item) for item in value):
        return True
    if comparison is Comparison.EXISTS:
        return value is not False
    if isinstance(operand, int):
        return isinstance(value, datetime) and _compare_times(comparison, value, operand)
    if not isinstance(operand, bytes) or not isinstance(value, str):
        return False
    return _compare_texts(comparison, value, operand.decode("utf-8", "surrogateescape"))


def _compare_times(comparison: Comparison, value: datetime, operand: int) -> bool:
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return _in_order(comparison, (aware - APPLE_EPOCH) / timedelta(seconds=1) - operand)


def _compare_texts(comparison: Comparison, value: str, operand: str) -> bool:
    match comparison:
        case Comparison.EQUAL:
            return value == operand
        case Comparison.CONTAINS:
            return bool(operand) and operand in value  # CFString finds no empty text
        case Comparison.BEGINS_WITH:
            return bool(operand) and value.startswith(operand)
        case Comparison.ENDS_WITH:
            return bool(operand) and value.endswith(operand)
    left, right = _numeric_key(value), _numeric_key(operand)
    return _in_order(comparison, (left > right) - (left < right))


def _in_order(comparison: Comparison, difference: float) -> bool:
    match comparison:
        case Comparison.ON:
            return difference == 0
        case Comparison.LESS_THAN | Comparison.BEFORE:
            return difference < 0
        case Comparison.GREATER_THAN | Comparison.AFTER:
            return difference > 0
        case Comparison.LESS_EQUAL | Comparison.ON_OR_BEFORE:
            return difference <= 0
        case _:
            return difference >= 0


def _numeric_key(text: str) -> list[tuple[int, int, str]]:
    """Sorts runs of digits by their number ("1.10" after "1.9") and all else by character (kCFCompareNumerically).

    A run is compared by its length without leading zeros, then by its digits: no number is made of it, however long.
    """
    key: list[tuple[int, int, str]] = []
    for run in re.findall(r"[0-9]+|[^0-9]", text):
        digits = run.lstrip("0") if run[0] in "0123456789" else None
        key.append((ord(run), 0, "") if digits is None else (ord("0"), len(digits), digits))
    return key
