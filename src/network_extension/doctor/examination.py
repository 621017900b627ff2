"""One examination: everything below a folder is read, each rule is looked for, and what was found becomes a report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from .bundle_files import BundleFiles
from .bundles import BundleKind, find_bundles
from .catalogue import RULES
from .certificates import Certificate
from .channels import SigningChannel
from .checks import deployment, entitlements, information, packaging, profile, signature
from .checks.registry import CHECKS, Fault
from .errors import UnreadableFile
from .product import Extension, InstallerPackage, Member, Product, make_product
from .property_list import read_property_list
from .report import Bundle, Finding, Report
from .rule import Severity
from .source_files import RULES_OF_SOURCES, find_source_files
from .undecided import undecided
from .verified import verified

__all__ = ["examine", "read_product", "report_on"]

# Imported for what they register.
_FAMILIES = (packaging, signature, entitlements, profile, information, deployment)
_OF_SIGNATURES = ("SIG", "PROF")
_ONLY_WHEN_ALL_IS_WELL = "DEP008"
_NOTHING_HERE = "no Network Extension here"


def examine(
    subject: str,
    files: BundleFiles,
    now: datetime,
    *,
    anchors: Sequence[Certificate] = (),
    channel: SigningChannel | None = None,
    packages: Sequence[InstallerPackage] = (),
    in_stapled_package: bool = False,
    devices: Sequence[str] = (),
    previous: Product | None = None,
) -> Report:
    """What refuses the Network Extensions below a folder. `subject` is how the user named it.

    `now` is aware. `anchors` are trusted besides Apple's roots, in tests; `channel` is what the build is meant for,
    where that is not what it was signed for; `previous` is the build that is installed already. Raises UnreadableFile
    where the folder itself cannot be read: all else is a finding.
    """
    product = read_product(files, now, anchors=anchors, channel=channel, packages=packages)
    product.devices, product.previous = devices, previous
    for app in product.apps:
        app.in_stapled_package = in_stapled_package
    return report_on(product, subject)


def read_product(
    files: BundleFiles,
    now: datetime,
    *,
    anchors: Sequence[Certificate] = (),
    channel: SigningChannel | None = None,
    packages: Sequence[InstallerPackage] = (),
) -> Product:
    """What is below a folder."""
    bundles = find_bundles(files, anchors)
    product = make_product(bundles, now, anchors=anchors, channel=channel)
    product.packages = packages
    product.archive = _archive(files)
    product.entitlement_files, product.source_extensions, product.left_out = find_source_files(files, bundles)
    return product


def _archive(files: BundleFiles) -> dict[str, object]:
    """ApplicationProperties of an Xcode archive, wherever below the folder it lies."""
    for path in files.entries:
        folder, _, name = path.rpartition("/")
        if name != "Info.plist" or not files.is_folder(f"{folder}/Products" if folder else "Products"):
            continue
        try:
            found = read_property_list(files.read(path)).get("ApplicationProperties")
        except UnreadableFile:
            continue
        if isinstance(found, dict):
            return found
    return {}


def report_on(product: Product, subject: str) -> Report:
    """Looks for every rule."""
    simulated = {member.path for member in product.members if member.is_for_simulator}
    findings: list[Finding] = []
    for rule in RULES.values():
        search = CHECKS.get(rule.id)
        for fault in search(product) if search is not None else ():
            if rule.family in _OF_SIGNATURES and fault.place.startswith(tuple(simulated)):
                continue
            findings.append(_finding(rule.id, fault))
    sources = Product([], list(product.source_extensions), [], product.now)
    for name in RULES_OF_SOURCES if product.source_extensions else ():
        findings += [_finding(name, fault) for fault in CHECKS[name](sources)]
    if any(finding.severity >= Severity.ERROR for finding in findings):
        findings = [finding for finding in findings if finding.rule.id != _ONLY_WHEN_ALL_IS_WELL]
    findings.sort(key=lambda finding: -finding.severity)  # stable: the catalogue's order within
    return Report(
        subject=subject,
        bundles=tuple(_bundle(member) for member in product.members),
        findings=tuple(findings),
        undecided=undecided(product),
        verified=verified(product),
        notes=tuple(_notes(product, simulated)),
    )


def _finding(rule: str, fault: Fault) -> Finding:
    return Finding(RULES[rule], fault.place, fault.evidence, fault.level)


def _bundle(member: Member) -> Bundle:
    kinds = tuple(kind.name for kind in member.kinds) if isinstance(member, Extension) else ()
    return Bundle(
        path=member.bundle.path,
        kind=member.bundle.kind.value,
        identifier=member.bundle.identifier,
        version=member.bundle.version,
        platform=member.platform.value,
        channel=member.channel.value,
        team=member.team,
        providers=kinds,
    )


def _notes(product: Product, simulated: set[str]) -> list[str]:
    notes: list[str] = [*product.left_out]
    others = [bundle for bundle in product.bundles if bundle.kind is BundleKind.APP]
    if not product.members and not product.entitlement_files and not product.source_extensions:
        looked_at = ", ".join(bundle.name for bundle in others[:5])
        notes.append(f"{_NOTHING_HERE}: {looked_at}" if looked_at else f"{_NOTHING_HERE}: no app and no extension")
    notes += [
        f"{member.path}: {member.bundle.information_problem}"
        for member in product.members
        if member.bundle.information_problem
    ]
    if simulated:
        notes.append("built for a simulator, which asks for no signature: rules about signatures were left out")
    if any(_is_encrypted(member) for member in product.members):
        notes.append("encrypted by the App Store: the hashes of its code hold on a device only, and were left out")
    return notes


def _is_encrypted(member: Member) -> bool:
    return member.code is not None and member.code.is_encrypted
