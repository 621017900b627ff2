"""One build for each rule, wrong in one way: the fault is planted before all is sealed and signed again."""

from __future__ import annotations

import plistlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from network_extension.doctor.bundle_files import BundleFiles
from network_extension.doctor.channels import SigningChannel
from network_extension.doctor.examination import read_product
from network_extension.doctor.product import InstallerPackage
from tests.doctor_authorities import TEAM, Authority
from tests.doctor_builds import (
    CLIENT,
    GROUPS,
    INSTALL,
    LEAVES,
    MANAGER,
    NE,
    NOW,
    POINT,
    PROVIDER,
    SANDBOX,
    Build,
    Part,
    app_extension,
    application_identifier,
    changed,
    identity,
    mac_build,
    mobile_build,
    profile_signer,
    provider,
    with_certificate,
)
from tests.doctor_bundles import SEAL, executable_of, make_profile
from tests.doctor_code_directory import LINKER_SIGNED, RUNTIME, requirement_set
from tests.doctor_signing import Signing, resign

ACTIVATION = "_OBJC_CLASS_$_OSSystemExtensionRequest"
SUFFIX = "-systemextension"
DAY = timedelta(days=1)


def _mobile(root: Path, kind: str = "app store", platform: int = 2) -> Build:
    build = mobile_build(root, kind, platform=platform)
    provider(build, "NEPacketTunnelProvider", "packet-tunnel-provider", "NETunnelProviderManager")
    return build


BASES: dict[str, Callable[[Path], Build]] = {
    "developer id": mac_build,
    "development": lambda root: mac_build(root, "development"),
    "app store": lambda root: mac_build(root, "app store"),
    "app extension": lambda root: app_extension(mac_build(root, "app store")),
    "mobile": _mobile,
    "mobile development": lambda root: _mobile(root, "development"),
    "mobile enterprise": lambda root: _mobile(root, "enterprise"),
}
"""Builds that are right in every way."""


@dataclass(frozen=True)
class Mutant:
    """A fault, and what is found of it."""

    rule: str
    base: str
    plant: Callable[[Build], None]
    companions: frozenset[str] = frozenset()
    """Rules that the same fault breaks as well, and cannot but break."""
    name: str = ""

    def __str__(self) -> str:
        return f"{self.rule} {self.name}".strip()


MUTANTS: list[Mutant] = []


def mutant(
    rule: str, base: str = "developer id", *companions: str, name: str = ""
) -> Callable[[Callable[[Build], Any]], Callable[[Build], Any]]:
    """Lists a function that plants the fault of `rule` in a build."""

    def register(plant: Callable[[Build], Any]) -> Callable[[Build], Any]:
        MUTANTS.append(Mutant(rule, base, plant, frozenset(companions), name))
        return plant

    return register


def _claim_more(part: Part, key: str, value: Any, *, in_profile: bool = True) -> None:
    part.entitlements[key] = value
    if in_profile and part.profile is not None:
        part.profile["Entitlements"] = {**part.profile["Entitlements"], key: value}


def _classes(build: Build) -> dict[str, Any]:
    found: dict[str, Any] = build.extension.information["NetworkExtension"]["NEProviderClasses"]
    return found


def _move_extension(build: Build, to: str) -> None:
    """Into another folder below the app's contents, or under another name."""
    target = build.app.contents / to
    target.parent.mkdir(parents=True, exist_ok=True)
    build.extension.folder.rename(target)
    build.extension.folder = target


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


# ---- PKG


@mutant("PKG001", "app extension")
def _(build: Build) -> None:
    for part in build.parts:
        with_certificate(part, identity(LEAVES["developer id"]))
        assert part.profile is not None
        part.profile |= {"ProvisionsAllDevices": True}
        allowed = ["app-proxy-provider", f"app-proxy-provider{SUFFIX}", f"dns-proxy{SUFFIX}"]
        part.profile["Entitlements"] = {**part.profile["Entitlements"], NE: allowed}
    build.app.entitlements[NE] = [f"app-proxy-provider{SUFFIX}"]


