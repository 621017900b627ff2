"""Apps and extensions made of an example alone: what its fragment says, and the few facts that it is shown with.

They stand for signed bundles, without files: what a rule asks for is set, the rest is empty.
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from network_extension.doctor.bundles import BundleKind, CodeBundle
from network_extension.doctor.certificates import Certificate
from network_extension.doctor.channels import SigningChannel
from network_extension.doctor.checks.registry import CHECKS
from network_extension.doctor.deployment_table import Platform
from network_extension.doctor.os_version import OSVersion
from network_extension.doctor.product import App, Extension, Product
from network_extension.doctor.provider_kinds import KINDS
from network_extension.doctor.provisioning_profile import ProvisioningProfile, read_provisioning_profile
from network_extension.doctor.signed_code import SignedCode
from tests.doctor_builds import NOW, profile_signer
from tests.doctor_bundles import make_profile

TEAM = "ABCDE12345"
APP_ID, EXTENSION_ID = "org.example.app", "org.example.app.filter"


@dataclass(frozen=True)
class Shown:
    """Where an example's fragment stands, and what is around it."""

    kind: BundleKind = BundleKind.SYSTEM_EXTENSION
    """Whose it is."""
    part: str = "entitlements"
    """Or "information", or "profile"."""
    platform: Platform = Platform.MACOS
    channel: SigningChannel = SigningChannel.DEVELOPER_ID
    provider: str = ""
    """The kind of provider whose class the code takes from the framework."""
    claims: Mapping[str, Any] = field(default_factory=dict)
    """Entitlements beside the fragment."""
    information: Mapping[str, Any] = field(default_factory=dict)
    profile: Mapping[str, Any] | None = None
    """What the profile holds beside the fragment."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """What the other one claims: the app of an extension, the extension of an app."""
    app_information: Mapping[str, Any] = field(default_factory=dict)
    app_profile: Mapping[str, Any] | None = None
    built_for: str = ""
    """The least system version, as the code says."""

    def holds_for(self, fragment: str, rule: str) -> bool:
        """Whether the doctor finds the rule's fault in what is shown, and not in what is around it."""
        return any(fault.place == _path(self.kind) for fault in CHECKS[rule](self._product(fragment)))

    def _product(self, fragment: str) -> Product:
        shown = plistlib.loads(f'<plist version="1.0"><dict>{fragment}</dict></plist>'.encode())
        own: dict[str, dict[str, Any]] = {
            "entitlements": dict(self.claims),
            "information": {"CFBundleIdentifier": EXTENSION_ID, **self.information},
            "profile": dict(self.profile or {}),
        }
        own[self.part] |= shown
        profile = None if self.profile is None and self.part != "profile" else _profile(own["profile"])
        is_app = self.kind is BundleKind.APP
        around = BundleKind.SYSTEM_EXTENSION if is_app else BundleKind.APP
        this = self._member(self.kind, own["entitlements"], own["information"], profile, fragment)
        other = self._member(
            around,
            self.others,
            {"CFBundleIdentifier": EXTENSION_ID if is_app else APP_ID, **self.app_information},
            None if self.app_profile is None else _profile(self.app_profile),
            "",
        )
        app, extension = (this, other) if is_app else (other, this)
        assert isinstance(app, App) and isinstance(extension, Extension)
        app.extensions.append(extension)
        extension.container = app
        return Product([app], [], [], NOW)

    def _member(
        self,
        kind: BundleKind,
        entitlements: Mapping[str, Any],
        information: Mapping[str, Any],
        profile: ProvisioningProfile | None,
        xml: str,
    ) -> App | Extension:
        bundle = cast(CodeBundle, _Bundle(kind, dict(information), profile))
        made: App | Extension = (
            _App(bundle, self.channel) if kind is BundleKind.APP else _Extension(bundle, self.channel)
        )
        made.__dict__ |= {
            "entitlements": entitlements,
            "platform": self.platform,
            "imported_kinds": [KINDS[self.provider]] if self.provider else [],
            "minimum_versions": [OSVersion(*map(int, self.built_for.split(".")))] if self.built_for else [],
            "xml": xml.encode(),
        }
        return made


def _path(kind: BundleKind) -> str:
    return "Example.app" if kind is BundleKind.APP else "Example.app/Contents/extension"


def _profile(contents: Mapping[str, Any]) -> ProvisioningProfile:
    return read_provisioning_profile(make_profile(contents, profile_signer()))


@dataclass
class _Bundle:
    """What rules ask of a bundle."""

    kind: BundleKind
    information: dict[str, Any]
    profile: ProvisioningProfile | None

    @property
    def path(self) -> str:
        return _path(self.kind)

    @property
    def identifier(self) -> str:
        return self.text("CFBundleIdentifier")

    def text(self, key: str) -> str:
        value = self.information.get(key)
        return value if isinstance(value, str) else ""


class _Signed:
    """Signed by the team; the code takes every class that an app may be asked for, and holds each that is named."""

    @property
    def is_signed(self) -> bool:
        return True

    @property
    def team(self) -> str:
        return TEAM

    @property
    def certificate(self) -> Certificate:
        return cast(Certificate, SimpleNamespace(kinds=frozenset()))

    @property
    def code(self) -> SignedCode:
        signature = SimpleNamespace(entitlements_xml=self.__dict__["xml"])
        return cast(
            SignedCode,
            SimpleNamespace(slices=(), imports_class=lambda name: True, main=SimpleNamespace(signature=signature)),
        )


class _App(_Signed, App):
    pass


class _Extension(_Signed, Extension):
    pass
