"""Looks for the rules PKG: where code lies, and how it is packed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from ..bundles import BundleKind
from ..channels import SigningChannel
from ..deployment_table import Platform
from ..product import App, Extension, InstallerPackage, Member, Product
from ..provider_kinds import POINTS, SUFFIX
from .registry import Fault, Found, of_app, of_extension, of_member, of_product

_SYSTEM_EXTENSIONS = "Contents/Library/SystemExtensions"
_ACTIVATION = "OSSystemExtensionRequest"
_ONLY_SYSTEM_EXTENSIONS = ("content-filter", "packet-filter", "dns-proxy")
_APPLICATIONS = PurePosixPath("/Applications")


def _place_in_app(extension: Extension) -> str:
    """The folder that it lies in, below its app; empty without an app."""
    container = extension.container
    if container is None:
        return ""
    below = extension.bundle.path[len(container.bundle.path) :].lstrip("/")
    return below.rpartition("/")[0]


@of_extension("PKG001")
def _app_extension_under_developer_id(extension: Extension) -> Found:
    if extension.is_system_extension or extension.platform is not Platform.MACOS:
        return None
    if extension.channel is not SigningChannel.DEVELOPER_ID:
        return None
    return f"an app extension for {_points(extension)}, signed with Developer ID"


def _points(extension: Extension) -> str:
    return ", ".join(extension.points) or "no extension point"


@of_extension("PKG002")
def _suffixed_value_in_app_extension(extension: Extension) -> Found:
    suffixed = [value for value in extension.values if value.endswith(SUFFIX)]
    return None if extension.is_system_extension or not suffixed else f"claims {', '.join(suffixed)}"


@of_extension("PKG003")
def _system_extension_elsewhere(extension: Extension) -> Found:
    if not extension.is_system_extension or extension.container is None or not extension.is_on_mac:
        return None
    place = _place_in_app(extension)
    return None if place == _SYSTEM_EXTENSIONS else f"it lies in {place or 'the app itself'}"


@of_extension("PKG004")
def _folder_name(extension: Extension) -> Found:
    wanted = f"{extension.bundle.identifier}.systemextension"
    if not extension.is_for_sysextd or extension.bundle.name == wanted:
        return None
    return f"the folder is {extension.bundle.name}, CFBundleIdentifier {extension.bundle.identifier or 'is missing'}"


@of_extension("PKG005")
def _system_extension_type(extension: Extension) -> Found:
    return _package_type(extension, "SYSX") if extension.is_for_sysextd else None


@of_extension("PKG006")
def _app_extension_type(extension: Extension) -> Found:
    return None if extension.is_system_extension else _package_type(extension, "XPC!")


def _package_type(member: Member, wanted: str) -> str | None:
    found = member.bundle.text("CFBundlePackageType")
    return None if found == wanted else f"CFBundlePackageType is {found or 'missing'}"


@of_extension("PKG007")
def _system_extension_off_the_mac(extension: Extension) -> Found:
    return f"built for {extension.platform}" if extension.is_system_extension and not extension.is_on_mac else None


@of_extension("PKG008")
def _app_extension_for_what_is_none(extension: Extension) -> Found:
    if extension.is_system_extension or extension.platform is not Platform.MACOS:
        return None
    kinds = [kind.name for kind in extension.kinds if kind.name in _ONLY_SYSTEM_EXTENSIONS]
    return f"{', '.join(kinds)} as an app extension" if kinds else None


@of_extension("PKG009")
def _url_filter_as_system_extension(extension: Extension) -> Found:
    found = extension.is_system_extension and any(kind.name == "url-filter" for kind in extension.kinds)
    return f"NEProviderClasses has {_points(extension)}" if found else None


@of_extension("PKG010")
def _app_extension_elsewhere(extension: Extension) -> Found:
    if extension.is_system_extension or extension.container is None:
        return None
    place = _place_in_app(extension)
    return None if place.removeprefix("Contents/") in ("PlugIns", "Extensions") else f"it lies in {place}"


@of_extension("PKG011")
def _folder_of_the_other_kind(extension: Extension) -> Found:
    if extension.is_system_extension or extension.container is None:
        return None
    folder = _place_in_app(extension).removeprefix("Contents/")
    for point in extension.points:
        for kind in POINTS.get(point, ())[:1]:
            if folder == ("PlugIns" if kind.is_extension_kit else "Extensions"):
                return f"{point} in {folder}"
    # With a point that is not known, its dictionary tells the kind.
    if not any(point in POINTS for point in extension.points):
        if folder == "PlugIns" and extension.extension_kit is not None and extension.classic is None:
            return "EXAppExtensionAttributes in PlugIns"
        if folder == "Extensions" and extension.classic is not None and extension.extension_kit is None:
            return "NSExtension in Extensions"
    return None


@of_extension("PKG012")
def _starts_as_app_extension(extension: Extension) -> Found:
    if not extension.is_for_sysextd or extension.code is None:
        return None
    wrong = [
        found.image.architecture for found in extension.code.slices if "_NSExtensionMain" in found.imported_symbols
    ]
    if wrong:
        return f"{', '.join(wrong)}: imports NSExtensionMain"
    selector = "startSystemExtensionMode"
    lacking = extension.lacking(lambda found: found.image.contains_string(selector))
    return f"{', '.join(lacking)}: the selector {selector} does not occur" if lacking else None


@of_extension("PKG013")
def _no_extension_main(extension: Extension) -> Found:
    if extension.is_system_extension or extension.classic is None or extension.code is None:
        return None
    lacking = extension.lacking(lambda found: "_NSExtensionMain" in found.imported_symbols)
    return f"{', '.join(lacking)}: NSExtensionMain is not imported" if lacking else None


@of_app("PKG014")
def _nobody_activates(app: App) -> Found:
    if not app.system_extensions or not app.is_on_mac or app.code is None or app.uses_class(_ACTIVATION):
        return None
    return f"no code of the app imports {_ACTIVATION}"


@of_app("PKG015")
def _only_a_helper_activates(app: App) -> Found:
    if not app.system_extensions or app.code is None or app.code.imports_class(_ACTIVATION):
        return None
    # A library is loaded into the app's own process; a program of its own is not.
    users = [code for code in app.other_code if code.imports_class(_ACTIVATION)]
    if not users or any(not code.is_executable for code in users):
        return None
    return f"{_ACTIVATION} only in {', '.join(code.path for code in users[:3])}"


@of_member("PKG016")
def _main_executable(member: Member) -> Found:
    if member.code is not None:
        return None
    return f"{member.bundle.executable_path}: {member.bundle.code_problem}"


@of_extension("PKG017")
def _architectures(extension: Extension) -> Found:
    container = extension.container
    if container is None or container.code is None or extension.code is None:
        return None
    of_app_, of_extension_ = (
        sorted({found.image.architecture for found in code.slices}) for code in (container.code, extension.code)
    )
    return None if of_app_ == of_extension_ else f"app: {', '.join(of_app_)}; extension: {', '.join(of_extension_)}"


@of_app("PKG018")
def _one_id_twice(app: App) -> Found:
    counts = Counter(found.bundle.identifier for found in app.extensions if found.bundle.identifier)
    return [f"{identifier} {count} times" for identifier, count in counts.items() if count > 1]


@of_product("PKG019")
def _relocatable(product: Product) -> Found:
    return [
        Fault(f"relocatable: {', '.join(package.relocatable[:5])}", package.path)
        for package in product.packages
        if package.relocatable and _has_system_extensions(product)
    ]


def _has_system_extensions(product: Product) -> bool:
    return any(app.system_extensions for app in product.apps)


@of_product("PKG020")
def _installed_elsewhere(product: Product) -> Iterator[Fault]:
    if not _has_system_extensions(product):
        return
    for package in product.packages:
        for path in _app_paths(package):
            if _APPLICATIONS not in path.parents:
                yield Fault(f"{path.name} lands at {path}", package.path)


def _app_paths(package: InstallerPackage) -> list[PurePosixPath]:
    """Where the installer puts the package's apps."""
    location = package.install_location or "/"
    return [
        PurePosixPath("/", location.lstrip("/"), path.removeprefix("./").lstrip("/"))
        for path in package.bundle_paths
        if path.endswith(".app") and ".app/" not in path
    ]


