"""Whole builds for tests: a real app signed anew by a fake Apple, right in every way until a test makes it wrong.

The code is mitmproxy's, from its wheel. What a build for another platform or packaging needs is patched into it: names
that it takes from the framework, the platform in its load commands. Then profiles are made, everything is sealed and
signed from the inside out, and under Developer ID a ticket is stapled. A test changes what it is about before that
(`Build` has all of it as plain data), or damages the files afterwards.
"""

from __future__ import annotations

import plistlib
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from network_extension.doctor.bundle_files import BundleFiles
from network_extension.doctor.certificates import Certificate, read_certificate
from network_extension.doctor.channels import SigningChannel
from network_extension.doctor.examination import examine
from network_extension.doctor.product import InstallerPackage, Product
from network_extension.doctor.report import Report
from tests.doctor_authorities import TEAM, WWDR_MARKER, Authority, Identity, sign
from tests.doctor_bundles import (
    SEAL,
    TICKET,
    contents_of,
    executable_of,
    make_profile,
    profile_contents,
    resign_bundle,
)
from tests.doctor_code_directory import cdhashes, developer_id_requirement, without_signature
from tests.doctor_signing import Signing
from tests.unit.doctor.corpus import EXTENSION, app

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NE = "com.apple.developer.networking.networkextension"
INSTALL = "com.apple.developer.system-extension.install"
SANDBOX, CLIENT = "com.apple.security.app-sandbox", "com.apple.security.network.client"
GROUPS = "com.apple.security.application-groups"
POINT = "com.apple.networkextension."
APP_ID = "org.mitmproxy.macos-redirector"
PROVIDER = "_OBJC_CLASS_$_NETransparentProxyProvider"
MANAGER = "_OBJC_CLASS_$_NETransparentProxyManager"
_SPARE = "_OBJC_CLASS_$_NEAppProxyUDPFlow"
"""A name that the real extension takes, whose place another may have."""
_ALLOWED_BY_DEVELOPER_ID = [
    "packet-tunnel-provider-systemextension",
    "app-proxy-provider-systemextension",
    "content-filter-provider-systemextension",
    "dns-proxy-systemextension",
    "dns-settings",
    "relay",
]
_ALLOWED = [
    "packet-tunnel-provider",
    "app-proxy-provider",
    "content-filter-provider",
    "dns-proxy",
    "dns-settings",
    "relay",
    "url-filter-provider",
    "hotspot-provider",
    "app-push-provider",
]


@cache
def developer_id_authority() -> Authority:
    return Authority.make()


@cache
def store_authority() -> Authority:
    return Authority.make(WWDR_MARKER, name="Fake Apple Root CA - WWDR")


@cache
def ticket_authority() -> Authority:
    return Authority.make(key_kind="p256", name="Fake Apple Root CA - Tickets")


@cache
def anchors() -> tuple[Certificate, ...]:
    """The roots that the doctor is told to trust."""
    made = (developer_id_authority(), store_authority(), ticket_authority())
    return tuple(read_certificate(authority.root.der) for authority in made)


@cache
def identity(leaf: str, team: str = TEAM) -> Identity:
    """A leaf of the authority that issues its kind."""
    authority = developer_id_authority() if leaf.startswith("Developer ID") else store_authority()
    return authority.issue(leaf, team)


@cache
def profile_signer() -> Identity:
    return store_authority().issue("Mac OS X Provisioning Profile Signing", None)


@cache
def time_stamper() -> Identity:
    return developer_id_authority().timestamp_signer()


LEAVES = {
    "developer id": "Developer ID Application",
    "development": "Apple Development",
    "app store": "Apple Distribution",
    "enterprise": "Apple Distribution",
    "ad hoc": "Apple Distribution",
}
"""Kind of profile → whose certificate signs with it."""


