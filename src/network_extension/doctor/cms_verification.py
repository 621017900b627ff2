"""What holds of a CMS signature. Each check has its own name; none of them raises.

The order of proof: the content has the digest that the signed attributes name; the signature over the attributes is
by the key of the certificate; the timestamp is about this signature. Whose certificate it is, `certificate_chain`
says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from .certificate_chain import Chain, build_chain
from .certificates import Certificate
from .cms import DATA, SignedData, Signer
from .outcome import Outcome
from .public_keys import DIGESTS, check_signature, digest

__all__ = ["SignatureFacts", "TimestampFacts", "verify_code_signature", "verify_signature"]

_CUT = 20  # bytes of a digest that make a cdhash
_HASH_TYPE_OFFSET = 37  # of a CodeDirectory's header
_HASH_TYPES = {1: "sha1", 2: "sha256", 3: "sha256", 4: "sha384"}


@dataclass(frozen=True, slots=True)
class SignatureFacts:
    """What holds of the first signature of a SignedData; everything is ABSENT where there is none."""

    certificate: Certificate | None
    """The signer's, if it is included."""
    chain: Chain | None
    """From that certificate upwards."""
    content_type: Outcome
    """The signed attribute names the type of the content."""
    message_digest: Outcome
    """The signed attribute is the digest of the content. ABSENT too when no content was given."""
    signature: Outcome
    """Over the signed attributes, or over the content where there are none."""
    cdhashes: Outcome
    """1.2.840.113635.100.9.1 lists the CodeDirectories, all of them, and nothing else."""
    cdhash_digests: Outcome
    """1.2.840.113635.100.9.2 holds whole digests of CodeDirectories, and nothing else."""
    signing_time: datetime | None
    """When the signer says that it signed."""
    timestamp: TimestampFacts | None
    unreadable_timestamp: str | None = None
    """Why the timestamp that is there could not be read."""
    announced: Outcome = Outcome.ABSENT
    """What the message says about itself outside of what is signed: versions as RFC 5652 §5.1 and §5.3 have them, the
    signer's digest among those announced, algorithms as the signer protected them (RFC 6211). A change there is no
    forgery, so `valid` does not ask; but somebody changed the file.
    """

    @property
    def valid(self) -> bool:
        """The content is what was signed, by the key of the certificate. Apple's own attributes are not missed."""
        # Without signed attributes the signature is over the content itself, and both are ABSENT.
        over_content = self.content_type is self.message_digest is Outcome.ABSENT
        bound = over_content or (bool(self.content_type) and bool(self.message_digest))
        apple = all(check in (Outcome.HOLDS, Outcome.ABSENT) for check in (self.cdhashes, self.cdhash_digests))
        return bool(self.signature) and bound and apple

    @property
    def trusted(self) -> bool:
        """Valid, and by a key under one of Apple's roots or an extra anchor. Says nothing about time."""
        return self.valid and self.chain is not None and self.chain.trusted

    @property
    def proven_time(self) -> datetime | None:
        """The time of a timestamp that holds, by a trusted authority; None without one."""
        return self.timestamp.time if self.timestamp and self.timestamp.trusted else None


@dataclass(frozen=True, slots=True)
class TimestampFacts:
    """What holds of a signature's RFC 3161 timestamp."""

    time: datetime
    imprint: Outcome
    """The token is about this signature."""
    signature: SignatureFacts
    """Of the token itself, by the timestamp authority."""

    @property
    def valid(self) -> bool:
        """The authority says that this signature existed at `time`. Who the authority is, its chain says."""
        return bool(self.imprint) and self.signature.valid

    @property
    def trusted(self) -> bool:
        """Valid, by an authority under a trusted root, whose certificates were within their dates at `time`."""
        chain = self.signature.chain
        return bool(self.imprint) and self.signature.trusted and chain is not None and chain.valid_at(self.time)


def verify_signature(
    signed: SignedData, content: bytes | None = None, *, anchors: Sequence[Certificate] = ()
) -> SignatureFacts:
    """Check the first signature of `signed`. `content` is for detached signatures; what is included goes first.

    `anchors` are trusted besides Apple's roots.
    """
    return _verify(signed, signed.content if signed.content is not None else content, (), anchors)