@mutant("PKG002", "app extension")
def _(build: Build) -> None:
    _claim_more(build.extension, NE, [f"app-proxy-provider{SUFFIX}"])


@mutant("PKG003")
def _(build: Build) -> None:
    _move_extension(build, f"Library/Extensions/{build.extension.folder.name}")


@mutant("PKG004")
def _(build: Build) -> None:
    _move_extension(build, "Library/SystemExtensions/Provider.systemextension")


@mutant("PKG005")
def _(build: Build) -> None:
    build.extension.information["CFBundlePackageType"] = "BNDL"


@mutant("PKG006", "app extension")
def _(build: Build) -> None:
    build.extension.information["CFBundlePackageType"] = "APPL"


@mutant("PKG007", "mobile")
def _(build: Build) -> None:
    target = build.app.folder / "PlugIns" / "Provider.systemextension"
    build.extension.folder.rename(target)
    build.extension.folder = target
    build.extension.information["CFBundlePackageType"] = "SYSX"


@mutant("PKG008", "app extension")
def _(build: Build) -> None:
    provider(build, "NEDNSProxyProvider", "dns-proxy", "NEDNSProxyManager", "dns-proxy")
    build.claim("dns-proxy")


@mutant("PKG009", "development")
def _(build: Build) -> None:
    provider(build, "NEURLFilterControl", "url-filter-provider", "NEURLFilterManager", "url-filter-control")


@mutant("PKG010", "app extension")
def _(build: Build) -> None:
    _move_extension(build, "Helpers/Provider.appex")


@mutant("PKG011", "app extension")
def _(build: Build) -> None:
    _move_extension(build, "Extensions/Provider.appex")


@mutant("PKG012")
def _(build: Build) -> None:
    build.extension.patches.append((b"startSystemExtensionMode", b"xtartSystemExtensionMode"))


@mutant("PKG012", name="NSExtensionMain")
def _(build: Build) -> None:
    build.extension.rename_import("_OBJC_CLASS_$_NEAppProxyUDPFlow", "_NSExtensionMain")


@mutant("PKG013", "app extension")
def _(build: Build) -> None:
    build.extension.patches = []


@mutant("PKG014")
def _(build: Build) -> None:
    build.app.rename_import(ACTIVATION, "_OBJC_CLASS_$_NSObject")


@mutant("PKG015")
def _(build: Build) -> None:
    helper = build.app.contents / "Resources" / "helper"
    shutil.copy(executable_of(build.app.folder), helper)
    build.app.rename_import(ACTIVATION, "_OBJC_CLASS_$_NSObject")


@mutant("PKG016", "app store", name="script")
def _(build: Build) -> None:
    code = executable_of(build.extension.folder)
    build.before_app.append(lambda: code.write_bytes(b"#!/bin/sh\nexec real\n"))


@mutant("PKG017")
def _(build: Build) -> None:
    code = executable_of(build.extension.folder)
    data = code.read_bytes()
    offset, size = (int.from_bytes(data[at : at + 4], "big") for at in (8 + 20 + 8, 8 + 20 + 12))
    code.write_bytes(data[offset : offset + size])


@mutant("PKG018", "app extension")
def _(build: Build) -> None:
    other = build.app.contents / "PlugIns" / "Second.appex"
    shutil.copytree(build.extension.folder, other)
    first = build.extension
    second = Part(
        other, dict(first.information), dict(first.entitlements), first.identity, first.profile, patches=first.patches
    )
    build.more.append(second)


def _package(**changes: Any) -> InstallerPackage:
    standard: dict[str, Any] = {
        "path": "Example.pkg",
        "install_location": "/Applications",
        "relocatable": (),
        "bundle_paths": ("./Example.app",),
    }
    return InstallerPackage(**{**standard, **changes})


@mutant("PKG019")
def _(build: Build) -> None:
    build.packages = (_package(relocatable=("org.mitmproxy.macos-redirector",)),)


