"""The ticket that `stapler` puts into a bundle as Contents/CodeResources: Apple's word that it has notarised this code.

No document describes the format. What is read here was seen in the tickets of three products, and holds in all:

    "s8ch", version 1, length of the certificates, length of the body      little-endian
    certificates: SEQUENCE { leaf, intermediate }                          DER
    body: "g8tk", version 2, 20, count, flags, seconds since 1970,         little-endian
          count × (kind of hash, cdhash of 20 bytes)
    signature: ECDSA with SHA-256 by the leaf over all that is before it; a zero may follow

The intermediate is issued by Apple Root CA - G3, which is not in the ticket.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from .asn1 import element_at, measure
from .bounded_bytes import BoundedBytes
from .certificates import Certificate, read_certificate
from .errors import UnreadableFile
from .outcome import Outcome
from .public_keys import check_signature

__all__ = ["MAX_SIZE", "NotarizationTicket", "read_notarization_ticket", "verify_notarization_ticket"]

_WHAT = "notarisation ticket"
_MAGIC, _BODY_MAGIC = b"s8ch", b"g8tk"
MAX_SIZE = 4 << 20
"""Bytes. The ticket of an app with four pieces of code has 1,716."""
MAX_CERTIFICATES = 8
_HEAD, _BODY_HEAD, _ENTRY = struct.Struct("<4s3I"), struct.Struct("<4s2H2Iq"), struct.Struct("<B20s")
_ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"
_G3_NAME = "Apple Root CA - G3"
# The public key of the root whose fingerprint `certificate_kinds` pins; every profile of the corpus holds it.
_G3_KEY = base64.b64decode(
    "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEmOkvPUBypO2TInKBExzdEJXxxaNOcdwUFtkO5aYFKndke19OONO7HES1f/UftjJi"
    "XcnphFtPME8RWgD9WFgMpfUPLE0HRxN12peXl28xXO0rnXsgO9i5VNlemaQ6UQox"
)


@dataclass(frozen=True, slots=True)
class NotarizationTicket:
    """One ticket. Nothing of it has been verified yet."""

    cdhashes: frozenset[bytes]
    """20 bytes each: of every slice of every piece of code that was notarised."""
    issued: datetime | None
    certificates: tuple[Certificate, ...]
    """The signer's first."""
    signed_part: bytes
    signature: bytes


def read_notarization_ticket(data: bytes) -> NotarizationTicket:
    """Raises UnreadableFile: another format, or cut off."""
    if len(data) > MAX_SIZE:
        raise UnreadableFile(_WHAT, f"{len(data)} bytes")
    file = BoundedBytes(data, _WHAT)
    bytes(file.part(0, _HEAD.size))
    magic, version, certificates_size, body_size = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != 1:
        raise UnreadableFile(_WHAT, f"begins with {magic.hex()}, version {version}")
    certificates = bytes(file.part(_HEAD.size, certificates_size))
    end = _HEAD.size + certificates_size + body_size
    body = bytes(file.part(_HEAD.size + certificates_size, body_size))
    cdhashes, seconds = _body(body)
    signature = bytes(data[end:])
    size = element_at(signature, 0, len(signature), _WHAT).end if len(signature) > 1 else None
    if size is None:
        raise UnreadableFile(_WHAT, "no signature")
    if any(signature[size:]):
        raise UnreadableFile(_WHAT, "bytes behind its signature")
    return NotarizationTicket(
        cdhashes, _time(seconds), _certificates(certificates), bytes(data[:end]), signature[:size]
    )


def _body(body: bytes) -> tuple[frozenset[bytes], int]:
    data = BoundedBytes(body, _WHAT)
    data.part(0, _BODY_HEAD.size)
    magic, version, hash_size, count, _, seconds = _BODY_HEAD.unpack_from(body)
    if magic != _BODY_MAGIC or version != 2 or hash_size != 20:
        raise UnreadableFile(_WHAT, f"its body begins with {magic.hex()}, version {version}, hashes of {hash_size}")
    entries = data.part(_BODY_HEAD.size, count * _ENTRY.size)
    return frozenset(cdhash for _, cdhash in _ENTRY.iter_unpack(entries)), seconds


def _time(seconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _certificates(data: bytes) -> tuple[Certificate, ...]:
    measure(data, _WHAT)
    outer = element_at(data, 0, len(data), _WHAT)
    if outer.tag != 0x30 or outer.end is None:
        raise UnreadableFile(_WHAT, "no certificates")
    found: list[Certificate] = []
    at = outer.start
    while at < outer.end:
        end = element_at(data, at, outer.end, _WHAT).end
        if end is None or len(found) == MAX_CERTIFICATES:
            raise UnreadableFile(_WHAT, "its certificates are not DER, or too many")
        found.append(read_certificate(data[at:end], f"{_WHAT}: certificate"))
        at = end
    return tuple(found)


def verify_notarization_ticket(ticket: NotarizationTicket, anchors: Sequence[Certificate] = ()) -> Outcome:
    """Whether Apple signed it, or in tests one of `anchors`. ABSENT: its chain ends elsewhere.

    Of dates only order is asked: a ticket outlives the certificate that signed it.
    """
    if not ticket.certificates:
        return Outcome.ABSENT
    leaf = ticket.certificates[0]
    held = check_signature(leaf.public_key, _ECDSA_WITH_SHA256, ticket.signature, ticket.signed_part)
    if not held:
        return held
    for certificate, issuer in zip(ticket.certificates, ticket.certificates[1:], strict=False):
        if not (issuer.is_authority and certificate.issued_by(issuer)):
            return Outcome.FAILS
    last = ticket.certificates[-1]
    if last.issuer.common_name == _G3_NAME:
        return check_signature(_G3_KEY, last.signature_algorithm, last.signature, last.signed_part)
    outcomes = [last.issued_by(anchor) for anchor in anchors]
    return Outcome.HOLDS if Outcome.HOLDS in outcomes else Outcome.ABSENT
