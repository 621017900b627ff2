"""Signatures as CMS SignedData (RFC 5652), detached as in code signatures, or around their content as in profiles.

Reading only: `cms_verification` says what holds. A code signature that is ad hoc has no CMS, or an empty one; whoever
finds zero bytes there has nothing to hand to this reader.

Seen in code signatures by Apple's `codesign`: BER with indefinite lengths, the root certificate included, signed
attributes contentType, signingTime, messageDigest and Apple's two, and an RFC 3161 timestamp as unsigned attribute.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from asn1crypto import cms, core, tsp

from .asn1 import encode, load, reading
from .certificates import Certificate, read_certificate
from .errors import UnreadableFile
from .xml_plist import read_xml_plist

__all__ = [
    "CODE_DIRECTORY_DIGESTS",
    "CODE_DIRECTORY_HASHES",
    "DATA",
    "MAX_SIZE",
    "SignedData",
    "Signer",
    "Timestamp",
    "read_signed_data",
]

MAX_SIZE = 16 << 20
"""Bytes of one SignedData, with its content."""
MAX_CERTIFICATES = 64
MAX_SIGNERS = 16
MAX_ATTRIBUTES = 64
MAX_VALUES = 64

DATA = "1.2.840.113549.1.7.1"
"""The content type of code signatures and profiles."""
CODE_DIRECTORY_HASHES = "1.2.840.113635.100.9.1"
"""Signed attribute: an XML property list with `cdhashes`, the hashes of all CodeDirectories, cut to 20 bytes."""
CODE_DIRECTORY_DIGESTS = "1.2.840.113635.100.9.2"
"""Signed attribute: for each CodeDirectory a SEQUENCE of the digest's object identifier, and the whole digest."""
_CONTENT_TYPE, _MESSAGE_DIGEST, _SIGNING_TIME = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4", "1.2.840.113549.1.9.5"
_ALGORITHM_PROTECTION = "1.2.840.113549.1.9.52"
_TIMESTAMP_TOKEN = "1.2.840.113549.1.9.16.2.14"


@dataclass(frozen=True, slots=True)
class Timestamp:
    """An RFC 3161 token: an authority's word that a signature existed at a time."""

    time: datetime
    imprint_algorithm: str
    """Object identifier of a digest."""
    imprint: bytes
    """The digest of the signature that the token is about."""
    token: SignedData
    """Its content is the TSTInfo that holds the three above."""


class Attributes(NamedTuple):
    """The signed attributes of one signer. None, or an empty tuple: the attribute is absent."""

    encodings: tuple[bytes, ...]
    """The SET OF that the signature is over: in the order of the file and, where that is another, of DER."""
    content_type: str | None
    message_digest: bytes | None
    signing_time: datetime | None
    code_directory_hashes: tuple[bytes, ...] | None
    code_directory_digests: tuple[tuple[str, bytes], ...]
    """(object identifier of the digest, digest)"""
    algorithms: bytes | None
    """The algorithms that the signer used, as `Signer.algorithms` encodes them (RFC 6211)."""


@dataclass(frozen=True, slots=True)
class Signer:
    """One signature. Its certificate is named by issuer and serial number, or by key identifier."""

    issuer: bytes | None
    """DER Name."""
    serial_number: int | None
    key_identifier: bytes | None
    version: int
    digest_algorithm: str
    signature_algorithm: str
    algorithms: bytes = field(repr=False)
    """Both with their parameters, as the attribute CMSAlgorithmProtection holds them."""
    signature: bytes = field(repr=False)
    attributes: Attributes | None
    """None: the signature is over the content itself."""
    timestamp: Timestamp | None = None
    unreadable_timestamp: str | None = None
    """Why the timestamp that is there could not be read."""

    @property
    def signing_time(self) -> datetime | None:
        """When the signer says that it signed. Only a timestamp proves it."""
        return self.attributes.signing_time if self.attributes else None

    def names(self, certificate: Certificate) -> bool:
        """Whether this signature says that it is by the key of `certificate`."""
        if self.key_identifier is not None:
            return self.key_identifier == certificate.key_identifier
        return self.serial_number == certificate.serial_number and self.issuer == certificate.issuer.der


