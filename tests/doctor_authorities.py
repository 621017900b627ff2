"""Certificate authorities of Apple's shape, with roots of their own, and CMS signatures by them.

A chain has the extensions that Apple's has, so that everything about it is right except the root. The doctor's tests
say whether that root is trusted (`anchors`).
"""

from __future__ import annotations

import functools
import hashlib
import plistlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

APPLE = "1.2.840.113635.100"
TEAM = "FAKETEAM01"
SIGNING_TIME = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NOT_BEFORE, NOT_AFTER = datetime(2024, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
NULL = b"\x05\x00"

DEVELOPER_ID_MARKER, WWDR_MARKER = f"{APPLE}.6.2.6", f"{APPLE}.6.2.1"
LEAVES: Mapping[str, tuple[str, ...]] = {
    "Developer ID Application": (f"{APPLE}.6.1.13",),
    "Developer ID Installer": (f"{APPLE}.6.1.14",),
    "Apple Development": (f"{APPLE}.6.1.2", f"{APPLE}.6.1.12"),
    "Apple Distribution": (f"{APPLE}.6.1.4", f"{APPLE}.6.1.7"),
    "Apple Mac OS Application Signing": (f"{APPLE}.6.1.9",),
    "Apple iPhone OS Application Signing": (f"{APPLE}.6.1.3",),
    "TestFlight Beta Distribution": (f"{APPLE}.6.1.25.1",),
    "Mac OS X Provisioning Profile Signing": (f"{APPLE}.4.11",),
    "WWDR Provisioning Profile Signing": (f"{APPLE}.12.19",),
}
"""What stands before the colon of a leaf's common name → the extensions that mark it."""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@functools.cache
def private_key(kind: str, role: str) -> PrivateKey:
    """One key for each role, made once: an RSA key takes a tenth of a second. Kinds: rsa, p256, p384, p521."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    curves = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    return ec.generate_private_key(curves[kind])


@dataclass(frozen=True)
class Identity:
    """A certificate with its key, and the certificates above it."""

    certificate: x509.Certificate
    key: PrivateKey
    issuers: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """DER of the certificates from the leaf to the root."""
        return (self.der, *(issuer.public_bytes(Encoding.DER) for issuer in self.issuers))

    @property
    def team(self) -> str | None:
        units = self.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
        return str(units[0].value) if units else None


@dataclass(frozen=True)
class Authority:
    """A fake Apple: a root, and one intermediate that issues leaves."""

    root: Identity
    intermediate: Identity
    key_kind: str

    @classmethod
    def make(
        cls, marker: str = DEVELOPER_ID_MARKER, key_kind: str = "rsa", name: str = "Fake Apple Root CA"
    ) -> Authority:
        """An authority whose intermediate carries `marker` (DEVELOPER_ID_MARKER, WWDR_MARKER)."""
        root_key = private_key(key_kind, "root")
        root_name = _name(CN=name, OU="Fake Certification Authority", O="Fake Inc.", C="US")
        root = Identity(_certify(root_name, root_key, root_name, root_key, authority=True), root_key)
        key = private_key(key_kind, f"intermediate {marker}")
        subject = _name(CN="Fake Certification Authority", OU="Fake Certification Authority", O="Fake Inc.", C="US")
        certificate = _certify(subject, key, root_name, root_key, authority=True, markers=(marker,))
        return cls(root, Identity(certificate, key, (root.certificate,)), key_kind)

    def issue(
        self,
        leaf: str = "Developer ID Application",
        team: str | None = TEAM,
        *,
        company: str = "Example",
        markers: Sequence[str] | None = None,
        not_before: datetime = NOT_BEFORE,
        not_after: datetime = NOT_AFTER,
        key_kind: str | None = None,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CODE_SIGNING,
    ) -> Identity:
        """A leaf as one of LEAVES; `markers` instead of the ones that belong to it. `team` goes into OU and UID."""
        key = private_key(key_kind or self.key_kind, f"leaf {leaf}")
        names = {"UID": team, "CN": f"{leaf}: {company} ({team})", "OU": team} if team else {"CN": leaf}
        certificate = _certify(
            _name(**names, O=company, C="US"),
            key,
            self.intermediate.certificate.subject,
            self.intermediate.key,
            markers=LEAVES.get(leaf, ()) if markers is None else markers,
            dates=(not_before, not_after),
            usage=usage,
        )
        return Identity(certificate, key, (self.intermediate.certificate, self.root.certificate))

    def timestamp_signer(self) -> Identity:
        """A leaf that may sign timestamps."""
        return self.issue("Fake Timestamp Signer", None, usage=ExtendedKeyUsageOID.TIME_STAMPING)


_NAME_KEYS = {
    "UID": NameOID.USER_ID,
    "CN": NameOID.COMMON_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "C": NameOID.COUNTRY_NAME,
}


def _name(**parts: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(_NAME_KEYS[key], value) for key, value in parts.items()])


def _certify(
    subject: x509.Name,
    key: PrivateKey,
    issuer: x509.Name,
    issuer_key: PrivateKey,
    *,
    authority: bool = False,
    markers: Sequence[str] = (),
    dates: tuple[datetime, datetime] = (NOT_BEFORE, NOT_AFTER),
    usage: x509.ObjectIdentifier | None = None,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number(), *dates)
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(_key_usage(authority), critical=True)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
    for marker in markers:  # critical on leaves as Apple has them: openssl has to be told to ignore that
        value = x509.UnrecognizedExtension(x509.ObjectIdentifier(marker), NULL)
        builder = builder.add_extension(value, critical=not authority)
    return builder.sign(issuer_key, hashes.SHA256())


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def attribute(kind: str, *values: Any) -> cms.CMSAttribute:
    """A signed attribute; `kind` is asn1crypto's name, or an object identifier with dots."""
    return cms.CMSAttribute({"type": kind, "values": list(values)})


def code_attributes(listed: Sequence[bytes], digests: Sequence[tuple[str, bytes]]) -> list[cms.CMSAttribute]:
    """Apple's two attributes: `listed` cdhashes, and (name of the digest, digest) of each CodeDirectory."""
    plist = plistlib.dumps({"cdhashes": list(listed)})
    pairs = [_pair(algos.DigestAlgorithmId(name), core.OctetString(value)) for name, value in digests]
    return [attribute(f"{APPLE}.9.1", core.OctetString(plist)), attribute(f"{APPLE}.9.2", *pairs)]


def _pair(first: Any, second: Any) -> Any:
    body = core.SequenceOf(spec=core.Any)
    body.append(core.Any.load(first.dump()))
    body.append(core.Any.load(second.dump()))
    return body


def sign_cms(
    content: bytes,
    identity: Identity,
    *,
    detached: bool = False,
    digest: str = "sha256",
    signing_time: datetime | None = SIGNING_TIME,
    attributes: Sequence[cms.CMSAttribute] = (),
    timestamp: Identity | None = None,
    timestamp_time: datetime | None = None,
    certificates: Sequence[bytes] | None = None,
    content_type: str = "data",
    message_digest: bytes | None = None,
) -> bytes:
    """SignedData over `content`. `timestamp` is who adds an RFC 3161 timestamp, at `timestamp_time` or else at
    `signing_time`. `certificates` instead of the identity's chain; `message_digest` instead of the right one.
    """
    signed = [
        attribute("content_type", content_type),
        *([attribute("signing_time", cms.Time({"utc_time": signing_time}))] if signing_time else []),
        attribute("message_digest", message_digest or hashlib.new(digest, content).digest()),
        *attributes,
    ]
    signed_attributes = cms.CMSAttributes(sorted(signed, key=lambda item: bytes(item.dump())))
    message = b"\x31" + signed_attributes.dump()[1:]  # SET OF, where the message has [0]
    signature = sign(identity.key, digest, message)
    leaf = asn1_x509.Certificate.load(identity.der)
    info: dict[str, Any] = {
        "version": "v1",
        "sid": {"issuer_and_serial_number": {"issuer": leaf.issuer, "serial_number": leaf.serial_number}},
        "digest_algorithm": {"algorithm": digest},
        "signature_algorithm": {"algorithm": _signature_algorithm(identity.key, digest)},
        "signed_attrs": signed_attributes,
        "signature": signature,
    }
    if timestamp is not None:
        token = timestamp_token(signature, timestamp, timestamp_time or signing_time or SIGNING_TIME)
        info["unsigned_attrs"] = [attribute("signature_time_stamp_token", cms.ContentInfo.load(token))]
    octets = core.OctetString if content_type == "data" else core.ParsableOctetString
    included = {} if detached else {"content": octets(content)}
    chain = identity.chain if certificates is None else certificates
    body = {
        "version": "v1" if content_type == "data" else "v3",
        "digest_algorithms": [{"algorithm": digest}],
        "encap_content_info": {"content_type": content_type, **included},
        "certificates": [asn1_x509.Certificate.load(item) for item in chain],
        "signer_infos": [info],
    }
    return bytes(cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(body)}).dump())


def sign(key: PrivateKey, digest: str, message: bytes) -> bytes:
    algorithm: hashes.HashAlgorithm = getattr(hashes, digest.upper())()
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), algorithm)
    return key.sign(message, ec.ECDSA(algorithm))


def _signature_algorithm(key: PrivateKey, digest: str) -> str:
    return f"{digest}_{'rsa' if isinstance(key, rsa.RSAPrivateKey) else 'ecdsa'}"


def timestamp_token(signature: bytes, identity: Identity, time: datetime) -> bytes:
    """An RFC 3161 token over `signature`."""
    imprint = {"hash_algorithm": {"algorithm": "sha256"}, "hashed_message": hashlib.sha256(signature).digest()}
    info = {"version": "v1", "policy": "1.2.3.4.5.6", "message_imprint": imprint, "serial_number": 7, "gen_time": time}
    encoded = tsp.TSTInfo(info).dump()
    return sign_cms(encoded, identity, content_type="tst_info", signing_time=time)
