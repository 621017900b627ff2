"""What is examined, with the facts that rules ask for: apps, their Network Extensions, platform, channel, providers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .bundles import BundleKind, CodeBundle
from .certificates import Certificate
from .channels import SigningChannel
from .claims import Claims, EntitlementsFile
from .deployment_table import Packaging
from .errors import UnreadableFile
from .member import Member
from .provider_kinds import ENTITLEMENT, KINDS, POINTS, ProviderKind
from .signed_code import SignedCode, SignedSlice, read_signed_code

if TYPE_CHECKING:
    from .integrity import IntegrityFault

__all__ = ["App", "Claims", "EntitlementsFile", "Extension", "InstallerPackage", "Member", "Product", "make_product"]


@dataclass(eq=False)
class Extension(Member):
    """An app extension or a system extension with a Network Extension in it."""

    container: App | None = field(default=None, repr=False)
    """The app that it lies in; None when it is examined alone."""

    @property
    def is_system_extension(self) -> bool:
        """Or an app extension."""
        return self.bundle.kind is BundleKind.SYSTEM_EXTENSION

    @property
    def is_for_sysextd(self) -> bool:
        """Whether it is a system extension for a Mac: nowhere else has the system such a thing."""
        return self.is_system_extension and self.is_on_mac

    @property
    def packaging(self) -> Packaging:
        """As the deployment table names it."""
        return Packaging.SYSTEM_EXTENSION if self.is_system_extension else Packaging.APP_EXTENSION

    @property
    def network_extension(self) -> dict[str, Any]:
        """The dictionary NetworkExtension of a system extension's Info.plist."""
        return _dictionary(self.bundle.information.get("NetworkExtension"))

    @property
    def provider_classes(self) -> dict[str, Any]:
        """NEProviderClasses: extension point to class."""
        return _dictionary(self.network_extension.get("NEProviderClasses"))

    @property
    def classic(self) -> dict[str, Any] | None:
        """The dictionary NSExtension; None where there is none."""
        found = self.bundle.information.get("NSExtension")
        return found if isinstance(found, dict) else None

    @property
    def extension_kit(self) -> dict[str, Any] | None:
        """The dictionary EXAppExtensionAttributes; None where there is none."""
        found = self.bundle.information.get("EXAppExtensionAttributes")
        return found if isinstance(found, dict) else None

    @property
    def points(self) -> list[str]:
        """Extension points that Info.plist names, known or not."""
        if self.is_system_extension:
            return [str(key) for key in self.provider_classes]
        found = [
            (self.classic or {}).get("NSExtensionPointIdentifier"),
            (self.extension_kit or {}).get("EXExtensionPointIdentifier"),
        ]
        return [point for point in found if isinstance(point, str)]

    @cached_property
    def imported_kinds(self) -> list[ProviderKind]:
        """Kinds whose classes the code takes from the framework."""
        return [kind for kind in KINDS.values() if any(self.imports_class(name) for name in kind.classes)]

    @cached_property
    def libraries(self) -> list[SignedCode]:
        """Libraries in its own bundle. Xcode's debug builds have nearly all code in one, and a stub before it."""
        return [code for code in _code_below(self.bundle, {self.bundle.executable_path}) if not code.is_executable]

    @cached_property
    def shared_libraries(self) -> list[SignedCode]:
        """Libraries of the app, which its extensions may load as well."""
        return [] if self.container is None else [one for one in self.container.other_code if not one.is_executable]

    def imports_class(self, name: str) -> bool:
        """Whether the main executable, or a library in the bundle, takes this class from elsewhere."""
        if self.code is None:
            return False
        return self.code.imports_class(name) or any(code.imports_class(name) for code in self.libraries)

    def lacking(self, holds: Callable[[SignedSlice], bool], *, shared: bool = False) -> list[str]:
        """Architectures in which neither the main executable nor a library holds what is asked for; with `shared`, the
        app's libraries count too. [] without code.
        """
        missing = [found.image.architecture for found in self.code.slices if not holds(found)] if self.code else []
        if not missing:
            return []
        libraries = [*self.libraries, *(self.shared_libraries if shared else ())]
        elsewhere = {found.image.architecture for code in libraries for found in code.slices if holds(found)}
        return [name for name in missing if name not in elsewhere]

    @cached_property
    def kinds(self) -> list[ProviderKind]:
        """The kinds of provider in it: by its points, and, where one point serves two kinds, by its classes. With no
        point that is known, by its classes alone.
        """
        found: list[ProviderKind] = []
        for point in self.points:
            fitting = POINTS.get(point, ())
            by_class = [kind for kind in fitting if kind in self.imported_kinds]
            found += [kind for kind in (by_class or fitting[:1]) if kind not in found]
        return found or self.imported_kinds