@dataclass(frozen=True, slots=True)
class SignedData:
    """One SignedData."""

    version: int
    digest_algorithms: tuple[str, ...]
    """What the message announces; each signer names its own besides."""
    content_type: str
    """Object identifier: DATA, or 1.2.840.113549.1.9.16.1.4 for a timestamp's TSTInfo."""
    content: bytes | None = field(repr=False)
    """None: the content is elsewhere (detached)."""
    certificates: tuple[Certificate, ...]
    signers: tuple[Signer, ...]

    def certificate_of(self, signer: Signer) -> Certificate | None:
        """The certificate that `signer` names, if it is included."""
        return next((certificate for certificate in self.certificates if signer.names(certificate)), None)


def read_signed_data(data: bytes | memoryview, what: str = "CMS signature") -> SignedData:
    """Read a ContentInfo with SignedData. Bytes behind it are left alone, as a reservation may be longer than needed.

    Raises UnreadableFile. A timestamp that cannot be read does not make the signature unreadable.
    """
    return _read(data, what, with_timestamps=True)


def _read(data: bytes | memoryview, what: str, *, with_timestamps: bool) -> SignedData:
    if len(data) > MAX_SIZE:
        raise UnreadableFile(what, f"{len(data)} bytes are too many")
    outer = load(cms.ContentInfo, bytes(data), what)
    with reading(what):
        if outer["content_type"].native != "signed_data":
            raise UnreadableFile(what, f"CMS of the type {outer['content_type'].native}, not SignedData")
        body = outer["content"]
        inner = body["encap_content_info"]
        return SignedData(
            int(body["version"]),
            tuple(_digest_algorithm(item, what) for item in _at_most(MAX_SIGNERS, body["digest_algorithms"], what)),
            inner["content_type"].dotted,
            _content(inner["content"]),
            _certificates(body["certificates"], what),
            tuple(_signer(info, what, with_timestamps) for info in _at_most(MAX_SIGNERS, body["signer_infos"], what)),
        )


def _at_most(limit: int, items: Any, what: str) -> list[Any]:
    if isinstance(items, core.Void):
        return []
    if len(items) > limit:
        raise UnreadableFile(what, f"{len(items)} elements where at most {limit} are read")
    return list(items)


def _content(value: Any) -> bytes | None:
    if isinstance(value, core.Void) or value.native is None:
        return None
    # For content types that asn1crypto knows, `native` is the parsed content; the octets are what is signed.
    return bytes(value)


def _certificates(choices: Any, what: str) -> tuple[Certificate, ...]:
    listed = [choice.chosen for choice in _at_most(MAX_CERTIFICATES, choices, what) if choice.name == "certificate"]
    return tuple(read_certificate(item.dump(), f"{what}: certificate") for item in listed)


def _digest_algorithm(algorithm: Any, what: str) -> str:
    if algorithm["parameters"].native is not None:
        raise UnreadableFile(what, "a digest algorithm with parameters")
    return str(algorithm["algorithm"].dotted)


def _signature_algorithm(algorithm: Any, what: str) -> str:
    """RSA has NULL for parameters (RFC 3370 §3.2), ECDSA none (RFC 5754 §3.3): nothing there is signed."""
    if not isinstance(algorithm["parameters"], (core.Null, core.Void)) and not _is_null(algorithm["parameters"]):
        raise UnreadableFile(what, "a signature algorithm with parameters")
    return str(algorithm["algorithm"].dotted)


def _is_null(value: Any) -> bool:
    return bytes(value.dump()) == b"\x05\x00"


def _signer(info: Any, what: str, with_timestamps: bool) -> Signer:
    named, by_issuer = info["sid"].chosen, info["sid"].name == "issuer_and_serial_number"
    signed = _at_most(MAX_ATTRIBUTES, info["signed_attrs"], what)
    timestamp, unreadable = _timestamp(info["unsigned_attrs"], what) if with_timestamps else (None, None)
    return Signer(
        issuer=named["issuer"].dump() if by_issuer else None,
        serial_number=named["serial_number"].native if by_issuer else None,
        key_identifier=None if by_issuer else named.native,
        version=int(info["version"]),
        digest_algorithm=_digest_algorithm(info["digest_algorithm"], what),
        signature_algorithm=_signature_algorithm(info["signature_algorithm"], what),
        algorithms=encode(b"\x30", info["digest_algorithm"].dump() + b"\xa1" + info["signature_algorithm"].dump()[1:]),
        signature=info["signature"].native,
        attributes=_attributes(signed, what) if signed else None,
        timestamp=timestamp,
        unreadable_timestamp=unreadable,
    )