@dataclass
class Part:
    """The app, or its extension, before it is signed."""

    folder: Path
    information: dict[str, Any]
    entitlements: dict[str, Any]
    identity: Identity
    profile: dict[str, Any] | None
    """The property list of its profile; None: it has none."""
    signing: dict[str, Any] = field(default_factory=dict)
    """More for `Signing`."""
    patches: list[tuple[bytes, bytes]] = field(default_factory=list)
    profile_name: str = "embedded.provisionprofile"
    profile_bytes: Callable[[bytes], bytes] = bytes
    """Makes something else of the finished profile."""

    @property
    def contents(self) -> Path:
        return contents_of(self.folder)

    def rename_import(self, old: str, new: str) -> None:
        """The code takes `new` from the framework where it took `old`."""
        assert len(new) <= len(old), (new, old)
        self.patches.append((old.encode() + b"\0", new.encode().ljust(len(old), b"\0") + b"\0"))

    def build_for(self, platform: int) -> None:
        """Another platform, by LC_BUILD_VERSION (<mach-o/loader.h>)."""
        self.patches.append((_build_version(1), _build_version(platform)))

    def run_from(self, major: int, minor: int = 0) -> None:
        """The least system version, in the code and in Info.plist."""
        for data in (executable_of(self.folder).read_bytes(),):
            for old in set(_minimum_versions(data)):
                self.patches.append(
                    (_build_version(1) + struct.pack("<I", old), _build_version(1) + _packed(major, minor))
                )
        self.information["LSMinimumSystemVersion"] = f"{major}.{minor}"

    def write(self) -> None:
        """Info.plist, the profile and the patched code, into the bundle."""
        (self.contents / "Info.plist").write_bytes(plistlib.dumps(self.information))
        for name in ("embedded.provisionprofile", "embedded.mobileprovision"):
            (self.contents / name).unlink(missing_ok=True)
        if self.profile is not None:
            made = make_profile(self.profile, profile_signer(), profile_signer())
            (self.contents / self.profile_name).write_bytes(self.profile_bytes(made))
        code = executable_of(self.folder)
        data = code.read_bytes()
        for old, new in self.patches:
            assert old in data, old
            data = data.replace(old, new)
        code.write_bytes(data)

    def sign(self, *, unsigned: bool = False) -> None:
        code = executable_of(self.folder)
        if unsigned:
            code.write_bytes(without_signature(code.read_bytes()))
            return
        identifier = self.information.get("CFBundleIdentifier", "none")
        standard: dict[str, Any] = {
            "identity": self.identity,
            "identifier": identifier,
            "entitlements": self.entitlements,
            "timestamp": time_stamper(),
            "requirements": developer_id_requirement(identifier, self.identity.team or ""),
        }
        if self.identity is None or "Developer ID" not in str(self.identity.certificate.subject):
            standard["requirements"] = None
        resign_bundle(self.folder, Signing(**{**standard, **self.signing}))


def _build_version(platform: int) -> bytes:
    """The head of LC_BUILD_VERSION with one tool, as Xcode links."""
    return struct.pack("<3I", 0x32, 32, platform)


def _packed(major: int, minor: int) -> bytes:
    return struct.pack("<I", major << 16 | minor << 8)


def _minimum_versions(data: bytes) -> list[int]:
    found, at = [], 0
    while (at := data.find(_build_version(1), at)) >= 0:
        at += 12
        found.append(struct.unpack_from("<I", data, at)[0])
    return found


@dataclass
class Build:
    """An app with one extension."""

    root: Path
    app: Part
    extension: Part
    has_ticket: bool = True
    channel: SigningChannel | None = None
    packages: tuple[InstallerPackage, ...] = ()
    devices: tuple[str, ...] = ()
    previous: Product | None = None
    now: datetime = NOW
    before_app: list[Callable[[], object]] = field(default_factory=list)
    """Done when the extension is signed, before the app is."""
    after: list[Callable[[], object]] = field(default_factory=list)
    """Done to the finished build."""
    signed: bool = True
    more: list[Part] = field(default_factory=list)
    """Further extensions."""

    @property
    def parts(self) -> tuple[Part, ...]:
        return (self.app, self.extension, *self.more)

    def both(self, change: Callable[[Part], None]) -> None:
        """The same change to app and extension."""
        change(self.app)
        change(self.extension)

    def claim(self, value: str, *, old: str = "app-proxy-provider") -> None:
        """Another value of the Network Extension entitlement, in app and extension, with the suffix as it is."""
        for part in self.parts:
            part.entitlements[NE] = [found.replace(old, value) for found in part.entitlements[NE]]

    def finish(self) -> None:
        """Write, seal and sign, from the inside out."""
        (self.app.contents / TICKET).unlink(missing_ok=True)
        for part in self.parts:
            part.write()
        for part in (self.extension, *self.more):
            part.sign(unsigned=not self.signed)
        for step in self.before_app:
            step()
        self.app.sign(unsigned=not self.signed)
        if self.has_ticket:
            self.staple()
        for step in self.after:
            step()

    def staple(self) -> None:
        """A ticket for all code that is there now."""
        there = [part for part in self.parts if part.folder.is_dir()]
        hashes = [value for part in there for value in cdhashes(executable_of(part.folder).read_bytes())]
        (self.app.contents / TICKET).write_bytes(make_ticket(hashes))

    def examine(self) -> Report:
        """What the doctor says of the finished build."""
        return examine(
            "the build",
            BundleFiles(self.root),
            self.now,
            anchors=anchors(),
            channel=self.channel,
            packages=self.packages,
            devices=self.devices,
            previous=self.previous,
        )


