"""Provisioning profiles: `embedded.provisionprofile` (macOS) and `embedded.mobileprovision` (the others).

A profile is CMS around an XML property list: Apple's word which code, signed by whom, may claim which entitlements,
and where (Apple TN3125). Since 2021 it holds itself a second time, as DER signed with SHA-256 and ECDSA, under
DER-Encoded-Profile; the outer signature stays at SHA-1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import Any

from .certificates import Certificate
from .cms import SignedData, read_signed_data
from .entitlement_allowlist import allows
from .errors import UnreadableFile
from .xml_plist import read_xml_plist

__all__ = ["ProfileKind", "ProvisioningProfile", "read_provisioning_profile"]

_WHAT = "provisioning profile"
_MAC = "OSX"
_GET_TASK_ALLOW = ("get-task-allow", "com.apple.security.get-task-allow")
_APPLICATION_IDENTIFIERS = ("com.apple.application-identifier", "application-identifier")


class ProfileKind(Enum):
    """Where code with this profile may run, from the profile's shape."""

    DEVELOPMENT = "development"
    """On the devices that it lists, under a debugger."""
    AD_HOC = "ad hoc"
    """On the devices that it lists."""
    DEVELOPER_ID = "developer id"
    """On all Macs."""
    ENTERPRISE = "enterprise"
    """On all devices (in-house)."""
    APP_STORE = "app store"
    """Through the App Store and TestFlight only."""


@dataclass(frozen=True, slots=True)
class ProvisioningProfile:
    """The contents of one profile. Times are in UTC. A key that is absent is None, or empty where it is a list."""

    name: str | None
    uuid: str | None
    app_id_name: str | None
    team_name: str | None
    team_identifiers: tuple[str, ...]
    application_identifier_prefixes: tuple[str, ...]
    platforms: tuple[str, ...]
    """OSX, iOS, tvOS, xrOS, visionOS, watchOS."""
    creation_date: datetime | None
    expiration_date: datetime | None
    time_to_live: int | None
    """Days."""
    version: int | None
    is_xcode_managed: bool | None
    provisions_all_devices: bool
    provisioned_devices: tuple[str, ...] | None
    """Identifiers of devices; None when the profile has no list of them."""
    developer_certificates: tuple[bytes, ...] = field(repr=False)
    """DER of each certificate that may sign."""
    entitlements: Mapping[str, Any]
    """The allowlist."""
    der_encoded_profile: bytes | None = field(repr=False)
    """The second CMS, with the same in DER."""
    contents: Mapping[str, Any] = field(repr=False)
    """All keys as they stand in the property list."""
    signed_data: SignedData = field(repr=False)
    """The outer CMS."""

    @property
    def kind(self) -> ProfileKind:
        """What the profile is for. On the Mac there is neither in-house nor ad hoc distribution."""
        on_mac = _MAC in self.platforms
        if self.provisions_all_devices:
            return ProfileKind.DEVELOPER_ID if on_mac else ProfileKind.ENTERPRISE
        if self.provisioned_devices is None:
            return ProfileKind.APP_STORE
        debuggable = any(self.entitlements.get(key) is True for key in _GET_TASK_ALLOW)
        return ProfileKind.DEVELOPMENT if on_mac or debuggable else ProfileKind.AD_HOC

    @property
    def application_identifier(self) -> str | None:
        """The App ID with its prefix: "TEAM123456.com.example.app", or with a star at the end (wildcard)."""
        found = (self.entitlements.get(key) for key in _APPLICATION_IDENTIFIERS)
        return next((value for value in found if isinstance(value, str)), None)

    @property
    def is_wildcard(self) -> bool:
        """Whether the App ID ends in a star. Network Extensions need an explicit one."""
        return (self.application_identifier or "").endswith("*")

    def covers(self, certificate: Certificate | bytes) -> bool:
        """Whether `certificate` (DER, or read) may sign code for this profile."""
        der = certificate if isinstance(certificate, bytes) else certificate.der
        return der in self.developer_certificates

    def covers_application(self, identifier: str) -> bool:
        """Whether the App ID is `identifier`, a whole "TEAM123456.com.example.app", or matches it by wildcard."""
        listed = self.application_identifier
        return listed is not None and allows(listed, identifier)

    def covers_device(self, identifier: str) -> bool:
        """Whether code with this profile may run on the device, as far as the profile says."""
        return self.provisions_all_devices or identifier in (self.provisioned_devices or ())

    def allows(self, key: str, value: Any) -> bool:
        """Whether a signature may claim the entitlement. False for a key that is not listed, so ask only about
        entitlements that need a profile.
        """
        return key in self.entitlements and allows(self.entitlements[key], value)

    def expired_at(self, time: datetime) -> bool:
        """Whether the profile has run out at `time` (aware)."""
        return self.expiration_date is not None and time > self.expiration_date


def read_provisioning_profile(data: bytes | memoryview, what: str = _WHAT) -> ProvisioningProfile:
    """Read a profile. Its signatures are another question: `profile_verification`. Raises UnreadableFile."""
    signed = read_signed_data(data, what)
    if signed.content is None:
        raise UnreadableFile(what, "the CMS has no content")
    contents = read_xml_plist(signed.content, what)
    read = _Keys(contents, what)
    devices = read.texts("ProvisionedDevices")
    return ProvisioningProfile(
        name=read.one("Name", str),
        uuid=read.one("UUID", str),
        app_id_name=read.one("AppIDName", str),
        team_name=read.one("TeamName", str),
        team_identifiers=read.texts("TeamIdentifier") or (),
        application_identifier_prefixes=read.texts("ApplicationIdentifierPrefix") or (),
        platforms=read.texts("Platform") or (),
        creation_date=read.one("CreationDate", datetime),
        expiration_date=read.one("ExpirationDate", datetime),
        time_to_live=read.one("TimeToLive", int),
        version=read.one("Version", int),
        is_xcode_managed=read.one("IsXcodeManaged", bool),
        provisions_all_devices=bool(read.one("ProvisionsAllDevices", bool)),
        provisioned_devices=devices,
        developer_certificates=tuple(read.many("DeveloperCertificates", bytes) or ()),
        entitlements=MappingProxyType(read.one("Entitlements", dict) or {}),
        der_encoded_profile=read.one("DER-Encoded-Profile", bytes),
        contents=MappingProxyType(contents),
        signed_data=signed,
    )


class _Keys:
    """The keys of a property list, each of the type that it must have."""

    def __init__(self, contents: Mapping[str, Any], what: str) -> None:
        self._contents, self._what = contents, what

    def one(self, key: str, kind: type) -> Any:
        value = self._contents.get(key)
        if value is not None and type(value) is not kind:  # type(): a bool is not a number here
            raise UnreadableFile(self._what, f"{key} is not of the type {kind.__name__}")
        return value

    def many(self, key: str, kind: type) -> list[Any] | None:
        values: list[Any] | None = self.one(key, list)
        if values is not None and any(type(value) is not kind for value in values):
            raise UnreadableFile(self._what, f"{key} is not a list of the type {kind.__name__}")
        return values

    def texts(self, key: str) -> tuple[str, ...] | None:
        values = self.many(key, str)
        return None if values is None else tuple(values)
