"""The builds that docs/refused-bundles-worked.md goes through, under the names that it uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from network_extension.doctor.bundle_files import BundleFiles
from network_extension.doctor.examination import examine
from network_extension.doctor.report import Report
from tests.doctor_authorities import TEAM
from tests.doctor_builds import (
    NE,
    NOW,
    Build,
    Part,
    anchors,
    app_extension,
    application_identifier,
    mac_build,
    mobile_build,
    provider,
)

APP, EXTENSION = "org.example.vpn", "org.example.vpn.tunnel"
TUNNEL = ("NEPacketTunnelProvider", "packet-tunnel-provider", "NETunnelProviderManager", "packet-tunnel")


def _name(part: Part, identifier: str) -> None:
    on_mac = part.profile_name.endswith("provisionprofile")
    key = "com.apple.application-identifier" if on_mac else "application-identifier"
    part.information["CFBundleIdentifier"] = identifier
    part.entitlements |= application_identifier(identifier, on_mac)
    assert part.profile is not None
    part.profile["Entitlements"][key] = f"{TEAM}.{identifier}"


def _named(build: Build, app: str, extension: str, folder: str) -> Build:
    _name(build.app, app)
    _name(build.extension, extension)
    target = build.extension.folder.with_name(folder)
    build.extension.folder.rename(target)
    build.extension.folder = target
    return build


def tunnel_from_xcode(root: Path) -> Build:
    """An app extension, signed for development."""
    build = app_extension(mac_build(root, "development"), "packet-tunnel")
    provider(build, *TUNNEL)
    return _named(build, APP, EXTENSION, "Tunnel.appex")


def tunnel_exported(root: Path) -> Build:
    """The same app extension, signed with Developer ID."""
    build = app_extension(mac_build(root, "developer id"), "packet-tunnel")
    provider(build, *TUNNEL)
    return _named(build, APP, EXTENSION, "Tunnel.appex")


def tunnel_without_suffix(root: Path) -> Build:
    """A system extension by now, with the values that Xcode wrote."""
    build = mac_build(root, "developer id")
    provider(build, *TUNNEL)
    for part in build.parts:
        part.entitlements[NE] = ["packet-tunnel-provider"]
    return _named(build, APP, EXTENSION, f"{EXTENSION}.systemextension")


def tunnel_mended(root: Path) -> Build:
    """A system extension with the right values."""
    build = mac_build(root, "developer id")
    provider(build, *TUNNEL)
    return _named(build, APP, EXTENSION, f"{EXTENSION}.systemextension")


def dns_proxy(root: Path) -> Build:
    """For iOS, as it goes to TestFlight."""
    build = mobile_build(root, "app store", point="dns-proxy")
    provider(build, "NEDNSProxyProvider", "dns-proxy", "NEDNSProxyManager", "dns-proxy")
    return _named(build, "org.example.dns", "org.example.dns.proxy", "DNSProxy.appex")


def dns_settings(root: Path) -> Build:
    """The same app without its extension, with DNS settings."""
    build = mobile_build(root, "app store")
    _named(build, "org.example.dns", "org.example.dns.proxy", "DNSProxy.appex")
    build.app.entitlements[NE] = ["dns-settings"]

    def alone() -> None:
        for path in sorted(build.extension.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        build.extension.folder.rmdir()
        build.extension.folder.parent.rmdir()

    build.before_app.append(alone)
    return build


CASES: dict[str, Callable[[Path], Build]] = {
    "Debug/Example.app": tunnel_from_xcode,
    "Exported/Example.app": tunnel_exported,
    "Again/Example.app": tunnel_without_suffix,
    "Mended/Example.app": tunnel_mended,
    "DNS.app": dns_proxy,
    "Settings.app": dns_settings,
}
"""By the path that the page names."""


def said_of(name: str, root: Path) -> Report:
    """What the doctor says of one of them."""
    build = CASES[name](root)
    build.finish()
    return examine(name, BundleFiles(build.app.folder), NOW, anchors=anchors())
