"""X.509 certificates, as much of them as code signing asks about (RFC 5280).

Extensions that Apple marks as critical are not "understood" here in the sense of RFC 5280 §4.2; they are facts that
rules and requirements ask for, by object identifier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from asn1crypto import core, x509

from .asn1 import load, reading
from .certificate_kinds import LEAF_MARKERS, CertificateKind
from .errors import UnreadableFile
from .outcome import Outcome
from .public_keys import check_signature

__all__ = ["MAX_CERTIFICATE", "Certificate", "DistinguishedName", "read_certificate"]

MAX_CERTIFICATE = 64 << 10
"""Bytes of one certificate."""
MAX_NAME_PARTS = 64
MAX_EXTENSIONS = 64
MAX_FIELD_TEXT = 4096

_COMMON_NAME, _COUNTRY, _ORGANIZATION, _UNIT = "2.5.4.3", "2.5.4.6", "2.5.4.10", "2.5.4.11"
_USER_ID = "0.9.2342.19200300.100.1.1"
_LABELS = {_COMMON_NAME: "CN", _COUNTRY: "C", _ORGANIZATION: "O", _UNIT: "OU", _USER_ID: "UID"}
_SUBJECT_KEY, _BASIC_CONSTRAINTS = "2.5.29.14", "2.5.29.19"


class DistinguishedName(NamedTuple):
    """A subject or an issuer."""

    parts: tuple[tuple[str, str], ...]
    """(object identifier, text), in the order of the certificate."""
    der: bytes

    def first(self, identifier: str) -> str | None:
        """The first value of an attribute, as requirements read `subject.OU`."""
        return next((text for key, text in self.parts if key == identifier), None)

    @property
    def common_name(self) -> str | None:
        """CN: "Developer ID Application: Some Company (TEAM123456)"."""
        return self.first(_COMMON_NAME)

    @property
    def organizational_unit(self) -> str | None:
        """OU: on Apple's leaves the team identifier."""
        return self.first(_UNIT)

    @property
    def organization(self) -> str | None:
        """O: the company or person."""
        return self.first(_ORGANIZATION)

    @property
    def user_id(self) -> str | None:
        """UID: the team identifier on distribution leaves, a person's identifier on development leaves."""
        return self.first(_USER_ID)

    @property
    def country(self) -> str | None:
        """C: two letters."""
        return self.first(_COUNTRY)

    def __str__(self) -> str:
        return ", ".join(f"{_LABELS.get(key, key)}={text}" for key, text in self.parts)


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate. Equal certificates have equal bytes."""

    der: bytes
    subject: DistinguishedName = field(compare=False)
    issuer: DistinguishedName = field(compare=False)
    serial_number: int = field(compare=False)
    not_before: datetime = field(compare=False)
    not_after: datetime = field(compare=False)
    public_key: bytes = field(compare=False, repr=False)
    """DER SubjectPublicKeyInfo."""
    signature_algorithm: str = field(compare=False)
    """Object identifier."""
    signature: bytes = field(compare=False, repr=False)
    signed_part: bytes = field(compare=False, repr=False)
    """The bytes that `signature` is over: the TBSCertificate as encoded."""
    is_authority: bool = field(compare=False)
    """basicConstraints with cA."""
    path_length: int | None = field(compare=False)
    """How many further authorities may stand below this one; None without a limit."""
    key_identifier: bytes | None = field(compare=False, repr=False)
    """subjectKeyIdentifier."""
    fields: Mapping[str, bytes] = field(compare=False, repr=False)
    """Object identifier of each extension → its value in DER."""
    critical_fields: frozenset[str] = field(compare=False, repr=False)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER, in lower-case hexadecimal."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def kinds(self) -> frozenset[CertificateKind]:
        """What this leaf may sign; empty for authorities and for certificates that are not of Apple's shape."""
        return frozenset(kind for identifier, kind in LEAF_MARKERS.items() if identifier in self.fields)

    @property
    def team_identifier(self) -> str | None:
        """The team of a leaf that Apple gave to a developer: OU."""
        return self.subject.organizational_unit

    @property
    def is_self_issued(self) -> bool:
        """Subject and issuer are the same: a root, or a certificate that somebody made alone."""
        return self.subject.der == self.issuer.der

    def valid_at(self, time: datetime) -> bool:
        """Whether `time` lies between notBefore and notAfter. A time without a zone is UTC."""
        return self.not_before <= _aware(time) <= self.not_after

    def expired_at(self, time: datetime) -> bool:
        """Whether `time` is behind notAfter."""
        return _aware(time) > self.not_after

    def issued_by(self, issuer: Certificate) -> Outcome:
        """ABSENT when the names do not match; otherwise whether the signature is by the key of `issuer`."""
        if self.issuer.der != issuer.subject.der:
            return Outcome.ABSENT
        return check_signature(issuer.public_key, self.signature_algorithm, self.signature, self.signed_part)

    def field_text(self, identifier: str) -> str | None:
        """The value of an extension that is a string, as DEVELOPER_ID_DATE is; None when absent or not a string."""
        value = self.fields.get(identifier)
        if value is None or len(value) > MAX_FIELD_TEXT:
            return None
        try:
            parsed = load(core.Asn1Value, value, "certificate extension")
            with reading("certificate extension"):
                return parsed.native if isinstance(parsed, core.AbstractString) else None
        except UnreadableFile:
            return None