def verify_code_signature(
    signed: SignedData, code_directories: Sequence[bytes], *, anchors: Sequence[Certificate] = ()
) -> SignatureFacts:
    """Check the signature of code. `code_directories` are whole blobs: the one of slot 0, which is what was signed,
    and then the alternates.
    """
    content = code_directories[0] if code_directories else None
    return _verify(signed, content, code_directories, anchors)


def _verify(
    signed: SignedData, content: bytes | None, directories: Sequence[bytes], anchors: Sequence[Certificate]
) -> SignatureFacts:
    absent = Outcome.ABSENT
    if not signed.signers:
        return SignatureFacts(None, None, absent, absent, absent, absent, absent, None, None)
    signer = signed.signers[0]
    certificate = signed.certificate_of(signer)
    return SignatureFacts(
        certificate,
        None if certificate is None else build_chain(certificate, signed.certificates, anchors),
        _content_type(signed, signer),
        _message_digest(signer, content),
        absent if certificate is None else _signature(signer, certificate, content),
        _cdhashes(signer, directories),
        _cdhash_digests(signer, directories),
        signer.signing_time,
        _timestamp(signer, anchors),
        signer.unreadable_timestamp,
        _announced(signed, signer),
    )


def _announced(signed: SignedData, signer: Signer) -> Outcome:
    plain = signed.content_type == DATA and all(other.version == 1 for other in signed.signers)
    protected = signer.attributes.algorithms if signer.attributes else None
    return Outcome.of(
        signed.version == (1 if plain else 3)
        and signer.version == (1 if signer.key_identifier is None else 3)
        and signer.digest_algorithm in signed.digest_algorithms
        and protected in (None, signer.algorithms)
    )


def _content_type(signed: SignedData, signer: Signer) -> Outcome:
    if signer.attributes is None:
        return Outcome.ABSENT
    # RFC 5652 §11.1: signed attributes without it are not allowed.
    return Outcome.of(signer.attributes.content_type == signed.content_type)


def _message_digest(signer: Signer, content: bytes | None) -> Outcome:
    if signer.attributes is None or content is None:
        return Outcome.ABSENT
    found = digest(signer.digest_algorithm, content)
    return Outcome.UNSUPPORTED if found is None else Outcome.of(found == signer.attributes.message_digest)


def _signature(signer: Signer, certificate: Certificate, content: bytes | None) -> Outcome:
    if signer.attributes is not None:
        # DER sorts a SET OF; some signers did not, and signed the order in which they wrote.
        messages: tuple[bytes, ...] = signer.attributes.encodings
    else:
        messages = () if content is None else (content,)
    outcome = Outcome.ABSENT
    for message in messages:
        outcome = check_signature(
            certificate.public_key, signer.signature_algorithm, signer.signature, message, signer.digest_algorithm
        )
        if outcome:
            break
    return outcome


def _cdhashes(signer: Signer, directories: Sequence[bytes]) -> Outcome:
    listed = signer.attributes.code_directory_hashes if signer.attributes else None
    if listed is None or not directories:
        return Outcome.ABSENT
    found = [_cdhash(directory) for directory in directories]
    return Outcome.UNSUPPORTED if None in found else Outcome.of(set(found) == set(listed))


def _cdhash_digests(signer: Signer, directories: Sequence[bytes]) -> Outcome:
    listed = signer.attributes.code_directory_digests if signer.attributes else ()
    if not listed or not directories:
        return Outcome.ABSENT
    if any(algorithm not in DIGESTS for algorithm, _ in listed):
        return Outcome.UNSUPPORTED
    return Outcome.of(
        all(any(digest(algorithm, directory) == value for directory in directories) for algorithm, value in listed)
    )


def _cdhash(directory: bytes) -> bytes | None:
    name = _HASH_TYPES.get(directory[_HASH_TYPE_OFFSET]) if len(directory) > _HASH_TYPE_OFFSET else None
    return None if name is None else hashlib.new(name, directory, usedforsecurity=False).digest()[:_CUT]


def _timestamp(signer: Signer, anchors: Sequence[Certificate]) -> TimestampFacts | None:
    timestamp = signer.timestamp
    if timestamp is None:
        return None
    found = digest(timestamp.imprint_algorithm, signer.signature)
    imprint = Outcome.UNSUPPORTED if found is None else Outcome.of(found == timestamp.imprint)
    return TimestampFacts(timestamp.time, imprint, verify_signature(timestamp.token, anchors=anchors))