def _attributes(listed: list[Any], what: str) -> Attributes:
    values = {item["type"].dotted: _values(item, what) for item in listed}
    if len(values) != len(listed):
        raise UnreadableFile(what, "a signed attribute occurs twice")
    parts = [item.dump() for item in listed]
    # What is signed has the tag of a SET OF; in the message it stands under [0] (RFC 5652 §5.4).
    encodings = dict.fromkeys(encode(b"\x31", b"".join(order)) for order in (parts, sorted(parts)))
    content_type = _only(values, _CONTENT_TYPE, core.ObjectIdentifier, what)
    signing_time = _only(values, _SIGNING_TIME, cms.Time, what)
    message_digest = _only(values, _MESSAGE_DIGEST, core.OctetString, what)
    hashes = _only(values, CODE_DIRECTORY_HASHES, core.OctetString, what)
    return Attributes(
        tuple(encodings),
        None if content_type is None else content_type.dotted,
        None if message_digest is None else message_digest.native,
        None if signing_time is None else _time(signing_time.native, what),
        None if hashes is None else _hashes(hashes.native, what),
        tuple(_digest(value, what) for value in values.get(CODE_DIRECTORY_DIGESTS, ())),
        next(iter(values.get(_ALGORITHM_PROTECTION, ())), None),
    )


def _values(attribute: Any, what: str) -> list[bytes]:
    # Element by element in their bytes: what an attribute should hold is for whoever asks for it to say.
    body = core.SequenceOf.load(attribute.dump(), spec=core.Any)
    return [value.dump() for value in _at_most(MAX_VALUES, core.SetOf.load(body[1].dump(), spec=core.Any), what)]


def _only(values: dict[str, list[bytes]], name: str, specification: Any, what: str) -> Any:
    found = values.get(name)
    if found is None:
        return None
    if len(found) != 1:
        raise UnreadableFile(what, f"the signed attribute {name} has {len(found)} values")
    return specification.load(found[0])


def _time(value: Any, what: str) -> datetime:
    if not isinstance(value, datetime):
        raise UnreadableFile(what, f"no date: {value}")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _hashes(data: bytes, what: str) -> tuple[bytes, ...]:
    listed = read_xml_plist(data, f"{what}: cdhashes").get("cdhashes")
    if not isinstance(listed, list) or not all(isinstance(item, bytes) for item in listed):
        raise UnreadableFile(what, "the attribute with the cdhashes has no list of them")
    return tuple(listed)


def _digest(value: bytes, what: str) -> tuple[str, bytes]:
    pair = core.SequenceOf.load(value, spec=core.Any)
    if len(pair) != 2:
        raise UnreadableFile(what, "a digest of a CodeDirectory is not a pair")
    return core.ObjectIdentifier.load(pair[0].dump()).dotted, core.OctetString.load(pair[1].dump()).native


def _timestamp(unsigned: Any, what: str) -> tuple[Timestamp | None, str | None]:
    try:
        for item in _at_most(MAX_ATTRIBUTES, unsigned, what):
            if item["type"].dotted == _TIMESTAMP_TOKEN:
                with reading(what):
                    return _token(_values(item, what)[0], f"{what}: timestamp"), None
    except UnreadableFile as error:
        return None, str(error)
    return None, None


def _token(data: bytes, what: str) -> Timestamp:
    token = _read(data, what, with_timestamps=False)
    if token.content is None:
        raise UnreadableFile(what, "the token has no content")
    info = load(tsp.TSTInfo, token.content, what)
    imprint = info["message_imprint"]
    return Timestamp(
        _time(info["gen_time"].native, what),
        imprint["hash_algorithm"]["algorithm"].dotted,
        imprint["hashed_message"].native,
        token,
    )