def read_certificate(data: bytes | memoryview, what: str = "certificate") -> Certificate:
    """Read one DER certificate; nothing may follow it. Raises UnreadableFile."""
    if len(data) > MAX_CERTIFICATE:
        raise UnreadableFile(what, f"a certificate of {len(data)} bytes")
    der = bytes(data)
    parsed = load(x509.Certificate, der, what)
    with reading(what):
        if parsed.dump() != der:
            raise UnreadableFile(what, "not DER, or bytes follow the certificate")
        return _certificate(der, parsed, what)


def _certificate(der: bytes, parsed: Any, what: str) -> Certificate:
    body = parsed["tbs_certificate"]
    if body["signature"].dump() != parsed["signature_algorithm"].dump():  # RFC 5280 §4.1.1.2; one of them is not signed
        raise UnreadableFile(what, "two signature algorithms that differ")
    extensions = body["extensions"]
    # An absent [3] is core.Void: it has no elements.
    listed = [] if isinstance(extensions, core.Void) else list(extensions)
    if len(listed) > MAX_EXTENSIONS:
        raise UnreadableFile(what, f"{len(listed)} extensions")
    fields = {item["extn_id"].dotted: bytes(item["extn_value"].contents) for item in listed}
    is_authority, path_length = _basic_constraints(fields.get(_BASIC_CONSTRAINTS), what)
    return Certificate(
        der=der,
        subject=_name(body["subject"], what),
        issuer=_name(body["issuer"], what),
        serial_number=body["serial_number"].native,
        not_before=_time(body["validity"]["not_before"], what),
        not_after=_time(body["validity"]["not_after"], what),
        public_key=body["subject_public_key_info"].dump(),
        signature_algorithm=parsed["signature_algorithm"]["algorithm"].dotted,
        signature=parsed["signature_value"].native,
        signed_part=body.dump(),
        is_authority=is_authority,
        path_length=path_length,
        key_identifier=_octets(fields.get(_SUBJECT_KEY), what),
        fields=MappingProxyType(fields),
        critical_fields=frozenset(item["extn_id"].dotted for item in listed if item["critical"].native),
    )


def _name(name: Any, what: str) -> DistinguishedName:
    parts = []
    for relative in name.chosen:
        for pair in relative:
            value = pair["value"].native
            parts.append((pair["type"].dotted, value if isinstance(value, str) else repr(value)))
            if len(parts) > MAX_NAME_PARTS:
                raise UnreadableFile(what, f"a name of more than {MAX_NAME_PARTS} parts")
    return DistinguishedName(tuple(parts), name.dump())


def _time(value: Any, what: str) -> datetime:
    time = value.native
    if not isinstance(time, datetime):  # asn1crypto has a type of its own for the year 0
        raise UnreadableFile(what, f"no date: {time}")
    return time.astimezone(UTC)


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _basic_constraints(value: bytes | None, what: str) -> tuple[bool, int | None]:
    if value is None:
        return False, None
    constraints = load(x509.BasicConstraints, value, what)
    length = constraints["path_len_constraint"].native
    return bool(constraints["ca"].native), length if isinstance(length, int) else None


def _octets(value: bytes | None, what: str) -> bytes | None:
    return None if value is None else bytes(load(core.OctetString, value, what).native)