def _code_below(bundle: CodeBundle, but: set[str], skipped: tuple[str, ...] = ()) -> Iterator[SignedCode]:
    """Mach-O files in a bundle."""
    files = bundle.files
    for path in files.below(bundle.path):
        if files.is_file(path) and path not in but and not path.startswith(skipped):
            try:
                code = read_signed_code(files, path, bundle.anchors)
            except UnreadableFile:
                continue  # what cannot be read is told where its signature is looked at
            if code is not None:
                yield code


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


@dataclass(eq=False)
class App(Member):
    """An app, and the Network Extensions in it."""

    extensions: list[Extension] = field(default_factory=list)
    in_stapled_package: bool = False
    """Whether it comes in an installer package that has a ticket of its own."""

    @property
    def system_extensions(self) -> list[Extension]:
        """Those that are system extensions."""
        return [found for found in self.extensions if found.is_system_extension]

    @property
    def members(self) -> list[Member]:
        """The app and its Network Extensions."""
        return [self, *self.extensions]

    @cached_property
    def other_code(self) -> list[SignedCode]:
        """Every Mach-O file in the app, apart from its main executable and what its Network Extensions hold."""
        skipped = tuple(f"{found.bundle.path}/" for found in self.extensions)
        return [*_code_below(self.bundle, {self.bundle.executable_path}, skipped)]

    def uses_class(self, name: str) -> bool:
        """Whether the main executable, or any library or helper of the app, takes this class from elsewhere."""
        if self.code is not None and self.code.imports_class(name):
            return True
        return any(code.imports_class(name) for code in self.other_code)


@dataclass(frozen=True)
class InstallerPackage:
    """What an installer package says of where its bundles go."""

    path: str
    install_location: str
    relocatable: tuple[str, ...]
    """Bundles (ids or paths) that the installer may put elsewhere."""
    bundle_paths: tuple[str, ...]
    """Below the install location."""
    scripts: tuple[tuple[str, bytes], ...] = ()
    """Name and first bytes."""


@dataclass(eq=False)
class Product:
    """All that was found in what is examined."""

    apps: list[App]
    """Apps that have to do with Network Extension."""
    lone: list[Extension]
    """Network Extensions that lie in no app."""
    bundles: list[CodeBundle]
    """Every bundle, whatever it is."""
    now: datetime
    anchors: Sequence[Certificate] = ()
    packages: Sequence[InstallerPackage] = ()
    entitlement_files: Sequence[EntitlementsFile] = ()
    source_extensions: Sequence[Extension] = ()
    """Info.plists of the sources, each as an extension without code."""
    archive: dict[str, Any] = field(default_factory=dict)
    """ApplicationProperties of an Xcode archive."""
    previous: Product | None = None
    devices: Sequence[str] = ()
    """Identifiers of devices that the build is meant for (--udid)."""
    left_out: Sequence[str] = ()
    """What could not be read and belongs to no bundle, in words."""
    integrity: list[IntegrityFault] | None = field(default=None, repr=False)
    """What `integrity` has found; None before it has looked."""

    @property
    def extensions(self) -> list[Extension]:
        """All Network Extensions."""
        return [*(found for app in self.apps for found in app.extensions), *self.lone]

    @property
    def members(self) -> list[Member]:
        """Apps and Network Extensions."""
        return [*(member for app in self.apps for member in app.members), *self.lone]


def make_product(
    bundles: list[CodeBundle],
    now: datetime,
    *,
    anchors: Sequence[Certificate] = (),
    channel: SigningChannel | None = None,
) -> Product:
    """The apps and extensions among `bundles` that have to do with Network Extension."""
    apps = {id(bundle): App(bundle, channel) for bundle in bundles if bundle.kind is BundleKind.APP}
    lone: list[Extension] = []
    for bundle in bundles:
        if bundle.kind not in (BundleKind.APP_EXTENSION, BundleKind.SYSTEM_EXTENSION):
            continue
        extension = Extension(bundle, channel)
        if not _is_network_extension(extension):
            continue
        extension.container = apps.get(id(bundle.app)) if bundle.app else None
        if extension.container is None:
            lone.append(extension)
        else:
            extension.container.extensions.append(extension)
    concerned = [app for app in apps.values() if app.extensions or ENTITLEMENT in app.entitlements or app.misspelt]
    return Product(concerned, lone, bundles, now, anchors)


def _is_network_extension(extension: Extension) -> bool:
    """By any of its signs: one that is wrong is what rules are for. Other system extensions have none of them."""
    if extension.network_extension or any("networkextension" in point.lower() for point in extension.points):
        return True
    if ENTITLEMENT in extension.entitlements or extension.misspelt:
        return True
    return bool(extension.imported_kinds)
