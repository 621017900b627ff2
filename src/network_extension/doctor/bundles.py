"""Bundles below a folder: apps, extensions, frameworks, and what each of them is made of.

A bundle is known by its suffix. Where Info.plist, code, seal and profile are depends on its shape: deep on the Mac
(`Contents`), shallow elsewhere, and with versions in a Mac's frameworks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from .bundle_files import BundleFiles, EntryKind
from .certificates import Certificate
from .code_resources import CodeResources, SealFault, read_code_resources
from .errors import UnreadableFile
from .notarization_ticket import NotarizationTicket, read_notarization_ticket
from .profile_verification import ProfileFacts, verify_provisioning_profile
from .property_list import read_property_list
from .provisioning_profile import ProvisioningProfile, read_provisioning_profile
from .signed_code import SignedCode, read_signed_code

__all__ = ["BundleKind", "CodeBundle", "find_bundles"]


class BundleKind(StrEnum):
    """What a bundle is."""

    APP = "app"
    APP_EXTENSION = "app extension"
    SYSTEM_EXTENSION = "system extension"
    FRAMEWORK = "framework"
    XPC_SERVICE = "XPC service"
    PLUGIN = "plug-in"


_SUFFIXES = {
    ".app": BundleKind.APP,
    ".appex": BundleKind.APP_EXTENSION,
    ".systemextension": BundleKind.SYSTEM_EXTENSION,
    ".framework": BundleKind.FRAMEWORK,
    ".xpc": BundleKind.XPC_SERVICE,
    ".bundle": BundleKind.PLUGIN,
}
MAC_PROFILE, MOBILE_PROFILE = "embedded.provisionprofile", "embedded.mobileprovision"
NO_FILE, NO_MACHO = "there is no such file", "no Mach-O file"
"""Why there is no code, where that is not a reader's error."""
_SEAL = "_CodeSignature/CodeResources"
_TICKET = "CodeResources"
MAX_SEAL = 128 << 20


@dataclass(eq=False)
class CodeBundle:
    """One bundle. Facts are made when they are asked for; what cannot be read is None, and its `…_problem` says why."""

    files: BundleFiles = field(repr=False)
    path: str
    """Below the root of `files`; "" when it is the root itself."""
    kind: BundleKind
    contents: str = field(repr=False)
    """The folder whose files the seal names."""
    information_path: str = field(repr=False)
    parent: CodeBundle | None = field(default=None, repr=False)
    """The bundle that it lies in."""
    anchors: Sequence[Certificate] = field(default=(), repr=False)
    children: list[CodeBundle] = field(default_factory=list, repr=False)
    """Bundles that lie in this one, not those in them."""

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.rsplit("/", 1)[-1] if self.path else self.files.root.name

    @property
    def is_deep(self) -> bool:
        """Whether it has the Mac's shape."""
        return self.contents != self.path

    @property
    def app(self) -> CodeBundle | None:
        """The app that it lies in, the nearest one."""
        bundle = self.parent
        while bundle is not None and bundle.kind is not BundleKind.APP:
            bundle = bundle.parent
        return bundle

    def inner(self, name: str) -> str:
        """The path in `files` of a file in the contents."""
        return f"{self.contents}/{name}" if self.contents else name

    def descendants(self) -> list[CodeBundle]:
        """All bundles in this one, at any depth."""
        found: list[CodeBundle] = []
        for child in self.children:
            found += [child, *child.descendants()]
        return found

    @cached_property
    def information_bytes(self) -> bytes | None:
        """Info.plist as it is."""
        try:
            return self.files.read(self.information_path)
        except UnreadableFile:
            return None

    @cached_property
    def _information(self) -> tuple[dict[str, Any], str]:
        if self.information_bytes is None:
            return {}, "no Info.plist"
        try:
            return read_property_list(self.information_bytes), ""
        except UnreadableFile as error:
            return {}, str(error)

    @property
    def information(self) -> dict[str, Any]:
        """Info.plist; empty where it cannot be read."""
        return self._information[0]

    @property
    def information_problem(self) -> str:
        """Why there is none."""
        return self._information[1]

    def text(self, key: str) -> str:
        """A text of Info.plist; empty where there is none."""
        value = self.information.get(key)
        return value if isinstance(value, str) else ""

    @property
    def identifier(self) -> str:
        """CFBundleIdentifier."""
        return self.text("CFBundleIdentifier")

    @property
    def version(self) -> str:
        """ "2.0 (1)"; empty where neither number is set."""
        short, build = self.text("CFBundleShortVersionString"), self.text("CFBundleVersion")
        return f"{short} ({build})" if short and build else short or build

    @property
    def executable_path(self) -> str:
        """Of the main executable, whether or not it is there."""
        name = self.text("CFBundleExecutable") or self.name.rsplit(".", 1)[0]
        if self.kind is BundleKind.FRAMEWORK or not self.is_deep:
            return self.inner(name)
        return self.inner(f"MacOS/{name}")

    @cached_property
    def _code(self) -> tuple[SignedCode | None, str]:
        if "\0" in self.executable_path or not self.files.is_file(self.executable_path):
            return None, NO_FILE
        try:
            code = read_signed_code(self.files, self.executable_path, self.anchors)
            return code, "" if code is not None else NO_MACHO
        except UnreadableFile as error:
            return None, str(error)

    @property
    def code(self) -> SignedCode | None:
        """The main executable."""
        return self._code[0]

    @property
    def code_problem(self) -> str:
        """Why there is none."""
        return self._code[1]

    @cached_property
    def seal_bytes(self) -> bytes | None:
        """CodeResources as it is."""
        try:
            return self.files.read(self.inner(_SEAL), MAX_SEAL)
        except UnreadableFile:
            return None

    @cached_property
    def _seal(self) -> tuple[CodeResources | None, tuple[SealFault, ...], str]:
        if self.seal_bytes is None:
            return None, (), "no CodeResources"
        try:
            seal = read_code_resources(self.seal_bytes)
            return seal, tuple(seal.faults(self.files, self.contents, self.executable_path)), ""
        except UnreadableFile as error:
            return None, (), str(error)

    @property
    def seal(self) -> CodeResources | None:
        """The seal."""
        return self._seal[0]

    @property
    def seal_faults(self) -> tuple[SealFault, ...]:
        """Files that are not as they were sealed."""
        return self._seal[1]

    @property
    def seal_problem(self) -> str:
        """Why there is no seal."""
        return self._seal[2]

    @property
    def profile_path(self) -> str:
        """Of the profile, under either name; empty where there is none."""
        names = (MAC_PROFILE, MOBILE_PROFILE) if self.is_deep else (MOBILE_PROFILE, MAC_PROFILE)
        return next((path for name in names if self.files.is_file(path := self.inner(name))), "")

    @cached_property
    def _profile(self) -> tuple[ProvisioningProfile | None, ProfileFacts | None, str]:
        if not self.profile_path:
            return None, None, ""
        try:
            profile = read_provisioning_profile(self.files.read(self.profile_path))
            return profile, verify_provisioning_profile(profile, anchors=self.anchors), ""
        except UnreadableFile as error:
            return None, None, str(error)

    @property
    def profile(self) -> ProvisioningProfile | None:
        """The embedded profile."""
        return self._profile[0]

    @property
    def profile_facts(self) -> ProfileFacts | None:
        """What holds of its signatures."""
        return self._profile[1]

    @property
    def profile_problem(self) -> str:
        """Why the profile that is there cannot be read."""
        return self._profile[2]

    @cached_property
    def _ticket(self) -> tuple[NotarizationTicket | None, str]:
        path = self.inner(_TICKET)
        if not self.is_deep or self.files.kind(path) is not EntryKind.FILE:
            return None, ""
        try:
            return read_notarization_ticket(self.files.read(path)), ""
        except UnreadableFile as error:
            return None, str(error)

    @property
    def ticket(self) -> NotarizationTicket | None:
        """What `stapler` has put there."""
        return self._ticket[0]

    @property
    def ticket_problem(self) -> str:
        """Why the ticket that is there cannot be read."""
        return self._ticket[1]


