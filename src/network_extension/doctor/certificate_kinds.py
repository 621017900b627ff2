"""What Apple's certificates are for, by the extensions that mark them.

All markers are below 1.2.840.113635.100.6: `.1.x` on leaves, `.2.x` on intermediates. Observed on real artifacts:
6.1.13, 6.1.33, 6.2.1, 6.2.6, 6.2.17, 4.11, 12.19. The others are as Apple's certification practice statements and
the policies of its open-source Security framework name them.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType

__all__ = [
    "APPLE_ROOTS",
    "AUTHORITY_MARKERS",
    "DEVELOPER_ID_AUTHORITY",
    "DEVELOPER_ID_DATE",
    "LEAF_MARKERS",
    "WORLDWIDE_DEVELOPER_RELATIONS_AUTHORITY",
    "CertificateKind",
]

_APPLE = "1.2.840.113635.100"


class CertificateKind(Enum):
    """What a leaf may sign. One certificate can be of several kinds: "Apple Development" is IOS_DEVELOPMENT and
    MAC_DEVELOPMENT, "Apple Distribution" is IOS_DISTRIBUTION and MAC_APP_SUBMISSION.
    """

    IOS_DEVELOPMENT = "Apple Development (iOS)"
    MAC_DEVELOPMENT = "Apple Development (macOS)"
    IOS_DISTRIBUTION = "Apple Distribution (iOS)"
    MAC_APP_SUBMISSION = "Apple Distribution (Mac App Store submission)"
    MAC_INSTALLER_SUBMISSION = "Mac App Store installer submission"
    IOS_APP_STORE = "App Store (signed again by Apple)"
    MAC_APP_STORE = "Mac App Store (signed again by Apple)"
    MAC_APP_STORE_INSTALLER = "Mac App Store installer (signed again by Apple)"
    TESTFLIGHT = "TestFlight (signed again by Apple)"
    DEVELOPER_ID_APPLICATION = "Developer ID Application"
    DEVELOPER_ID_INSTALLER = "Developer ID Installer"
    DEVELOPER_ID_KERNEL = "Developer ID for kernel extensions"
    APPLE_SOFTWARE = "Apple's own software"
    PROFILE_SIGNING = "provisioning profile signing"


LEAF_MARKERS = MappingProxyType(
    {
        f"{_APPLE}.6.1.2": CertificateKind.IOS_DEVELOPMENT,
        f"{_APPLE}.6.1.12": CertificateKind.MAC_DEVELOPMENT,
        f"{_APPLE}.6.1.4": CertificateKind.IOS_DISTRIBUTION,
        f"{_APPLE}.6.1.7": CertificateKind.MAC_APP_SUBMISSION,
        f"{_APPLE}.6.1.8": CertificateKind.MAC_INSTALLER_SUBMISSION,
        f"{_APPLE}.6.1.3": CertificateKind.IOS_APP_STORE,
        f"{_APPLE}.6.1.9": CertificateKind.MAC_APP_STORE,
        f"{_APPLE}.6.1.10": CertificateKind.MAC_APP_STORE_INSTALLER,
        f"{_APPLE}.6.1.25.1": CertificateKind.TESTFLIGHT,
        f"{_APPLE}.6.1.13": CertificateKind.DEVELOPER_ID_APPLICATION,
        f"{_APPLE}.6.1.14": CertificateKind.DEVELOPER_ID_INSTALLER,
        f"{_APPLE}.6.1.18": CertificateKind.DEVELOPER_ID_KERNEL,
        f"{_APPLE}.6.1.22": CertificateKind.APPLE_SOFTWARE,
        f"{_APPLE}.4.11": CertificateKind.PROFILE_SIGNING,
        f"{_APPLE}.12.19": CertificateKind.PROFILE_SIGNING,
    }
)
"""Extension of a leaf → what it may sign."""

DEVELOPER_ID_DATE = f"{_APPLE}.6.1.33"
"""Extension of a Developer ID leaf; its value is text as `20230814000000Z`. Gatekeeper's notarisation rule looks at
it."""

DEVELOPER_ID_AUTHORITY = f"{_APPLE}.6.2.6"
WORLDWIDE_DEVELOPER_RELATIONS_AUTHORITY = f"{_APPLE}.6.2.1"

AUTHORITY_MARKERS = MappingProxyType(
    {
        DEVELOPER_ID_AUTHORITY: "Developer ID Certification Authority",
        WORLDWIDE_DEVELOPER_RELATIONS_AUTHORITY: "Apple Worldwide Developer Relations Certification Authority",
        f"{_APPLE}.6.2.17": "Apple System Integration CA",
    }
)
"""Extension of an intermediate → what it issues for."""

APPLE_ROOTS = MappingProxyType(
    {
        # In every code signature and in the outer signature of every profile of the corpus.
        "b0b1730ecbc7ff4505142c49f1295e6eda6bcaed7e2c68c5be91b5a11001f024": "Apple Root CA",
        # Published; no file of the corpus holds it.
        "c2b9b042dd57830e7d117dac55ac8ae19407d38e41d88f3215bc3a890444a050": "Apple Root CA - G2",
        # In the inner signature (DER-Encoded-Profile) of every profile of the corpus.
        "63343abfb89a6a03ebb57e9b3f5fa7be7c4f5c756f3017b3a8c488c3653e9179": "Apple Root CA - G3",
    }
)
"""SHA-256 of a root's DER, in hexadecimal → its name. A root is believed by this alone: Apple Root CA signed itself
with SHA-1, and what a root says about itself proves nothing anyway."""