@mutant("PKG020")
def _(build: Build) -> None:
    build.packages = (_package(install_location="/opt/example"),)


@mutant("PKG022")
def _(build: Build) -> None:
    before = build.root.parent / "before"
    before.mkdir()
    old = mac_build(before)
    old.extension.entitlements[CLIENT] = True
    old.finish()
    build.previous = read_product(BundleFiles(before), NOW)


@mutant("PKG023", "development")
def _(build: Build) -> None:
    (build.root / "Products").mkdir()
    found = {"ApplicationProperties": {"SigningIdentity": "Apple Development: Example (FAKETEAM01)"}}
    (build.root / "Info.plist").write_bytes(plistlib.dumps(found))


# ---- SIG


@mutant("SIG001")
def _(build: Build) -> None:
    build.signed = build.has_ticket = False


@mutant("SIG002", "developer id", "SIG016")
def _(build: Build) -> None:
    build.both(lambda part: changed(part, identity=None, requirements=None, timestamp=None))
    build.has_ticket = False
    build.channel = SigningChannel.DEVELOPER_ID


@mutant("SIG002", "developer id", name="linker-signed")
def _(build: Build) -> None:
    build.both(lambda part: changed(part, identity=None, requirements=None, timestamp=None, flags=0x2 | LINKER_SIGNED))
    build.has_ticket = False


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


@mutant("SIG003")
def _(build: Build) -> None:
    code = executable_of(build.extension.folder)
    build.after.append(lambda: _flip(code, 0x9000))


@mutant("SIG004")
def _(build: Build) -> None:
    path = build.extension.contents / "Info.plist"
    build.after.append(lambda: path.write_bytes(path.read_bytes().replace(b"Redirect traffic", b"Observe traffic")))


@mutant("SIG005", name="changed")
def _(build: Build) -> None:
    path = build.app.contents / "Resources" / "Assets.car"
    build.after.append(lambda: _flip(path, 100))


@mutant("SIG005", name="missing")
def _(build: Build) -> None:
    path = build.app.contents / "Resources" / "Assets.car"
    build.after.append(path.unlink)


@mutant("SIG005", name="added")
def _(build: Build) -> None:
    path = build.app.contents / "Resources" / "more.txt"
    build.after.append(lambda: path.write_bytes(b"more"))


@mutant("SIG005", name="the seal itself")
def _(build: Build) -> None:
    path = build.app.contents / SEAL
    build.after.append(lambda: path.write_bytes(path.read_bytes() + b"\n"))


@mutant("SIG006", name="extension")
def _(build: Build) -> None:
    def again() -> None:
        build.extension.entitlements[CLIENT] = True
        build.extension.sign()
        build.staple()

    build.after.append(again)


@mutant("SIG006", "app extension", name="nested code, other signer")
def _(build: Build) -> None:
    code = executable_of(build.extension.folder)

    def again() -> None:
        other = requirement_set(bytes.fromhex("00000001"))  # "always"
        data = code.read_bytes()
        plist = (build.extension.contents / "Info.plist").read_bytes()
        seal = (build.extension.contents / SEAL).read_bytes()
        signing = Signing(build.extension.identity, info_plist=plist, code_resources=seal, requirements=other)
        code.write_bytes(resign(data, signing))

    build.after.append(again)


@mutant("SIG007", name="differ")
def _(build: Build) -> None:
    changed(build.extension, entitlements_xml=plistlib.dumps({**build.extension.entitlements, CLIENT: True}))


@mutant("SIG007", name="no DER")
def _(build: Build) -> None:
    changed(build.extension, entitlements_der=None)


@mutant("SIG008", name="message digest")
def _(build: Build) -> None:
    changed(build.extension, message_digest=bytes(32))


@mutant("SIG008", name="cdhashes")
def _(build: Build) -> None:
    changed(build.extension, listed_cdhashes=[bytes(20)])


@mutant("SIG008", name="signature")
def _(build: Build) -> None:
    changed(build.extension, cms=lambda message: message[:-1] + bytes([message[-1] ^ 1]), timestamp=None)
    build.channel = SigningChannel.UNKNOWN