def find_bundles(files: BundleFiles, anchors: Sequence[Certificate] = ()) -> list[CodeBundle]:
    """All bundles below the root, the root itself among them when it is one: parents before what lies in them."""
    found: list[CodeBundle] = []
    parents: dict[str, CodeBundle | None] = {}
    for path in ["", *files.below("")]:
        if not files.is_folder(path):
            continue
        parent = parents.get(path.rpartition("/")[0]) if path else None
        bundle = _bundle(files, path, parent, anchors)
        parents[path] = bundle or parent
        if bundle is not None:
            found.append(bundle)
            if parent is not None:
                parent.children.append(bundle)
    return found


def _bundle(
    files: BundleFiles, path: str, parent: CodeBundle | None, anchors: Sequence[Certificate]
) -> CodeBundle | None:
    name = path.rsplit("/", 1)[-1] if path else files.root.name
    kind = next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix) and name != suffix), None)
    if kind is None:
        return None
    base = f"{path}/" if path else ""
    if kind is BundleKind.FRAMEWORK:
        contents = _version_of(files, path)
        deep = f"{contents}/Resources/Info.plist" if contents else "Resources/Info.plist"
        information = deep if files.is_file(deep) else f"{contents}/Info.plist" if contents else "Info.plist"
    elif files.is_folder(f"{base}Contents"):
        contents, information = f"{base}Contents", f"{base}Contents/Info.plist"
    else:
        contents, information = path, f"{base}Info.plist"
    if not files.is_file(information) and kind in (BundleKind.PLUGIN, BundleKind.FRAMEWORK):
        return None  # folders of resources are called so as well
    return CodeBundle(files, path, kind, contents, information, parent, anchors)


def _version_of(files: BundleFiles, path: str) -> str:
    """The folder of a framework's current version; the framework itself where it has none."""
    base = f"{path}/" if path else ""
    versions = f"{base}Versions"
    current = files.entries.get(f"{versions}/Current")
    if current is not None and current.kind is EntryKind.LINK and files.is_folder(f"{versions}/{current.target}"):
        return f"{versions}/{current.target}"
    # An archive may have lost the link.
    folders = [found for found in files.children(versions) if files.is_folder(found)]
    return folders[0] if len(folders) == 1 else path
