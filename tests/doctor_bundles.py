"""Real bundles, sealed and signed again, and provisioning profiles of any content.

What Apple's `codesign` does with a bundle, as far as tests need it: resources are sealed by the rules that stand in the
bundle's own CodeResources, then the main executable is signed with the seal and the Info.plist in its special slots.
Inner code comes first.
"""

from __future__ import annotations

import hashlib
import plistlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.doctor_authorities import SIGNING_TIME, Identity, sign_cms
from tests.doctor_code_directory import SLOT_CODE_DIRECTORY, cdhash, signatures
from tests.doctor_signing import Signing, profile_der, resign

SEAL = Path("_CodeSignature", "CodeResources")
TICKET = "CodeResources"


def contents_of(bundle: Path) -> Path:
    """What the seal is of: `Contents` on the Mac, a framework's version there, the bundle itself elsewhere."""
    if bundle.suffix == ".framework" and (bundle / "Versions" / "A").is_dir():
        return bundle / "Versions" / "A"
    return bundle / "Contents" if (bundle / "Contents").is_dir() else bundle


def information_of(bundle: Path) -> dict[str, Any]:
    """The Info.plist."""
    found: dict[str, Any] = plistlib.loads(information_path_of(bundle).read_bytes())
    return found


def information_path_of(bundle: Path) -> Path:
    """Where the Info.plist is."""
    inside = "Resources/Info.plist" if bundle.suffix == ".framework" else "Info.plist"
    return contents_of(bundle) / inside


def executable_of(bundle: Path) -> Path:
    """The main executable."""
    contents = contents_of(bundle)
    name: str = information_of(bundle)["CFBundleExecutable"]
    return contents / "MacOS" / name if contents.name == "Contents" else contents / name


def extensions_of(app: Path) -> list[Path]:
    """System extensions and app extensions in their usual places."""
    places = ("Library/SystemExtensions/*.systemextension", "PlugIns/*.appex", "Extensions/*.appex")
    return sorted(found for place in places for found in contents_of(app).glob(place))


def reseal(bundle: Path) -> bytes:
    """Write a CodeResources that is right for what is in the bundle now, by the rules that it has. Its bytes."""
    contents = contents_of(bundle)
    seal = plistlib.loads((contents / SEAL).read_bytes())
    seal["files"] = _files(bundle, seal["rules"], _sealed_by_sha1)
    old = seal["files2"]
    seal["files2"] = _files(bundle, seal["rules2"], lambda path, rule: _sealed(contents, path, rule, old))
    data = plistlib.dumps(seal)
    (contents / SEAL).write_bytes(data)
    return data


def _files(bundle: Path, rules: Mapping[str, Any], entry: Any) -> dict[str, Any]:
    contents, main = contents_of(bundle), executable_of(bundle)
    patterns = [(re.compile(pattern), {} if rule is True else rule) for pattern, rule in rules.items()]
    found: dict[str, Any] = {}
    sealed_elsewhere = ["_CodeSignature/"]
    for path in sorted(contents.rglob("*")):
        name = path.relative_to(contents).as_posix()
        if path == main or name == TICKET or name.startswith(tuple(sealed_elsewhere)):
            continue
        matching = [rule for pattern, rule in patterns if pattern.search(name)]
        rule = max(matching, key=lambda rule: float(rule.get("weight", 1)), default=None)
        if rule is None or rule.get("omit"):
            continue
        if path.is_dir() and not path.is_symlink():
            # A directory that is nested code is sealed as one; others are only the way to their files.
            if not (rule.get("nested") and information_path_of(path).exists()):
                continue
            sealed_elsewhere.append(f"{name}/")
        found[name] = entry(path, rule)
    return found


def _sealed_by_sha1(path: Path, rule: Mapping[str, Any]) -> Any:
    value = hashlib.sha1(path.read_bytes()).digest()
    return {"hash": value, "optional": True} if rule.get("optional") else value