@mutant("SIG009", "developer id", "PROF002")
def _(build: Build) -> None:
    stranger = Authority.make(name="Somebody's Root").issue("Developer ID Application")
    for part in build.parts:
        with_certificate(part, stranger)
    _own_profiles(build)


def _own_profiles(build: Build) -> None:
    signer = Authority.make(name="Somebody's Root").issue("Mac OS X Provisioning Profile Signing", None)
    for part in build.parts:
        assert part.profile is not None
        made = make_profile(part.profile, signer)
        part.profile_bytes = lambda _, made=made: made  # type: ignore[misc]


@mutant("SIG010")
def _(build: Build) -> None:
    changed(build.extension, identifier="another.identifier", requirements=None)


@mutant("SIG011", "developer id", "PROF008", name="app and extension")
def _(build: Build) -> None:
    other = identity(LEAVES["developer id"], "OTHERTEAM9")
    with_certificate(build.extension, other)
    entitlements = build.extension.entitlements
    entitlements["com.apple.developer.team-identifier"] = "OTHERTEAM9"


@mutant("SIG011", "developer id", name="certificate")
def _(build: Build) -> None:
    with_certificate(build.extension, identity(LEAVES["developer id"], "OTHERTEAM9"))
    changed(build.extension, team=TEAM, requirements=None)


@mutant("SIG012", name="not met")
def _(build: Build) -> None:
    from tests.doctor_code_directory import developer_id_requirement

    changed(build.extension, requirements=developer_id_requirement("another.identifier", TEAM))


@mutant("SIG012", name="cdhash")
def _(build: Build) -> None:
    expression = bytes.fromhex("00000008") + (20).to_bytes(4, "big") + bytes(20)
    changed(build.extension, requirements=requirement_set(expression))


@mutant("SIG013")
def _(build: Build) -> None:
    changed(build.extension, flags=0)


@mutant("SIG014")
def _(build: Build) -> None:
    build.extension.entitlements["com.apple.security.get-task-allow"] = True


@mutant("SIG014", "mobile", name="mobile")
def _(build: Build) -> None:
    _claim_more(build.extension, "get-task-allow", True)


@mutant("SIG015")
def _(build: Build) -> None:
    changed(build.extension, timestamp=None)


@mutant("SIG016")
def _(build: Build) -> None:
    build.has_ticket = False


@mutant("SIG017", name="another build")
def _(build: Build) -> None:
    def again() -> None:
        build.extension.entitlements[CLIENT] = True
        build.extension.sign()
        build.app.sign()

    build.after.append(again)


