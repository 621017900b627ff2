"""What an installer package says of itself: PackageInfo of each component, and Distribution of a product archive.

Apple documents the second (Distribution Definition XML Schema Reference), and of the first no more than what pkgbuild's
manual says of component property lists.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UnreadableFile
from .bounded_xml import read_elements
from .limits import quoted

__all__ = ["Distribution", "PackageInfo", "read_distribution", "read_package_info"]

_MAX_NAMES = 10_000
_ROOT, _PRODUCT_ROOTS = "pkg-info", ("installer-gui-script", "installer-script")


@dataclass(frozen=True)
class PackageInfo:
    """One component."""

    identifier: str
    version: str
    install_location: str
    """Where the payload goes; "/" where nothing is said."""
    relocatable: tuple[str, ...]
    """Bundles, by id or path, that the installer puts where it finds another copy."""
    bundle_paths: tuple[str, ...]
    """Below the install location, as they are written: `./Example.app`."""
    scripts: tuple[str, ...]
    """Files that run before and after."""


@dataclass(frozen=True)
class Distribution:
    """Of a product archive, what moves its components elsewhere."""

    title: str
    packages: tuple[str, ...]
    """Components that it refers to, as files: `Example.pkg`."""
    custom_locations: tuple[str, ...]
    """Places that it installs to instead of the components' own."""
    home_folder_allowed: bool
    """Whether a user may choose to install for himself, which puts apps into ~/Applications."""


class _InfoBuilder:
    def __init__(self, what: str) -> None:
        self.what = what
        self.head: dict[str, str] | None = None
        self.relocatable: list[str] = []
        self.scripts: list[str] = []
        self.bundles: list[str] = []
        self._open: list[str] = []
        """Paths of the bundles that the current element is in."""

    def start(self, path: tuple[str, ...], attributes: dict[str, str]) -> None:
        if path == (_ROOT,):
            self.head = attributes
        elif path[0] != _ROOT:
            raise UnreadableFile(self.what, f"begins with the element {quoted(path[0])}")
        elif path[1] == "relocate" and path[-1] == "bundle":
            self._add(self.relocatable, attributes.get("id") or attributes.get("path", ""))
        elif path[1] == "scripts" and len(path) == 3:
            self._add(self.scripts, attributes.get("file", "").removeprefix("./"))
        elif path[-1] == "bundle" and len(path) == 2 + len(self._open):
            self._bundle(attributes)

    def _bundle(self, attributes: dict[str, str]) -> None:
        place = attributes.get("path", "")
        if self._open and self._open[-1] and place:
            place = f"{self._open[-1].rstrip('/')}/{place.removeprefix('./')}"
        if len(place) > 4096:
            raise UnreadableFile(self.what, f"a path of {len(place)} letters")
        self._open.append(place)
        self._add(self.bundles, place)
        if attributes.get("relocatable") == "true":
            self._add(self.relocatable, attributes.get("id") or place)

    def end(self, path: tuple[str, ...], _: str) -> None:
        if path[-1] == "bundle" and len(path) == 1 + len(self._open) and path[1] == "bundle":
            self._open.pop()

    def _add(self, names: list[str], name: str) -> None:
        if len(names) == _MAX_NAMES:
            raise UnreadableFile(self.what, f"more than {_MAX_NAMES} bundles or scripts")
        if name and name not in names[-100:]:
            names.append(name)


def read_package_info(data: bytes, what: str = "PackageInfo") -> PackageInfo:
    """The component's own description. Raises UnreadableFile."""
    builder = _InfoBuilder(what)
    read_elements(data, what, builder.start, builder.end)
    head = builder.head or {}
    identifier = head.get("identifier", "")
    if head.get("relocatable") == "true" and not builder.relocatable:
        # Of the package as a whole: wherever the user says, and all that is in it.
        builder.relocatable = builder.bundles or [identifier]
    return PackageInfo(
        identifier=identifier,
        version=head.get("version", ""),
        install_location=head.get("install-location", "") or "/",
        relocatable=tuple(builder.relocatable),
        bundle_paths=tuple(builder.bundles),
        scripts=tuple(builder.scripts),
    )


def read_distribution(data: bytes, what: str = "Distribution") -> Distribution:
    """What matters of a product archive's Distribution. Raises UnreadableFile."""
    titles: list[str] = []
    packages: list[str] = []
    locations: list[str] = []
    home: list[bool] = []

    def start(path: tuple[str, ...], attributes: dict[str, str]) -> None:
        if path[0] not in _PRODUCT_ROOTS:
            raise UnreadableFile(what, f"begins with the element {quoted(path[0])}")
        if path[-1] == "choice" and attributes.get("customLocation"):
            locations.append(attributes["customLocation"])
        elif path[1:] == ("domains",):
            home.append(attributes.get("enable_currentUserHome") == "true")

    def end(path: tuple[str, ...], text: str) -> None:
        if path[1:] == ("title",):
            titles.append(text.strip())
        elif path[-1] == "pkg-ref" and (name := text.strip().removeprefix("#")):
            packages.append(name)

    read_elements(data, what, start, end)
    return Distribution(titles[0] if titles else "", tuple(packages), tuple(locations), any(home))