def is_code(path: Path) -> bool:
    """Whether a file begins as Mach-O does."""
    with path.open("rb") as file:
        return file.read(4) in (b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe")


def _sealed(contents: Path, path: Path, rule: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    if path.is_symlink():
        return {"symlink": str(path.readlink())}
    if rule.get("nested") and (path.is_dir() or is_code(path)):
        executable = executable_of(path) if path.is_dir() else path
        requirement = old.get(path.relative_to(contents).as_posix(), {}).get("requirement", "")
        first = next(signatures(executable.read_bytes()))
        return {"cdhash": cdhash(first[SLOT_CODE_DIRECTORY]), "requirement": requirement}
    sealed: dict[str, Any] = {"hash2": hashlib.sha256(path.read_bytes()).digest()}
    return sealed | {"optional": True} if rule.get("optional") else sealed


def resign_bundle(bundle: Path, signing: Signing) -> None:
    """Seal one bundle and sign its main executable. Bundles in it stay as they are."""
    seal, executable = reseal(bundle), executable_of(bundle)
    plist = information_path_of(bundle).read_bytes()
    complete = replace(signing, info_plist=plist, code_resources=seal)
    executable.write_bytes(resign(executable.read_bytes(), complete))


def resign_app(app: Path, signing: Signing, extension: Signing | None = None) -> None:
    """Sign an app from the inside out: libraries in Frameworks, extensions (as `extension` says, else as the app with
    what each has kept), then the app.
    """
    for library in sorted(contents_of(app).glob("Frameworks/*.dylib")):
        library.write_bytes(resign(library.read_bytes(), Signing(signing.identity, timestamp=signing.timestamp)))
    for found in extensions_of(app):
        resign_bundle(found, extension or Signing(signing.identity, timestamp=signing.timestamp))
    resign_bundle(app, signing)


def profile_contents(
    application: str,
    certificates: Sequence[Identity | bytes],
    entitlements: Mapping[str, Any] | None = None,
    *,
    kind: str = "developer id",
    platform: str = "OSX",
    devices: Sequence[str] = ("00008103-000000000000001E",),
    created: datetime = SIGNING_TIME,
    days: int = 6570,
    **more: Any,
) -> dict[str, Any]:
    """The property list of a profile for `application` ("TEAM123456.com.example.app").

    Kinds: development, ad hoc, developer id, enterprise, app store. `entitlements` go on top of those that every
    profile has; `more` replaces keys, and None removes them.
    """
    team = application.split(".", 1)[0]
    on_mac = platform == "OSX"
    allowed: dict[str, Any] = {
        "com.apple.application-identifier" if on_mac else "application-identifier": application,
        "com.apple.developer.team-identifier": team,
        "keychain-access-groups": [f"{team}.*"],
    }
    if not on_mac:
        allowed["get-task-allow"] = kind == "development"
    contents: dict[str, Any] = {
        "AppIDName": "Example",
        "ApplicationIdentifierPrefix": [team],
        "CreationDate": created,
        "Platform": [platform],
        "IsXcodeManaged": False,
        "DeveloperCertificates": [item if isinstance(item, bytes) else item.der for item in certificates],
        "Entitlements": allowed | dict(entitlements or {}),
        "ExpirationDate": created + timedelta(days=days),
        "Name": f"Example {kind}",
        "TeamIdentifier": [team],
        "TeamName": "Example Company",
        "TimeToLive": days,
        "UUID": "00000000-1111-2222-3333-444444444444",
        "Version": 1,
    }
    if kind in ("developer id", "enterprise"):
        contents["ProvisionsAllDevices"] = True
    if kind in ("development", "ad hoc"):
        contents["ProvisionedDevices"] = list(devices)
    return {key: value for key, value in {**contents, **more}.items() if value is not None}


def make_profile(
    contents: Mapping[str, Any],
    identity: Identity,
    inner: Identity | None = None,
    *,
    der_contents: Mapping[str, Any] | None = None,
    digest: str = "sha1",
    signing_time: datetime | None = None,
) -> bytes:
    """A profile signed by `identity`, and with `inner` also in DER by that one. `der_contents` instead of the same.

    Its signing time is the CreationDate.
    """
    time = signing_time or contents.get("CreationDate", SIGNING_TIME)
    xml = dict(contents)
    if inner is not None:
        encoded = profile_der(_as_der(contents) if der_contents is None else der_contents)
        xml["DER-Encoded-Profile"] = sign_cms(encoded, inner, signing_time=time)
    # plistlib writes times without a zone, meaning UTC.
    plain = {key: value.replace(tzinfo=None) if isinstance(value, datetime) else value for key, value in xml.items()}
    return sign_cms(plistlib.dumps(plain), identity, digest=digest, signing_time=time)


def _as_der(contents: Mapping[str, Any]) -> dict[str, Any]:
    """As Apple's DER has it: certificates by their SHA-256, and how the profile is meant to be distributed."""
    certificates = [hashlib.sha256(item).digest() for item in contents.get("DeveloperCertificates", ())]
    return {**contents, "DeveloperCertificates": certificates, "ProfileDistributionType": "DIRECT"}
