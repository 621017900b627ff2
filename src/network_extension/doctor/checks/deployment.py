"""Looks for the rules DEP: by whom, and where, a provider may be run."""

from __future__ import annotations

from collections.abc import Iterator

from ..channels import SigningChannel
from ..deployment_table import Platform, deployments
from ..product import App, Extension, Member, Product
from ..provisioning_profile import ProfileKind
from .registry import Fault, Found, of_app, of_extension, of_member, of_product

_DEVICES = (Platform.IOS, Platform.VISIONOS)
_LISTENERS = ("_nw_listener_create", "_nw_listener_create_with_port", "_CFSocketCreateWithNative")
_LISTENER_CLASSES = ("NWListener", "GCDAsyncSocket")


def _has(extension: Extension, kind: str) -> bool:
    return any(found.name == kind for found in extension.kinds)


@of_extension("DEP001")
def _dns_proxy(extension: Extension) -> Found:
    found = extension.platform in _DEVICES and _has(extension, "dns-proxy")
    return f"a DNS proxy for {extension.platform}" if found else None


@of_extension("DEP002")
def _content_filter(extension: Extension) -> Found:
    found = extension.platform in _DEVICES and _has(extension, "content-filter")
    return f"a content filter for {extension.platform}" if found else None


@of_extension("DEP003")
def _app_proxy(extension: Extension) -> Found:
    found = extension.platform in _DEVICES and _has(extension, "app-proxy")
    return f"an app proxy for {extension.platform}" if found else None


@of_extension("DEP004")
def _packet_tunnel(extension: Extension) -> Found:
    found = not extension.is_on_mac and _has(extension, "packet-tunnel")
    return f"a packet tunnel for {extension.platform}" if found else None


@of_extension("DEP005")
def _not_on_this_platform(extension: Extension) -> Found:
    return [
        f"there is no {kind.name} on {extension.platform}"
        for kind in extension.kinds
        if not deployments(kind.name, extension.platform)
    ]


@of_extension("DEP006")
def _store_only(extension: Extension) -> Found:
    if extension.platform not in (Platform.CATALYST, Platform.IOS_ON_MAC):
        return None
    return f"{extension.platform} under Developer ID" if extension.channel is SigningChannel.DEVELOPER_ID else None


@of_extension("DEP007")
def _approval(extension: Extension) -> Found:
    if not extension.is_system_extension or not extension.is_on_mac:
        return None
    team = extension.team or "TEAM"
    return f"for MDM: AllowedSystemExtensions = {{{team}: [{extension.bundle.identifier}]}}"


@of_app("DEP008")
def _refused_though_correct(app: App) -> Found:
    if not any(found.channel is SigningChannel.DEVELOPER_ID for found in app.system_extensions):
        return None
    return "should macOS 26 refuse it: look for other copies, and for -67062 or -67050 in the lines before"


@of_extension("DEP009")
def _registered_macs(extension: Extension) -> Found:
    if not extension.is_for_sysextd or extension.channel is not SigningChannel.DEVELOPMENT:
        return None
    devices = None if extension.bundle.profile is None else extension.bundle.profile.provisioned_devices
    return f"the profile lists {len(devices or ())} devices"


@of_product("DEP010")
def _not_meant_for_that(product: Product) -> Iterator[Fault]:
    for extension in product.extensions:
        if not _has(extension, "packet-tunnel") or extension.code is None:
            continue
        symbols = {symbol for found in extension.code.slices for symbol in found.imported_symbols}
        listeners = [name for name in _LISTENERS if name in symbols]
        listeners += [name for name in _LISTENER_CLASSES if extension.imports_class(name)]
        if listeners:
            yield Fault(f"a packet tunnel that listens: {', '.join(listeners)}", extension.path)
    for package in product.packages:
        for name, head in package.scripts:
            if b"pfctl" in head:
                yield Fault(f"the script {name} calls pfctl", package.path)


@of_member("DEP011")
def _in_house(member: Member) -> Found:
    profile = member.bundle.profile
    if profile is None or member.is_on_mac or profile.kind is not ProfileKind.ENTERPRISE:
        return None
    return f"the profile {profile.name or 'without a name'} is for all devices"


@of_extension("DEP012")
def _store_after_update(extension: Extension) -> Found:
    if not extension.is_for_sysextd or not extension.channel.is_store:
        return None
    return f"a system extension in a build for {extension.channel}"


@of_extension("DEP013")
def _granted(extension: Extension) -> Found:
    found = [kind.name for kind in extension.kinds if kind.granted_on_request]
    return f"{', '.join(found)}" if found else None