@mutant("SIG017", name="false")
def _(build: Build) -> None:
    path = build.app.contents / "CodeResources"
    build.after.append(lambda: _flip(path, 40 + path.stat().st_size // 2))


@mutant("SIG018")
def _(build: Build) -> None:
    build.now = datetime(2041, 1, 1, tzinfo=UTC)


@mutant("SIG020")
def _(build: Build) -> None:
    def second_slice() -> None:
        code = executable_of(build.extension.folder)
        before = code.read_bytes()
        build.extension.entitlements[CLIENT] = True
        build.extension.sign()
        after = bytearray(code.read_bytes())
        offset, size = (int.from_bytes(before[at : at + 4], "big") for at in (8 + 8, 8 + 12))
        after[offset : offset + size] = before[offset : offset + size]
        code.write_bytes(after)

    build.before_app.append(second_slice)


@mutant("SIG021")
def _(build: Build) -> None:
    changed(
        build.extension,
        digests=("sha1",),
        info_plist=None,
        code_resources=None,
    )


@mutant("SIG022")
def _(build: Build) -> None:
    build.extension.entitlements["com.apple.security.cs.disable-library-validation"] = True


@mutant("SIG023", "developer id", "ENT002", "PROF009", "DEP009")
def _(build: Build) -> None:
    with_certificate(build.extension, identity(LEAVES["development"]))


# ---- ENT


@mutant("ENT001")
def _(build: Build) -> None:
    for part in build.parts:
        _claim_more(part, NE, ["app-proxy-provider"])
        assert part.profile is not None
        part.profile["Entitlements"][NE] = ["app-proxy-provider", f"dns-proxy{SUFFIX}"]


@mutant("ENT002", "development")
def _(build: Build) -> None:
    for part in build.parts:
        _claim_more(part, NE, [f"app-proxy-provider{SUFFIX}"])


@mutant("ENT003")
def _(build: Build) -> None:
    del build.extension.entitlements[NE]


@mutant("ENT004")
def _(build: Build) -> None:
    del build.app.entitlements[NE]


@mutant("ENT004", name="another value")
def _(build: Build) -> None:
    build.app.entitlements[NE] = [f"dns-proxy{SUFFIX}"]


@mutant("ENT005")
def _(build: Build) -> None:
    del build.app.entitlements[INSTALL]


@mutant("ENT006")
def _(build: Build) -> None:
    build.extension.entitlements[INSTALL] = True


@mutant("ENT007")
def _(build: Build) -> None:
    build.claim("content-filter-provider")


@mutant("ENT008", "developer id", "PROF004")
def _(build: Build) -> None:
    build.extension.entitlements[NE] = [f"transparent-proxy{SUFFIX}"]


@mutant("ENT009", "developer id", "PROF004")
def _(build: Build) -> None:
    entitlements = build.extension.entitlements
    entitlements["com.apple.developer.networkextension"] = entitlements.pop(NE)


@mutant("ENT010")
def _(build: Build) -> None:
    _claim_more(build.extension, NE, f"app-proxy-provider{SUFFIX}", in_profile=False)


@mutant("ENT011", name="missing")
def _(build: Build) -> None:
    del build.extension.entitlements["com.apple.application-identifier"]


@mutant("ENT011", "mobile", name="of another bundle")
def _(build: Build) -> None:
    build.extension.entitlements["application-identifier"] = f"{TEAM}.another.bundle"


@mutant("ENT012")
def _(build: Build) -> None:
    del build.extension.entitlements["com.apple.developer.team-identifier"]


@mutant("ENT013", "app extension")
def _(build: Build) -> None:
    del build.extension.entitlements[SANDBOX]


@mutant("ENT014", "app store")
def _(build: Build) -> None:
    del build.app.entitlements[SANDBOX]


@mutant("ENT016", "app store")
def _(build: Build) -> None:
    del build.extension.entitlements[CLIENT]


@mutant("ENT017")
def _(build: Build) -> None:
    build.extension.entitlements[GROUPS] = ["org.example.group"]


@mutant("ENT018")
def _(build: Build) -> None:
    build.extension.entitlements[GROUPS] = ["group.org.example"]


@mutant("ENT019", name="another team")
def _(build: Build) -> None:
    build.extension.entitlements[GROUPS] = ["OTHERTEAM9.org.example"]


@mutant("ENT019", "developer id", "INF017", name="variable")
def _(build: Build) -> None:
    build.extension.entitlements[GROUPS] = ["$(TeamIdentifierPrefix)org.example"]


@mutant("ENT020", "mobile")
def _(build: Build) -> None:
    _claim_more(build.app, GROUPS, ["group.org.example"])


@mutant("ENT021")
def _(build: Build) -> None:
    for part in build.parts:
        part.entitlements[GROUPS] = [f"{TEAM}.org.example"]


@mutant("ENT022", "developer id", "ENT004")
def _(build: Build) -> None:
    del build.app.entitlements[NE]
    _claim_more(build.app, "com.apple.developer.networking.vpn.api", ["allow-vpn"])


@mutant("ENT023", "mobile")
def _(build: Build) -> None:
    _claim_more(build.app, "com.apple.developer.networking.HotspotHelper", True)


@mutant("ENT025", "developer id", "PROF004")
def _(build: Build) -> None:
    build.app.entitlements[NE] = [*build.app.entitlements[NE], f"relay{SUFFIX}"]


@mutant("ENT026", name="signed")
def _(build: Build) -> None:
    xml = plistlib.dumps(build.extension.entitlements).replace(b"<dict>", b"<!-- why --><dict>", 1)
    changed(build.extension, entitlements_xml=xml)


@mutant("ENT026", name="source")
def _(build: Build) -> None:
    xml = plistlib.dumps(build.extension.entitlements).replace(b"<dict>", b"<!-- why --><dict>", 1)
    _write(build.root / "Example.entitlements", xml)


# ---- PROF


@mutant("PROF001")
def _(build: Build) -> None:
    build.extension.profile = None


@mutant("PROF002", name="flipped")
def _(build: Build) -> None:
    build.extension.profile_bytes = lambda data: data.replace(b"Example Company", b"Examine Company")


@mutant("PROF002", name="cut off")
def _(build: Build) -> None:
    build.extension.profile_bytes = lambda data: data[:500]


@mutant("PROF003")
def _(build: Build) -> None:
    assert build.extension.profile is not None
    build.extension.profile["ExpirationDate"] = NOW - DAY


@mutant("PROF003", name="soon")
def _(build: Build) -> None:
    assert build.extension.profile is not None
    build.extension.profile["ExpirationDate"] = NOW + 30 * DAY


@mutant("PROF004")
def _(build: Build) -> None:
    _claim_more(build.extension, "com.apple.developer.endpoint-security.client", True, in_profile=False)


def _application(part: Part, identifier: str) -> None:
    assert part.profile is not None
    part.profile["Entitlements"]["com.apple.application-identifier"] = identifier


@mutant("PROF005")
def _(build: Build) -> None:
    _application(build.extension, f"{TEAM}.org.mitmproxy.macos-redirector")


@mutant("PROF006")
def _(build: Build) -> None:
    _application(build.extension, f"{TEAM}.*")


@mutant("PROF007")
def _(build: Build) -> None:
    assert build.extension.profile is not None
    build.extension.profile["DeveloperCertificates"] = [identity(LEAVES["development"]).der]


@mutant("PROF008", "developer id", "PROF005")
def _(build: Build) -> None:
    assert build.extension.profile is not None
    build.extension.profile |= {"TeamIdentifier": ["OTHERTEAM9"], "ApplicationIdentifierPrefix": ["OTHERTEAM9"]}


@mutant("PROF009")
def _(build: Build) -> None:
    assert build.extension.profile is not None
    del build.extension.profile["ProvisionsAllDevices"]
    build.extension.profile["ProvisionedDevices"] = ["00008103-000000000000001E"]


@mutant("PROF010")
def _(build: Build) -> None:
    assert build.extension.profile is not None
    build.extension.profile["Platform"] = ["iOS"]


@mutant("PROF011", "development")
def _(build: Build) -> None:
    assert build.extension.profile is not None
    build.extension.profile["ProvisionedDevices"] = ["00008103-0000000000000FFF"]


@mutant("PROF011", "development", name="a device")
def _(build: Build) -> None:
    build.devices = ("00008103-0000000000000FFF",)


@mutant("PROF012")
def _(build: Build) -> None:
    build.extension.profile_name = "embedded.mobileprovision"


@mutant("PROF013")
def _(build: Build) -> None:
    for part in (build.extension,):
        assert part.profile is not None
        part.profile["Entitlements"][NE] = [f"app-proxy-provider{SUFFIX}"]


# ---- INF


@mutant("INF001")
def _(build: Build) -> None:
    del build.extension.information["NetworkExtension"]


@mutant("INF002")
def _(build: Build) -> None:
    classes = _classes(build)
    classes["app-proxy"] = classes.pop(f"{POINT}app-proxy")


@mutant("INF003")
def _(build: Build) -> None:
    classes = _classes(build)
    classes[f"{POINT}filter-control"] = classes[f"{POINT}app-proxy"]
    for part in build.parts:
        part.entitlements[NE] = [f"app-proxy-provider{SUFFIX}", f"content-filter-provider{SUFFIX}"]
    build.app.rename_import("_OBJC_CLASS_$_OSSystemExtensionManager", "_OBJC_CLASS_$_NEFilterManager")


@mutant("INF004")
def _(build: Build) -> None:
    _classes(build)[f"{POINT}app-proxy"] = "Module.NoSuchClass"


@mutant("INF005")
def _(build: Build) -> None:
    classes = _classes(build)
    classes[f"{POINT}packet-tunnel"] = classes.pop(f"{POINT}app-proxy")
    build.claim("packet-tunnel-provider")
    build.app.rename_import(MANAGER, "_OBJC_CLASS_$_NETunnelProviderManager")


@mutant("INF006")
def _(build: Build) -> None:
    build.extension.information["NetworkExtension"]["NEMachServiceName"] = "org.example.service"


@mutant("INF008", name="at the top")
def _(build: Build) -> None:
    build.extension.information["NEMachServiceName"] = f"{TEAM}.org.example"


@mutant("INF008", "app extension", name="app extension")
def _(build: Build) -> None:
    build.extension.information["NetworkExtension"] = {"NEMachServiceName": f"{TEAM}.org.example"}


@mutant("INF009")
def _(build: Build) -> None:
    del build.extension.information["NSSystemExtensionUsageDescription"]


@mutant("INF009", name="empty")
def _(build: Build) -> None:
    build.extension.information["NSSystemExtensionUsageDescription"] = ""


@mutant("INF010")
def _(build: Build) -> None:
    build.extension.information["XPCService"] = {"ServiceType": "Application"}


@mutant("INF011", "app extension")
def _(build: Build) -> None:
    build.extension.information["NSExtension"]["NSExtensionPointIdentifier"] = "com.apple.networkextension.appproxy"


@mutant("INF012", "app extension", name="missing")
def _(build: Build) -> None:
    del build.extension.information["NSExtension"]["NSExtensionPrincipalClass"]


@mutant("INF012", "app extension", name="not in the code")
def _(build: Build) -> None:
    build.extension.information["NSExtension"]["NSExtensionPrincipalClass"] = "Module.NoSuchClass"


@mutant("INF013", "app extension")
def _(build: Build) -> None:
    build.extension.information["EXAppExtensionAttributes"] = {"EXExtensionPointIdentifier": f"{POINT}app-proxy"}


def _rename(build: Build, identifier: str) -> None:
    """Another bundle id for the extension, wherever it has to stand."""
    part = build.extension
    part.information["CFBundleIdentifier"] = identifier
    part.entitlements |= application_identifier(identifier)
    _application(part, f"{TEAM}.{identifier}")


@mutant("INF014", "app extension")
def _(build: Build) -> None:
    _rename(build, "org.mitmproxy.macos-redirector.two.parts")


@mutant("INF015")
def _(build: Build) -> None:
    _rename(build, "org.mitmproxy.extension")
    _move_extension(build, "Library/SystemExtensions/org.mitmproxy.extension.systemextension")


@mutant("INF016")
def _(build: Build) -> None:
    build.extension.information["CFBundleVersion"] = ""


@mutant("INF017")
def _(build: Build) -> None:
    build.extension.information["CFBundleDisplayName"] = "$(PRODUCT_NAME)"


@mutant("INF018")
def _(build: Build) -> None:
    for part in build.parts:
        part.run_from(10, 14)


@mutant("INF019")
def _(build: Build) -> None:
    build.extension.run_from(14)


@mutant("INF020")
def _(build: Build) -> None:
    build.extension.information["LSMinimumSystemVersion"] = "13.0"


# ---- APP


@mutant("APP001", name="type")
def _(build: Build) -> None:
    build.app.information["CFBundlePackageType"] = "BNDL"


@mutant("APP002")
def _(build: Build) -> None:
    build.app.rename_import(MANAGER, "_OBJC_CLASS_$_NSObject")


@mutant("APP003", "mobile")
def _(build: Build) -> None:
    build.app.rename_import("_OBJC_CLASS_$_OSSystemExtensionManager", "_OBJC_CLASS_$_NEHotspotHelper")


@mutant("APP004")
def _(build: Build) -> None:
    def alone() -> None:
        shutil.rmtree(build.app.contents / "Library")

    build.before_app.append(alone)
    build.app.entitlements[NE] = ["relay"]


@mutant("APP005", "developer id", "ENT018")
def _(build: Build) -> None:
    build.app.entitlements[GROUPS] = ["group.org.example"]


# ---- DEP


@mutant("DEP001", "mobile")
def _(build: Build) -> None:
    provider_again(build, "NEDNSProxyProvider", "dns-proxy", "NEDNSProxyManager", "dns-proxy")


@mutant("DEP002", "mobile")
def _(build: Build) -> None:
    provider_again(build, "NEFilterDataProvider", "content-filter-provider", "NEFilterManager", "filter-data")


@mutant("DEP003", "mobile")
def _(build: Build) -> None:
    provider_again(build, "NEAppProxyProvider", "app-proxy-provider", "NEAppProxyProviderManager", "app-proxy")


def provider_again(build: Build, class_name: str, value: str, manager: str, point: str) -> None:
    """Another kind than the packet tunnel that mobile builds have."""
    build.extension.patches = [one for one in build.extension.patches if PROVIDER.encode() not in one[0]]
    build.app.patches = [one for one in build.app.patches if MANAGER.encode() not in one[0]]
    for part in build.parts:
        part.entitlements[NE] = ["app-proxy-provider"]
    # The longest name of a manager does not fit the place of the shortest.
    place = "_OBJC_CLASS_$_OSSystemExtensionManager" if len(manager) > len("NETransparentProxyManager") else MANAGER
    build.extension.rename_import(PROVIDER, f"_OBJC_CLASS_$_{class_name}")
    build.app.rename_import(place, f"_OBJC_CLASS_$_{manager}")
    build.claim(value)
    build.extension.information["NSExtension"]["NSExtensionPointIdentifier"] = f"{POINT}{point}"


@mutant("DEP005", "mobile")
def _(build: Build) -> None:
    provider_again(build, "NETransparentProxyProvider", "app-proxy-provider", "NETransparentProxyManager", "app-proxy")


@mutant("DEP006", "app extension", "PROF009")
def _(build: Build) -> None:
    build.both(lambda part: part.build_for(6))
    provider(build, "NEPacketTunnelProvider", "packet-tunnel-provider", "NETunnelProviderManager", "packet-tunnel")
    build.channel = SigningChannel.DEVELOPER_ID


@mutant("DEP010", name="pfctl")
def _(build: Build) -> None:
    build.packages = (_package(scripts=(("postinstall", b"#!/bin/sh\npfctl -e\n"),)),)


@mutant("DEP010", "mobile", name="listens")
def _(build: Build) -> None:
    build.extension.rename_import("_OBJC_CLASS_$_NEAppProxyTCPFlow", "_nw_listener_create")


@mutant("DEP013", "mobile", "ENT023")
def _(build: Build) -> None:
    provider_again(build, "NEAppPushProvider", "app-push-provider", "NEAppPushManager", "app-push")


SHOWN_BY_BASES = {
    "DEP004": "mobile",
    "DEP007": "developer id",
    "DEP008": "developer id",
    "DEP009": "development",
    "DEP011": "mobile enterprise",
    "DEP012": "app store",
    "ENT015": "developer id",
    "INF007": "developer id",
    "PKG021": "developer id",
    "PROF014": "developer id",
}
"""What is no fault: a build that is right shows it."""
SHOWN_BY_REAL_APPS = {"SIG019"}
"""Only Apple's own authority makes it."""

__all__ = ["BASES", "MUTANTS", "RUNTIME", "SHOWN_BY_BASES", "SHOWN_BY_REAL_APPS", "Mutant", "profile_signer"]