@of_app("PKG021")
def _has_to_be_in_applications(app: App) -> Found:
    if not app.system_extensions or not app.is_on_mac:
        return None
    return app.bundle.identifier or app.bundle.name


@of_product("PKG022")
def _same_version_other_code(product: Product) -> Iterator[Fault]:
    if product.previous is None:
        return
    before = {found.bundle.identifier: found for found in product.previous.extensions if found.is_system_extension}
    for extension in product.extensions:
        old = before.get(extension.bundle.identifier)
        if not extension.is_system_extension or old is None or old.code is None or extension.code is None:
            continue
        if old.bundle.version == extension.bundle.version and old.code.cdhashes != extension.code.cdhashes:
            yield Fault(f"{extension.bundle.version} in both builds, whose code differs", extension.path)


@of_product("PKG023")
def _archive_for_development(product: Product) -> Found:
    identity = product.archive.get("SigningIdentity")
    if not isinstance(identity, str) or not identity.startswith(("Apple Development", "Mac Developer")):
        return None
    on_mac = any(app.platform is Platform.MACOS for app in product.apps)
    return f"SigningIdentity is {identity}" if on_mac else None


@of_app("APP001")
def _container(app: App) -> Found:
    if not app.extensions:
        return None
    kind = app.bundle.text("CFBundlePackageType")
    if kind and kind != "APPL":
        return f"CFBundlePackageType of the app is {kind}"
    outer = app.bundle.app
    # A watch app lies in its phone app by design, and has no Network Extensions.
    if outer is not None and outer.kind is BundleKind.APP:
        return f"{app.bundle.name} lies in {outer.name}"
    return None