def make_ticket(hashes: list[bytes], authority: Authority | None = None) -> bytes:
    """A ticket of Apple's form; see `notarization_ticket`."""
    made = authority or ticket_authority()
    signer = made.issue("Software Ticket Signing", None)
    chain = b"".join(signer.chain[:2])
    certificates = b"\x30\x82" + struct.pack(">H", len(chain)) + chain
    body = struct.pack("<4s2H2Iq", b"g8tk", 2, 20, len(hashes), 0, 1_780_000_000)
    body += b"".join(b"\x02" + value for value in hashes)
    signed = struct.pack("<4s3I", b"s8ch", 1, len(certificates), len(body)) + certificates + body
    return signed + sign(signer.key, "sha256", signed)


def application_identifier(part_id: str, on_mac: bool = True) -> dict[str, Any]:
    """What every profile and every signature has."""
    key = "com.apple.application-identifier" if on_mac else "application-identifier"
    return {key: f"{TEAM}.{part_id}", "com.apple.developer.team-identifier": TEAM}


def mac_build(root: Path, kind: str = "developer id", *, version: str = "0.12.15") -> Build:
    """A Mac app with a system extension for a transparent proxy, for one kind of profile."""
    folder = Path(shutil.copytree(app(version), root / "Example.app"))
    outer, inner = _mac_part(folder, kind), _mac_part(folder / EXTENSION, kind)
    outer.entitlements[INSTALL] = True
    return Build(root, outer, inner, has_ticket=kind == "developer id")


def _mac_part(folder: Path, kind: str) -> Part:
    information = plistlib.loads((folder / "Contents" / "Info.plist").read_bytes())
    suffix = "-systemextension" if kind == "developer id" else ""
    identifier = information["CFBundleIdentifier"]
    entitlements = {**application_identifier(identifier), NE: [f"app-proxy-provider{suffix}"]}
    if kind == "app store":
        entitlements |= {SANDBOX: True, CLIENT: True}
    allowed = _ALLOWED_BY_DEVELOPER_ID if kind == "developer id" else _ALLOWED
    who = identity(LEAVES[kind])
    profile = profile_contents(f"{TEAM}.{identifier}", [who], {NE: allowed, INSTALL: True}, kind=kind)
    return Part(folder, information, entitlements, who, profile)


def app_extension(build: Build, point: str = "app-proxy", *, folder: str = "PlugIns") -> Build:
    """The Mac build with its provider packed as an app extension."""
    part = build.extension
    target = build.app.contents / folder / "Provider.appex"
    target.parent.mkdir(parents=True, exist_ok=True)
    part.folder.rename(target)
    shutil.rmtree(build.app.contents / "Library")
    part.folder = target
    information = part.information
    classes = information.pop("NetworkExtension")["NEProviderClasses"]
    information.pop("NSSystemExtensionUsageDescription")
    information["CFBundlePackageType"] = "XPC!"
    information["NSExtension"] = {
        "NSExtensionPointIdentifier": f"{POINT}{point}",
        "NSExtensionPrincipalClass": next(iter(classes.values())),
    }
    part.entitlements |= {SANDBOX: True, CLIENT: True}
    del build.app.entitlements[INSTALL]
    part.rename_import(_SPARE, "_NSExtensionMain")
    return build


