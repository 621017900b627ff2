"""What holds of a provisioning profile's two signatures.

Time is the profile's own signing time. The certificate that signs profiles lasts for three years, a profile for up to
eighteen: the one in products that ship today ran out on 2026-08-31. That the signer has expired since is normal, and
so is SHA-1 in the outer signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .certificates import Certificate
from .cms import SignedData, read_signed_data
from .cms_verification import SignatureFacts, verify_signature
from .der_values import read_der_value
from .errors import UnreadableFile
from .outcome import Outcome
from .provisioning_profile import ProvisioningProfile

__all__ = ["ProfileFacts", "verify_provisioning_profile"]

_ENCODED, _CERTIFICATES = "DER-Encoded-Profile", "DeveloperCertificates"
_ONLY_IN_DER = frozenset({"ProfileDistributionType"})


@dataclass(frozen=True, slots=True)
class ProfileFacts:
    """What holds of one profile."""

    signature: SignatureFacts
    """The outer one, with its chain."""
    signed_at: datetime | None
    """The signing time of the outer signature; where it has none, the CreationDate."""
    in_dates: Outcome
    """Whether the signer's chain was within its dates at `signed_at`. ABSENT without a chain or a time."""
    der_signature: SignatureFacts | None
    """The inner one. None: there is no DER-Encoded-Profile, or it cannot be read."""
    der_agrees: Outcome
    """Whether the DER says the same as the XML. ABSENT without it."""
    unreadable_der: str | None = None
    """Why the DER-Encoded-Profile that is there could not be read."""

    @property
    def trusted(self) -> bool:
        """Signed under a trusted root, within the signer's dates at that time; nothing said twice in two ways."""
        inner = self.der_signature is None or self.der_signature.trusted
        agrees = self.der_agrees in (Outcome.HOLDS, Outcome.ABSENT)
        return self.signature.trusted and bool(self.in_dates) and inner and agrees

    def expired_signers(self, time: datetime) -> tuple[Certificate, ...]:
        """The certificates of the outer chain that have run out at `time`: to be told, not to be held against it."""
        chain = self.signature.chain
        return () if chain is None else tuple(item for item in chain.certificates if item.expired_at(time))


def verify_provisioning_profile(profile: ProvisioningProfile, *, anchors: Sequence[Certificate] = ()) -> ProfileFacts:
    """Check both signatures of `profile`. `anchors` are trusted besides Apple's roots."""
    outer = verify_signature(profile.signed_data, anchors=anchors)
    signed_at = outer.signing_time or profile.creation_date
    in_dates = (
        Outcome.ABSENT if outer.chain is None or signed_at is None else Outcome.of(outer.chain.valid_at(signed_at))
    )
    if profile.der_encoded_profile is None:
        return ProfileFacts(outer, signed_at, in_dates, None, Outcome.ABSENT)
    try:
        inner = read_signed_data(profile.der_encoded_profile, _ENCODED)
        agrees = Outcome.of(_says_the_same(profile.contents, _contents(inner)))
    except UnreadableFile as error:
        return ProfileFacts(outer, signed_at, in_dates, None, Outcome.FAILS, str(error))
    return ProfileFacts(outer, signed_at, in_dates, verify_signature(inner, anchors=anchors), agrees)


def _contents(inner: SignedData) -> dict[str, Any]:
    if inner.content is None:
        raise UnreadableFile(_ENCODED, "the CMS has no content")
    contents = read_der_value(inner.content, _ENCODED)
    if not isinstance(contents, dict):
        raise UnreadableFile(_ENCODED, "not a dictionary")
    return contents


def _says_the_same(xml: Mapping[str, Any], der: Mapping[str, Any]) -> bool:
    """The DER names certificates by their SHA-256, does not hold itself, and has a key of its own."""
    expected = {key: value for key, value in xml.items() if key != _ENCODED}
    certificates = expected.get(_CERTIFICATES)
    if isinstance(certificates, list):
        expected[_CERTIFICATES] = [hashlib.sha256(item).digest() for item in certificates if isinstance(item, bytes)]
    return expected == {key: value for key, value in der.items() if key not in _ONLY_IN_DER}
