"""An app or an extension that counts, with what its code, its signature and its Info.plist tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .bundles import CodeBundle
from .certificates import Certificate
from .channels import SigningChannel, channel_of
from .claims import Claims
from .deployment_table import Platform
from .der_entitlements import read_xml_entitlements
from .errors import UnreadableFile
from .load_commands import Platform as BuildPlatform
from .os_version import OSVersion
from .signed_code import SignedCode

__all__ = ["Member"]

_PLATFORMS = {
    BuildPlatform.MACOS: Platform.MACOS,
    BuildPlatform.IOS: Platform.IOS,
    BuildPlatform.IOS_SIMULATOR: Platform.IOS,
    BuildPlatform.TVOS: Platform.TVOS,
    BuildPlatform.TVOS_SIMULATOR: Platform.TVOS,
    BuildPlatform.MAC_CATALYST: Platform.CATALYST,
    BuildPlatform.VISIONOS: Platform.VISIONOS,
    BuildPlatform.VISIONOS_SIMULATOR: Platform.VISIONOS,
}
_SIMULATORS = (BuildPlatform.IOS_SIMULATOR, BuildPlatform.TVOS_SIMULATOR, BuildPlatform.VISIONOS_SIMULATOR)
_PLATFORM_NAMES = {
    "macosx": Platform.MACOS,
    "iphoneos": Platform.IOS,
    "iphonesimulator": Platform.IOS,
    "appletvos": Platform.TVOS,
    "appletvsimulator": Platform.TVOS,
    "xros": Platform.VISIONOS,
    "xrsimulator": Platform.VISIONOS,
}
_ON_MAC = (Platform.MACOS, Platform.CATALYST, Platform.IOS_ON_MAC)


@dataclass(eq=False)
class Member(Claims):
    """An app or an extension that counts: one bundle, and what its signature and its place tell."""

    bundle: CodeBundle
    chosen_channel: SigningChannel | None = field(default=None, repr=False)
    """What the user says that the build is meant for."""

    @property
    def path(self) -> str:  # type: ignore[override]
        """For findings: the bundle's path; its name when it is what was examined."""
        return self.bundle.path or self.bundle.name

    @property
    def code(self) -> SignedCode | None:
        """The main executable."""
        return self.bundle.code

    @cached_property
    def entitlements(self) -> Mapping[str, Any]:  # type: ignore[override]
        """What the code claims; of slices that differ, the first. Builds for a simulator claim it in a section."""
        if self.code is None:
            return {}
        if self.is_for_simulator and (section := self.code.main.image.section("__TEXT", "__entitlements")):
            try:
                return read_xml_entitlements(section)
            except UnreadableFile:
                return {}
        return self.code.main.entitlements

    @property
    def is_sandboxed(self) -> bool:
        """Whether a Mac's App Sandbox is claimed."""
        return self.claims("com.apple.security.app-sandbox")

    @cached_property
    def platform(self) -> Platform:
        """What the code is built for; else what Info.plist says; else what the bundle's shape suggests."""
        for build in self.code.main.image.commands.build_versions if self.code else ():
            if build.platform in _PLATFORMS:
                return _PLATFORMS[BuildPlatform(build.platform)]
        listed = self.bundle.information.get("CFBundleSupportedPlatforms")
        names = [*listed] if isinstance(listed, list) else []
        for name in [*names, self.bundle.text("DTPlatformName")]:
            if isinstance(name, str) and name.lower() in _PLATFORM_NAMES:
                return _PLATFORM_NAMES[name.lower()]
        return Platform.MACOS if self.bundle.is_deep else Platform.IOS

    @property
    def is_signed(self) -> bool:
        """Whether its code, or a slice of it, has a signature that can be read, and that somebody asks for."""
        return (
            not self.is_for_simulator and self.code is not None and any(found.signature for found in self.code.slices)
        )

    @property
    def is_for_simulator(self) -> bool:
        """Whether it runs in a simulator, which asks for no signature."""
        builds = self.code.main.image.commands.build_versions if self.code else ()
        return any(build.platform in _SIMULATORS for build in builds)

    @property
    def is_on_mac(self) -> bool:
        """Whether it runs on a Mac."""
        return self.platform in _ON_MAC

    @cached_property
    def signed_channel(self) -> SigningChannel:
        """The channel that the certificate and the profile tell."""
        if self.code is None or any(found.signature is None for found in self.code.slices):
            return SigningChannel.UNSIGNED
        certificate = self.code.main.certificate
        if certificate is None:
            return SigningChannel.SIGNED_AD_HOC
        return channel_of(certificate.kinds, None if self.bundle.profile is None else self.bundle.profile.kind)

    @property
    def channel(self) -> SigningChannel:
        """The channel that rules ask for."""
        return self.chosen_channel or self.signed_channel

    @property
    def is_signed_by_apple(self) -> bool:
        """Whether the App Store or TestFlight has signed it again: its profile then no longer matters."""
        kinds = "" if self.certificate is None else " ".join(kind.value for kind in self.certificate.kinds)
        return "signed again by Apple" in kinds

    @property
    def certificate(self) -> Certificate | None:
        """The signer's."""
        return None if self.code is None else self.code.main.certificate

    @property
    def team(self) -> str:
        """Of the code directory; empty where it names none."""
        directory = None if self.code is None else self.code.main.directory
        return (directory.team if directory else None) or ""

    @cached_property
    def minimum_versions(self) -> list[OSVersion]:
        """The least system version of each slice, as its code says."""
        slices = self.code.slices if self.code else ()
        return [build.minimum_os for found in slices for build in found.image.commands.build_versions[:1]]

    @property
    def declared_minimum(self) -> OSVersion | None:
        """The least system version that Info.plist names."""
        text = self.bundle.text("LSMinimumSystemVersion" if self.is_on_mac else "MinimumOSVersion")
        parts = text.split(".")
        if not text or len(parts) > 3 or not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
            return None
        return OSVersion(*(int(part) for part in parts))

    @property
    def least_version(self) -> OSVersion | None:
        """The least system version that the code runs on, on any architecture."""
        return min(self.minimum_versions, default=self.declared_minimum)
