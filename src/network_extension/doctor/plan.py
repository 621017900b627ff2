"""What a new Network Extension starts from: packaging, entitlements, Info.plist keys, for one platform and channel."""

from __future__ import annotations

import plistlib
import re
from typing import Any, NamedTuple

from ..errors import ConfigurationError
from .deployment_table import TABLE, Channel, Deployment, Packaging, Platform, deployments
from .provider_kinds import ENTITLEMENT, KINDS, ProviderKind

_BUNDLE_ID = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_TEAM = re.compile(r"[A-Z0-9]{10}|\$\(\w+\)")
_SANDBOX = {"com.apple.security.app-sandbox": True, "com.apple.security.network.client": True}
_INSTEAD = {
    "dns-proxy": "dns-settings: an app sets encrypted DNS for everybody, without an extension",
    "content-filter": "url-filter: Apple's filter by URL for everybody, on iOS and macOS 26 and later",
    "app-proxy": "packet-tunnel: a tunnel for everybody",
    "transparent-proxy": "packet-tunnel: a tunnel for everybody",
}


class Plan(NamedTuple):
    """What there is to do."""

    kind: ProviderKind
    deployment: Deployment
    channel: Channel
    place: str
    """Where the extension lies in the app; empty where there is none."""
    steps: tuple[str, ...]
    instead: str
    """What would run for more users; empty where nothing would."""
    files: dict[str, bytes]
    """Property lists by name, XML."""


def make_plan(
    provider: str, platform: Platform, channel: Channel, *, bundle_id: str = "com.example.app",
    team: str = "$(TeamIdentifierPrefix)", packaging: Packaging | None = None,
) -> Plan:  # fmt: skip
    """The plan. Raises ConfigurationError for what does not exist, with what does."""
    if not _BUNDLE_ID.fullmatch(bundle_id):
        raise ConfigurationError(f"bundle id {bundle_id!r}: letters, digits and hyphens with dots between are wanted")
    if not _TEAM.fullmatch(team):
        raise ConfigurationError(f"team {team!r}: ten capitals and digits are wanted, as in a certificate's name")
    row = _row(provider, platform, channel, packaging)
    kind = KINDS[provider]
    value = kind.developer_id_value if channel is Channel.DEVELOPER_ID else kind.value
    group = team if team.startswith("$") else f"{team}."
    maker = _Maker(kind, row, channel, value, bundle_id, f"{group}{bundle_id}")
    instead = _INSTEAD.get(provider, "") if row.needs and not row.needs.startswith("all") else ""
    return Plan(kind, row, channel, maker.place(), tuple(maker.steps()), instead, maker.files())


def _row(provider: str, platform: Platform, channel: Channel, packaging: Packaging | None) -> Deployment:
    if provider not in KINDS:
        raise ConfigurationError(f"provider {provider!r}: there are {', '.join(KINDS)}")
    rows = deployments(provider, platform)
    if not rows:
        where = ", ".join(dict.fromkeys(row.platform.value for row in TABLE if row.provider == provider))
        raise ConfigurationError(f"{provider} does not exist on {platform.value}; it does on {where} (TN3134)")
    if channel is Channel.DEVELOPER_ID and platform is not Platform.MACOS:
        raise ConfigurationError(f"Developer ID is for macOS; {platform.value} has the App Store (app-store)")
    possible = deployments(provider, platform, channel)
    if channel is Channel.DEVELOPER_ID:
        possible = [row for row in possible if KINDS[provider].developer_id_value]
    if not possible:
        raise ConfigurationError(
            f"{provider} has no value for Developer ID on {platform.value}; it has the App Store (app-store)"
        )
    chosen = [row for row in possible if packaging in (None, row.packaging)]
    if not chosen:
        there = " or ".join(f"a {row.packaging.value}" for row in possible)
        raise ConfigurationError(f"{provider} on {platform.value}, {channel.value}: as {there} only")
    return chosen[0]


