"""How a build reaches its users, as its certificate and its profile tell."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from enum import StrEnum

from .certificate_kinds import CertificateKind
from .provisioning_profile import ProfileKind

__all__ = ["CHOICES", "SigningChannel", "channel_of"]


class SigningChannel(StrEnum):
    """The way to its users that a build was signed for."""

    UNSIGNED = "unsigned"
    SIGNED_AD_HOC = "signed ad hoc"
    """No certificate stands behind the signature. Not to be taken for AD_HOC."""
    DEVELOPMENT = "development"
    DEVELOPER_ID = "developer-id"
    APP_STORE = "app-store"
    """Submitted to it, or signed again by it."""
    TESTFLIGHT = "testflight"
    ENTERPRISE = "enterprise"
    AD_HOC = "ad-hoc"
    """To the devices that a distribution profile lists."""
    UNKNOWN = "unknown"
    """A certificate of none of Apple's kinds."""

    @property
    def is_store(self) -> bool:
        """Whether Apple delivers it."""
        return self in (SigningChannel.APP_STORE, SigningChannel.TESTFLIGHT)

    @property
    def is_distribution(self) -> bool:
        """Whether it goes to users, not to developers."""
        return self in _DISTRIBUTION

    @property
    def takes_standard_values(self) -> bool:
        """Whether its profiles have the entitlement's values without a suffix."""
        return self is SigningChannel.DEVELOPMENT or (self.is_distribution and self is not SigningChannel.DEVELOPER_ID)


_DISTRIBUTION = (
    SigningChannel.DEVELOPER_ID,
    SigningChannel.APP_STORE,
    SigningChannel.TESTFLIGHT,
    SigningChannel.ENTERPRISE,
    SigningChannel.AD_HOC,
)
CHOICES = (SigningChannel.DEVELOPMENT, *_DISTRIBUTION)
"""What a user may say that a build is meant for."""

_BY_CERTIFICATE = (
    (CertificateKind.DEVELOPER_ID_APPLICATION, SigningChannel.DEVELOPER_ID),
    (CertificateKind.TESTFLIGHT, SigningChannel.TESTFLIGHT),
    (CertificateKind.IOS_APP_STORE, SigningChannel.APP_STORE),
    (CertificateKind.MAC_APP_STORE, SigningChannel.APP_STORE),
    (CertificateKind.IOS_DEVELOPMENT, SigningChannel.DEVELOPMENT),
    (CertificateKind.MAC_DEVELOPMENT, SigningChannel.DEVELOPMENT),
)
_DISTRIBUTION_KINDS = {CertificateKind.IOS_DISTRIBUTION, CertificateKind.MAC_APP_SUBMISSION}
_BY_PROFILE = {
    ProfileKind.ENTERPRISE: SigningChannel.ENTERPRISE,
    ProfileKind.AD_HOC: SigningChannel.AD_HOC,
    ProfileKind.DEVELOPMENT: SigningChannel.AD_HOC,
}


def channel_of(kinds: AbstractSet[CertificateKind], profile: ProfileKind | None) -> SigningChannel:
    """The channel of code that a certificate of these kinds has signed, with a profile of this kind, or none."""
    for kind, channel in _BY_CERTIFICATE:
        if kind in kinds:
            return channel
    if kinds & _DISTRIBUTION_KINDS:
        # One certificate serves three channels; which, only the profile says.
        return SigningChannel.APP_STORE if profile is None else _BY_PROFILE.get(profile, SigningChannel.APP_STORE)
    return SigningChannel.UNKNOWN
