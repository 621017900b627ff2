"""Looks for the rules ENT: what code claims."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..channels import SigningChannel
from ..deployment_table import Platform
from ..product import App, Claims, Extension, Member, Product
from ..property_list import text_of
from ..provider_kinds import ENTITLEMENT, KINDS, SUFFIX, VALUES, unsuffixed
from .registry import Fault, Found, of_app, of_claims, of_extension, of_member, of_product

INSTALL = "com.apple.developer.system-extension.install"
TEAM = "com.apple.developer.team-identifier"
_NETWORK_CLIENT = "com.apple.security.network.client"
_PERSONAL_VPN = "com.apple.developer.networking.vpn.api"
_HOTSPOT_HELPER, _FAMILY_CONTROLS = (
    "com.apple.developer.networking.HotspotHelper",
    "com.apple.developer.family-controls",
)
_WITHOUT_SUFFIX = ("dns-settings", "relay")
_TEAM_PREFIX = re.compile(r"[A-Z0-9]{10}\.")
_VARIABLE = re.compile(r"\$[({]|__TEAM_ID__")
# Whose values have a form with a suffix.
_STANDARD = frozenset(kind.value for kind in KINDS.values() if kind.developer_id_value.endswith(SUFFIX))


def _is_mac_app_extension(member: Member) -> bool:
    return isinstance(member, Extension) and not member.is_system_extension and member.is_on_mac


@of_member("ENT001")
def _standard_value(member: Member) -> Found:
    if member.channel is not SigningChannel.DEVELOPER_ID or member.platform is not Platform.MACOS:
        return None
    if _is_mac_app_extension(member):
        return None
    found = [value for value in member.values if value in _STANDARD]
    return f"claims {', '.join(found)}" if found else None


@of_member("ENT002")
def _suffixed_value(member: Member) -> Found:
    if not member.channel.takes_standard_values or _is_mac_app_extension(member):
        return None
    found = [value for value in member.values if value.endswith(SUFFIX) and unsuffixed(value) in _STANDARD]
    return f"claims {', '.join(found)} in a build for {member.channel}" if found else None


@of_extension("ENT003")
def _no_entitlement(extension: Extension) -> Found:
    if not extension.is_signed or ENTITLEMENT in extension.entitlements or extension.misspelt:
        return None
    return f"claims {', '.join(sorted(extension.entitlements)[:6]) or 'nothing'}"


@of_app("ENT004")
def _app_claims_less(app: App) -> Found:
    if not app.is_signed or app.misspelt or not _is_list(app):
        return None
    claimed = {unsuffixed(value) for value in app.values}
    needed = {unsuffixed(value) for found in app.extensions for value in found.values if value in VALUES}
    needed |= {kind.value for found in app.extensions if not found.values for kind in found.kinds if _is_list(found)}
    lacking = sorted(needed - claimed)
    if not lacking:
        return None
    return f"the extension needs {', '.join(lacking)}; the app claims {', '.join(app.values) or 'nothing of it'}"


def _is_list(member: Member) -> bool:
    """What is of another type is told by ENT010 alone."""
    return isinstance(member.entitlements.get(ENTITLEMENT, []), list)


@of_app("ENT005")
def _may_not_install(app: App) -> Found:
    if not app.is_signed or not app.system_extensions or not app.is_on_mac or app.claims(INSTALL):
        return None
    return f"{INSTALL} is {text_of(app.entitlements.get(INSTALL))}"


@of_extension("ENT006")
def _extension_installs(extension: Extension) -> Found:
    return f"{INSTALL} is true" if extension.claims(INSTALL) else None


@of_extension("ENT007")
def _value_of_another_kind(extension: Extension) -> Iterator[str]:
    if not extension.values or any(value not in VALUES for value in extension.values):
        return  # ENT003, ENT010, ENT008 tell
    claimed = {unsuffixed(value) for value in extension.values}
    for kind in extension.kinds:
        if kind.value not in claimed:
            yield f"a {kind.name} needs {kind.value}; claimed: {', '.join(extension.values)}"


@of_claims("ENT008")
def _no_such_value(claimant: Claims) -> Found:
    unknown = [
        value
        for value in claimant.values
        if value not in VALUES and unsuffixed(value) not in _WITHOUT_SUFFIX and not _VARIABLE.search(value)
    ]
    return f"claims {', '.join(unknown)}" if unknown else None


@of_claims("ENT009")
def _misspelt(claimant: Claims) -> Found:
    return f"claims {', '.join(claimant.misspelt)}" if claimant.misspelt else None


@of_claims("ENT010")
def _no_array(claimant: Claims) -> Found:
    value = claimant.entitlements.get(ENTITLEMENT)
    if value is None or (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        return None
    return f"it is {text_of(value)}"


@of_member("ENT011")
def _application_identifier(member: Member) -> Found:
    if not member.is_signed or member.channel is SigningChannel.SIGNED_AD_HOC or not member.bundle.identifier:
        return None
    key = "com.apple.application-identifier" if member.is_on_mac else "application-identifier"
    value = member.entitlements.get(key)
    prefix, _, rest = value.partition(".") if isinstance(value, str) else ("", "", "")
    if prefix and rest == member.bundle.identifier:
        return None
    return f"{key} is {text_of(value)}, CFBundleIdentifier {member.bundle.identifier}"


@of_member("ENT012")
def _team_identifier(member: Member) -> Found:
    value = member.entitlements.get(TEAM)
    if not member.team or value == member.team:
        return None
    return f"{TEAM} is {text_of(value)}, the signature's team {member.team}"


@of_extension("ENT013")
def _app_extension_sandbox(extension: Extension) -> Found:
    if not extension.is_signed or not _is_mac_app_extension(extension) or extension.is_sandboxed:
        return None
    return f"com.apple.security.app-sandbox is {text_of(extension.entitlements.get('com.apple.security.app-sandbox'))}"


@of_member("ENT014")
def _store_sandbox(member: Member) -> Found:
    if not member.is_on_mac or not member.channel.is_store or member.is_sandboxed or _is_mac_app_extension(member):
        return None
    return "com.apple.security.app-sandbox is not claimed" if member.is_signed else None


@of_extension("ENT015")
def _no_sandbox(extension: Extension) -> Found:
    if not extension.is_system_extension or extension.channel is not SigningChannel.DEVELOPER_ID:
        return None
    return None if extension.is_sandboxed else "com.apple.security.app-sandbox is not claimed"


@of_extension("ENT016")
def _no_network(extension: Extension) -> Found:
    opens = any(unsuffixed(kind.value) in _OPEN_CONNECTIONS for kind in extension.kinds)
    if not extension.is_sandboxed or not opens or extension.claims(_NETWORK_CLIENT):
        return None
    return f"sandboxed, and {_NETWORK_CLIENT} is not claimed"


_OPEN_CONNECTIONS = ("packet-tunnel-provider", "app-proxy-provider", "dns-proxy")


@of_member("ENT017")
def _group_without_prefix(member: Member) -> Found:
    if not member.is_on_mac:
        return None
    wrong = [
        group
        for group in member.groups
        if not group.startswith("group.") and not _TEAM_PREFIX.match(group) and not _VARIABLE.search(group)
    ]
    return f"group {', '.join(wrong)}" if wrong else None


@of_member("ENT018")
def _group_not_in_profile(member: Member) -> Found:
    profile = member.bundle.profile
    if not member.is_on_mac or profile is None:
        return None
    key = "com.apple.security.application-groups"
    wrong = [group for group in member.groups if group.startswith("group.") and not profile.allows(key, [group])]
    return f"{', '.join(wrong)}; the profile allows {text_of(profile.entitlements.get(key))}" if wrong else None


@of_member("ENT019")
def _group_of_another_team(member: Member) -> Found:
    other = [
        group
        for group in member.groups
        if _VARIABLE.search(group)
        or (member.is_on_mac and member.team and _TEAM_PREFIX.match(group) and not group.startswith(f"{member.team}."))
    ]
    return f"group {', '.join(other)}; the team is {member.team or 'not named'}" if other else None


@of_extension("ENT020")
def _no_common_group(extension: Extension) -> Found:
    container = extension.container
    if container is None or extension.is_on_mac or not (container.groups or extension.groups):
        return None
    if set(container.groups) & set(extension.groups):
        return None
    return f"app: {', '.join(container.groups) or 'none'}; extension: {', '.join(extension.groups) or 'none'}"


@of_extension("ENT021")
def _shared_container(extension: Extension) -> Found:
    if not extension.is_system_extension or extension.container is None:
        return None
    shared = sorted(set(extension.groups) & set(extension.container.groups))
    return f"shared with the app: {', '.join(shared)}" if shared else None


@of_app("ENT022")
def _personal_vpn(app: App) -> Found:
    if _PERSONAL_VPN not in app.entitlements or ENTITLEMENT in app.entitlements or not app.extensions:
        return None
    return f"the app claims {_PERSONAL_VPN}, and not {ENTITLEMENT}"


@of_member("ENT023")
def _on_request(member: Member) -> Found:
    granted = {kind.value for kind in KINDS.values() if kind.granted_on_request}
    found = [value for value in member.values if value in granted]
    found += [key for key in (_HOTSPOT_HELPER, _FAMILY_CONTROLS) if member.claims(key)]
    return f"claims {', '.join(found)}" if found else None


@of_claims("ENT025")
def _suffix_on_settings(claimant: Claims) -> Found:
    found = [value for value in claimant.values if value in {f"{name}{SUFFIX}" for name in _WITHOUT_SUFFIX}]
    return f"claims {', '.join(found)}" if found else None


@of_product("ENT026")
def _comment(product: Product) -> Iterator[Fault]:
    for member in product.members:
        signature = None if member.code is None else member.code.main.signature
        if signature is not None and b"<!--" in (signature.entitlements_xml or b""):
            yield Fault("a comment in the entitlements that were signed", member.path)
    for source in product.entitlement_files:
        if source.comment_line:
            yield Fault(f"line {source.comment_line}", source.path)