class _Maker:
    """The parts of one plan."""

    def __init__(
        self, kind: ProviderKind, row: Deployment, channel: Channel, value: str, bundle_id: str, group: str
    ) -> None:
        self.kind, self.row, self.channel, self.value = kind, row, channel, value
        self.bundle_id, self.group = bundle_id, group
        self.extension_id = f"{bundle_id}.extension"
        self.is_mac = row.platform in (Platform.MACOS, Platform.CATALYST)
        self.is_system_extension = row.packaging is Packaging.SYSTEM_EXTENSION
        self.has_extension = row.packaging is not Packaging.NONE

    def place(self) -> str:
        if not self.has_extension:
            return ""
        inside = "Contents/" if self.is_mac else ""
        if self.is_system_extension:
            return f"{inside}Library/SystemExtensions/{self.extension_id}.systemextension"
        return f"{inside}{'Extensions' if self.kind.is_extension_kit else 'PlugIns'}/Extension.appex"

    def steps(self) -> list[str]:
        """In the order in which they are done."""
        targets = "app and extension" if self.has_extension else "the app"
        installs = ", and System Extension for the app" if self.is_system_extension else ""
        steps = [f"Register {self.bundle_id}{f' and {self.extension_id}' if self.has_extension else ''} as App IDs."]
        steps.append(f"Enable the capability Network Extensions for {targets}{installs}.")
        if self.kind.granted_on_request:
            steps.append("Ask Apple for the entitlement: it is not self-service.")
        each = "a profile each, with its own App ID," if self.has_extension else "a profile"
        steps.append(f"Make {each} for {self.channel.value}, with the certificate that signs.")
        if self.is_system_extension:
            steps.append("Let main() of the extension call NEProvider.startSystemExtensionMode() and dispatchMain().")
            steps.append("Let the app submit an OSSystemExtensionRequest, and run it from /Applications.")
        steps.append(f"Make the configuration by {' or '.join(self.kind.managers)}.")
        if self.channel is Channel.DEVELOPER_ID:
            steps.append("Sign from the inside out with --options runtime --timestamp, notarise, staple.")
        return steps

    def files(self) -> dict[str, bytes]:
        files = {"App.entitlements": self._app()}
        if self.has_extension:
            files["Extension.entitlements"] = self._extension()
            files["Extension-Info.plist"] = self._info()
        return {name: plistlib.dumps(content, sort_keys=True) for name, content in files.items()}

    def _app(self) -> dict[str, Any]:
        content: dict[str, Any] = {ENTITLEMENT: [self.value]}
        if self.is_system_extension:
            content["com.apple.developer.system-extension.install"] = True
        if self.is_mac and self.channel is not Channel.DEVELOPER_ID:
            content |= _SANDBOX
        if self.has_extension:
            content["com.apple.security.application-groups"] = [self._group()]
        return content

    def _extension(self) -> dict[str, Any]:
        content: dict[str, Any] = {ENTITLEMENT: [self.value], "com.apple.security.application-groups": [self._group()]}
        if self.is_mac and (not self.is_system_extension or self.channel is not Channel.DEVELOPER_ID):
            content |= _SANDBOX
        return content

    def _group(self) -> str:
        return self.group if self.is_mac else f"group.{self.bundle_id}"

    def _info(self) -> dict[str, Any]:
        name = "$(PRODUCT_MODULE_NAME).Provider"
        common: dict[str, Any] = {
            "CFBundleIdentifier": self.extension_id,
            "CFBundleVersion": "1",
            "CFBundleShortVersionString": "1.0",
        }
        if self.is_system_extension:
            return common | {
                "CFBundlePackageType": "SYSX",
                "NSSystemExtensionUsageDescription": "Say here what the extension is for.",
                "NetworkExtension": {"NEProviderClasses": {self.kind.point: name}},
            }
        common["CFBundlePackageType"] = "XPC!"
        if self.kind.is_extension_kit:
            return common | {"EXAppExtensionAttributes": {"EXExtensionPointIdentifier": self.kind.point}}
        return common | {
            "NSExtension": {"NSExtensionPointIdentifier": self.kind.point, "NSExtensionPrincipalClass": name}
        }
