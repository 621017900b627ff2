"""Looks for the rules INF and APP: Info.plists, and what the container app has to do."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..deployment_table import TABLE, Platform
from ..os_version import OSVersion
from ..product import App, Extension, Member
from ..property_list import text_of, texts
from ..provider_kinds import POINTS, ProviderKind
from ..rule import Severity
from .registry import Fault, Found, of_app, of_extension, of_member

_USAGE = "NSSystemExtensionUsageDescription"
_MACH_SERVICE = "NEMachServiceName"
_ONLY_APP_EXTENSIONS = ("filter-control", "app-push", "hotspot-evaluation", "hotspot-authentication")
_VARIABLE = re.compile(r"\$\([A-Za-z_][\w.:-]*\)|\$\{[A-Za-z_][\w.:-]*\}|__TEAM_ID__|__BUNDLE_ID__")
_MDM_CONFIGURES = ("dns-proxy", "content-filter", "app-proxy")
_UNTIL_ARM = OSVersion(11)


@of_extension("INF001")
def _no_classes(extension: Extension) -> Found:
    if not extension.is_for_sysextd or extension.provider_classes:
        return None
    found = extension.network_extension
    return f"NetworkExtension is {text_of(found)}" if found else "NetworkExtension is missing"


@of_extension("INF002")
def _no_point(extension: Extension) -> Found:
    if not extension.is_for_sysextd:
        return None
    return [f"NEProviderClasses has {point}" for point in extension.points if point not in POINTS]


@of_extension("INF003")
def _point_of_app_extensions(extension: Extension) -> Found:
    if not extension.is_for_sysextd:
        return None
    return [
        f"NEProviderClasses has {point}"
        for point in extension.points
        if point.removeprefix("com.apple.networkextension.") in _ONLY_APP_EXTENSIONS
    ]


def _lacking(extension: Extension, name: str) -> list[str]:
    """Architectures whose code does not have the class: not in the app's libraries either."""
    return extension.lacking(lambda found: found.image.contains_class(name), shared=True)


@of_extension("INF004")
def _no_such_class(extension: Extension) -> Iterator[str]:
    for point, name in extension.provider_classes.items() if extension.is_system_extension else ():
        if not isinstance(name, str) or not name:
            yield f"{point} has {text_of(name)} for a class"
        elif lacking := _lacking(extension, name):
            yield f"{name} is not in the code ({', '.join(lacking)})"


@of_extension("INF005")
def _class_of_another_kind(extension: Extension) -> Iterator[str]:
    imported = {kind.point for kind in extension.imported_kinds}
    for point in extension.points:
        if point in POINTS and imported and not imported & {kind.point for kind in POINTS[point]}:
            # NEFilterControlProvider is no kind of its own; what derives from it is not seen.
            if point.endswith(("filter-control", "hotspot-authentication")):
                continue
            yield f"{point}; the code derives from {', '.join(_classes(extension))}"


def _classes(extension: Extension) -> list[str]:
    kinds: list[ProviderKind] = extension.imported_kinds
    return [name for kind in kinds for name in kind.classes if extension.imports_class(name)]


@of_extension("INF006")
def _mach_service(extension: Extension) -> Found:
    name = extension.network_extension.get(_MACH_SERVICE)
    if not extension.is_for_sysextd or name is None:
        return None
    if isinstance(name, str) and any(name == group or name.startswith(f"{group}.") for group in extension.groups):
        return None
    return f"{_MACH_SERVICE} is {text_of(name)}; its groups: {', '.join(extension.groups) or 'none'}"


@of_extension("INF007")
def _no_mach_service(extension: Extension) -> Found:
    information = extension.bundle.information
    if not extension.is_for_sysextd or _MACH_SERVICE in extension.network_extension or _MACH_SERVICE in information:
        return None
    return "NetworkExtension has none" if extension.provider_classes else None


@of_extension("INF008")
def _mach_service_elsewhere(extension: Extension) -> Found:
    if _MACH_SERVICE in extension.bundle.information:
        return "at the top of Info.plist"
    if not extension.is_system_extension and _MACH_SERVICE in extension.network_extension:
        return "in an app extension"
    return None


@of_extension("INF009")
def _no_description(extension: Extension) -> Found:
    if not extension.is_for_sysextd or not extension.bundle.information:
        return None
    if _USAGE not in extension.bundle.information:
        return f"{_USAGE} is missing"
    value = extension.bundle.information[_USAGE]
    if isinstance(value, str) and value.strip():
        return None
    return Fault(f"{_USAGE} is {'empty' if value == '' else text_of(value)}", level=Severity.WARN)


@of_extension("INF010")
def _keys_of_app_extensions(extension: Extension) -> Found:
    if not extension.is_for_sysextd:
        return None
    found = [key for key in ("NSExtension", "XPCService") if key in extension.bundle.information]
    return f"Info.plist has {', '.join(found)}" if found else None


@of_extension("INF011")
def _names_no_point(extension: Extension) -> Found:
    if extension.is_system_extension or any(point in POINTS for point in extension.points):
        return None
    return f"it names {', '.join(extension.points) or 'none'}"