def mobile_build(root: Path, kind: str = "app store", *, point: str = "packet-tunnel", platform: int = 2) -> Build:
    """An app for iOS (or another platform) with an app extension: shallow bundles of the same code."""
    build = app_extension(mac_build(root, "development"), point)
    for part in (build.extension, build.app):
        shallow = part.folder.with_name(f"shallow-{part.folder.name}")
        shallow.mkdir()
        executable_of(part.folder).rename(shallow / part.information["CFBundleExecutable"])
        for path in list(part.contents.iterdir()):
            if path.name not in (TICKET, "Library", "MacOS"):
                path.rename(shallow / path.name)
        shutil.rmtree(part.folder)
        shallow.rename(part.folder)
        _make_mobile(part, kind, platform)
    build.extension.folder = build.app.folder / "PlugIns" / "Provider.appex"
    return build


_MOBILE_RULES: dict[str, Any] = {
    "^.*": True,
    r"^Info\.plist$": {"omit": True, "weight": 20.0},
    r"^PkgInfo$": {"omit": True, "weight": 20.0},
    r"^(.*/)?\.DS_Store$": {"omit": True, "weight": 2000.0},
    r"^.*\.lproj/": {"optional": True, "weight": 1000.0},
    r"^embedded\.provisionprofile$": {"weight": 20.0},
}
"""Bundles that are not for the Mac seal nested code file by file."""
_NAMES = {2: ("iPhoneOS", "iOS"), 3: ("AppleTVOS", "tvOS"), 11: ("XROS", "xrOS")}


def _make_mobile(part: Part, kind: str, platform: int) -> None:
    seal: dict[str, Any] = {"files": {}, "files2": {}, "rules": {}, "rules2": _MOBILE_RULES}
    (part.folder / SEAL).write_bytes(plistlib.dumps(seal))
    information = part.information
    information.pop("LSMinimumSystemVersion")
    information["MinimumOSVersion"] = "17.0"
    information["CFBundleSupportedPlatforms"] = [_NAMES[platform][0]]
    data = executable_of_shallow(part).read_bytes()
    for old in set(_minimum_versions(data)):
        new = _build_version(platform) + _packed(17, 0)
        part.patches.append((_build_version(1) + struct.pack("<I", old), new))
    identifier = information["CFBundleIdentifier"]
    part.entitlements = {**application_identifier(identifier, on_mac=False), NE: ["app-proxy-provider"]}
    part.identity = identity(LEAVES[kind])
    part.profile = profile_contents(
        f"{TEAM}.{identifier}", [part.identity], {NE: _ALLOWED}, kind=kind, platform=_NAMES[platform][1]
    )
    part.profile_name = "embedded.mobileprovision"


def executable_of_shallow(part: Part) -> Path:
    return part.folder / str(part.information["CFBundleExecutable"])


def provider(build: Build, class_name: str, value: str, manager: str, point: str | None = None) -> None:
    """Another kind of provider: what its code derives from, what it claims, and where it is declared."""
    build.extension.rename_import(PROVIDER, f"_OBJC_CLASS_$_{class_name}")
    build.app.rename_import(MANAGER, f"_OBJC_CLASS_$_{manager}")
    build.claim(value)
    if point is None:
        return
    information = build.extension.information
    if "NSExtension" in information:
        information["NSExtension"]["NSExtensionPointIdentifier"] = f"{POINT}{point}"
    else:
        classes: Mapping[str, Any] = information["NetworkExtension"]["NEProviderClasses"]
        information["NetworkExtension"]["NEProviderClasses"] = {f"{POINT}{point}": next(iter(classes.values()))}


def changed(part: Part, **signing: Any) -> None:
    """More for the part's `Signing`."""
    part.signing = {**part.signing, **signing}


def with_certificate(part: Part, who: Identity) -> None:
    """Signed by another identity, which the profile lists."""
    part.identity = who
    if part.profile is not None:
        part.profile = {**part.profile, "DeveloperCertificates": [who.der]}


__all__ = [
    "APP_ID",
    "CLIENT",
    "GROUPS",
    "INSTALL",
    "MANAGER",
    "NE",
    "NOW",
    "POINT",
    "PROVIDER",
    "SANDBOX",
    "Build",
    "Part",
    "anchors",
    "app_extension",
    "changed",
    "identity",
    "mac_build",
    "make_ticket",
    "mobile_build",
    "provider",
    "replace",
    "with_certificate",
]