@of_extension("INF012")
def _principal_class(extension: Extension) -> Found:
    if extension.is_system_extension or extension.classic is None or extension.code is None:
        return None
    name = extension.classic.get("NSExtensionPrincipalClass")
    if not isinstance(name, str) or not name:
        return f"NSExtensionPrincipalClass is {'missing' if name is None else text_of(name) or 'empty'}"
    lacking = _lacking(extension, name)
    return f"{name} is not in the code ({', '.join(lacking)})" if lacking else None


@of_extension("INF013")
def _both_kinds(extension: Extension) -> Found:
    both = extension.classic is not None and extension.extension_kit is not None
    return "NSExtension and EXAppExtensionAttributes" if both and not extension.is_system_extension else None


@of_extension("INF014")
def _id_of_app_extension(extension: Extension) -> Found:
    container = extension.container
    if extension.is_system_extension or container is None or not container.bundle.identifier:
        return None
    prefix, _, last = extension.bundle.identifier.rpartition(".")
    if prefix == container.bundle.identifier and last:
        return None
    return f"{extension.bundle.identifier or 'no id'} in {container.bundle.identifier}"


@of_extension("INF015")
def _id_of_system_extension(extension: Extension) -> Found:
    container = extension.container
    if not extension.is_system_extension or container is None or not container.bundle.identifier:
        return None
    if extension.bundle.identifier.startswith(f"{container.bundle.identifier}."):
        return None
    return f"{extension.bundle.identifier or 'no id'} in {container.bundle.identifier}"


@of_extension("INF016")
def _no_version(extension: Extension) -> Found:
    if not extension.is_for_sysextd or not extension.bundle.information:
        return None
    missing = [key for key in ("CFBundleVersion", "CFBundleShortVersionString") if not extension.bundle.text(key)]
    return f"{' and '.join(missing)} missing or empty" if missing else None


@of_member("INF017")
def _not_filled_in(member: Member) -> Found:
    found = [
        f"Info.plist {path}: {value}" for path, value in texts(member.bundle.information) if _VARIABLE.search(value)
    ]
    found += [f"entitlements {path}: {value}" for path, value in texts(member.entitlements) if _VARIABLE.search(value)]
    # Keys are texts as well: one fault, told once.
    return found[:5]


@of_extension("INF018")
def _least_version(extension: Extension) -> Iterator[str]:
    own = extension.least_version
    for kind in extension.kinds:
        for row in TABLE:
            if (row.provider, row.platform, row.packaging) != (kind.name, extension.platform, extension.packaging):
                continue
            if own is not None and own < _version(row.since):
                yield f"it runs from {own} on; a {kind.name} needs {row.since}"


def _version(text: str) -> OSVersion:
    return OSVersion(*(int(part) for part in text.split(".")))


@of_extension("INF019")
def _needs_newer_system(extension: Extension) -> Found:
    container = extension.container
    if container is None or container.least_version is None or extension.least_version is None:
        return None
    if extension.least_version <= container.least_version:
        return None
    return f"the app runs from {container.least_version} on, the extension from {extension.least_version}"


@of_member("INF020")
def _two_versions(member: Member) -> Found:
    declared, built = member.declared_minimum, member.minimum_versions
    if declared is None or not built or declared in built or member.platform is Platform.CATALYST:
        return None
    # Code for Apple's own processors says 11.0 at least, whatever was asked for.
    if declared < _UNTIL_ARM and all(version == _UNTIL_ARM for version in built) and member.is_on_mac:
        return None
    return f"Info.plist says {declared}, the code {', '.join(sorted({str(version) for version in built}))}"


@of_app("APP002")
def _nobody_configures(app: App) -> Iterator[Fault]:
    told: set[str] = set()
    for extension in app.extensions:
        for kind in extension.kinds:
            if (
                kind.name in told
                or app.code is None
                or extension.code is None
                or any(app.uses_class(name) for name in kind.managers)
            ):
                continue
            told.add(kind.name)
            by_mdm = not app.is_on_mac and kind.name in _MDM_CONFIGURES
            evidence = f"no code of the app uses {' or '.join(kind.managers)}"
            yield Fault(evidence, level=Severity.INFO if by_mdm else None)


@of_app("APP003")
def _background_mode(app: App) -> Found:
    if app.code is None or not app.code.imports_class("NEHotspotHelper"):
        return None
    modes = app.bundle.information.get("UIBackgroundModes")
    if isinstance(modes, list) and "network-authentication" in modes:
        return None
    return f"NEHotspotHelper is used, UIBackgroundModes is {text_of(modes)}"


@of_app("APP004")
def _no_extension_needed(app: App) -> Found:
    found = [value for value in app.values if value in ("relay", "dns-settings")]
    return f"claims {', '.join(found)}, and has no extension" if found and not app.extensions else None


@of_app("APP005")
def _container_prompt(app: App) -> Found:
    if not app.is_on_mac or app.is_sandboxed:
        return None
    found = [group for group in app.groups if group.startswith("group.")]
    return f"not sandboxed, group {', '.join(found)}" if found else None
