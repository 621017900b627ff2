"""Looks for the rules SIG: signatures, certificates, notarisation."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from ..bundles import CodeBundle
from ..certificates import Certificate
from ..channels import SigningChannel
from ..code_directory import CodeFlags, HashType
from ..deployment_table import Platform
from ..integrity import integrity_faults
from ..notarization_ticket import verify_notarization_ticket
from ..outcome import Outcome
from ..product import App, Extension, Member, Product
from ..property_list import text_of
from ..requirement_evaluation import evaluate, unmet
from ..requirement_tree import CodeDirectoryHash, Or, Requirement
from ..restricted_entitlements import restricted
from ..rule import Severity
from ..signed_code import SignedSlice
from .registry import Fault, Found, of_app, of_extension, of_member, of_product

GET_TASK_ALLOW = ("com.apple.security.get-task-allow", "get-task-allow")
_RUNTIME_EXCEPTIONS = (
    "com.apple.security.cs.disable-library-validation",
    "com.apple.security.cs.allow-dyld-environment-variables",
    "com.apple.security.cs.disable-executable-page-protection",
)
_FIRST_AUTHORITY_ENDS = datetime(2027, 2, 2, tzinfo=UTC)


def _slices(member: Member) -> list[SignedSlice]:
    return [] if member.code is None else [*member.code.slices]


def _at(found: SignedSlice, what: str) -> str:
    return f"{found.image.architecture}: {what}"


@of_member("SIG001")
def _unsigned(member: Member) -> Found:
    return [
        _at(found, found.signature_problem or "no code signature") for found in _slices(member) if not found.signature
    ]


@of_member("SIG002")
def _ad_hoc(member: Member) -> Found:
    claimed = restricted(member.entitlements, member.is_on_mac)
    found = [found for found in _slices(member) if found.signature is not None and found.signature.is_adhoc]
    if not found or not claimed:
        return None
    return f"{', '.join(one.image.architecture for one in found)}: signed ad hoc, and claims {', '.join(claimed[:3])}"


def _integrity(rule: str) -> None:
    """These rules come out of one walk through the app, from the inside out."""

    @of_product(rule)
    def look(product: Product) -> Found:
        return [
            Fault(fault.evidence, fault.place, fault.level) for fault in integrity_faults(product) if fault.rule == rule
        ]


for _rule in ("SIG003", "SIG004", "SIG005", "SIG006", "SIG008", "SIG009"):
    _integrity(_rule)


@of_member("SIG007")
def _two_forms_of_entitlements(member: Member) -> Iterator[str]:
    for found in _slices(member):
        if found.entitlements_problem:
            yield _at(found, found.entitlements_problem)
        elif found.lacks_der_entitlements:
            yield _at(found, "no DER form")
        for difference in found.entitlement_differences[:5]:
            yield _at(found, f"{difference.key}: XML {text_of(difference.xml)}, DER {text_of(difference.der)}")


def _name(certificate: Certificate) -> str:
    return certificate.subject.common_name or certificate.fingerprint


@of_member("SIG010")
def _identifier(member: Member) -> Found:
    wanted = member.bundle.identifier
    return [
        _at(found, f"signed as {found.directory.identifier}, CFBundleIdentifier is {wanted}")
        for found in _slices(member)
        if wanted and found.directory is not None and found.directory.identifier != wanted
    ]


@of_member("SIG011")
def _team_of_certificate(member: Member) -> Iterator[str]:
    for found in _slices(member)[:1]:
        certificate, directory = found.certificate, found.directory
        if directory is None or certificate is None or not certificate.kinds or member.is_signed_by_apple:
            continue
        if directory.team != certificate.team_identifier:
            yield f"signed for team {directory.team or 'none'} by {_name(certificate)}"
    if isinstance(member, Extension) and member.container is not None:
        teams = (member.container.team, member.team)
        if all(teams) and teams[0] != teams[1]:
            yield f"the app's team is {teams[0]}, the extension's {teams[1]}"


@of_member("SIG012")
def _designated_requirement(member: Member) -> Iterator[str]:
    for found in _slices(member):
        requirement = found.designated_requirement
        if requirement is None or found.cms is None or found.cms.chain is None:
            continue
        if isinstance(requirement, str):
            yield _at(found, requirement)
        elif _is_of_cdhashes(requirement):
            yield _at(found, f"only this very build meets {requirement}")
        elif evaluate(requirement, facts := found.requirement_facts(member.bundle.information)) is False:
            yield _at(found, f"it does not meet: {'; '.join(unmet(requirement, facts)[:4])}")


def _is_of_cdhashes(requirement: Requirement) -> bool:
    if isinstance(requirement, Or):
        return _is_of_cdhashes(requirement.left) and _is_of_cdhashes(requirement.right)
    return isinstance(requirement, CodeDirectoryHash)


def _lacks_runtime(found: SignedSlice) -> bool:
    return found.directory is not None and CodeFlags.RUNTIME not in found.directory.flags


@of_member("SIG013")
def _hardened_runtime(member: Member) -> Found:
    if member.channel is not SigningChannel.DEVELOPER_ID:
        return None
    lacking = [found.image.architecture for found in _slices(member) if _lacks_runtime(found)]
    return f"{', '.join(lacking)}: without the flag runtime" if lacking else None


@of_member("SIG014")
def _debugged(member: Member) -> Found:
    if not member.channel.is_distribution:
        return None
    return [f"{key} is true" for key in GET_TASK_ALLOW if member.claims(key)]


@of_member("SIG015")
def _timestamp(member: Member) -> Iterator[str]:
    if member.channel is not SigningChannel.DEVELOPER_ID:
        return
    for found in _slices(member):
        facts = found.cms
        if facts is None or facts.unreadable_timestamp:
            continue  # SIG008 tells
        if facts.timestamp is None:
            yield _at(found, "no timestamp")


def _ticket_bearers(extension: Extension) -> list[CodeBundle]:
    return [extension.bundle, *([extension.container.bundle] if extension.container else [])]


@of_app("SIG016")
def _not_notarised(app: App) -> Found:
    found = [extension for extension in app.system_extensions if extension.channel is SigningChannel.DEVELOPER_ID]
    if not found or app.platform is not Platform.MACOS:
        return None
    if any(bundle.ticket or bundle.ticket_problem for one in found for bundle in _ticket_bearers(one)):
        return None
    level = Severity.WARN if app.in_stapled_package else None
    return Fault("no stapled ticket in Contents/CodeResources", level=level)


@of_product("SIG017")
def _ticket_of_another_build(product: Product) -> Iterator[Fault]:
    for app in product.apps:
        bundle = app.bundle
        place = app.path
        if app.channel is not SigningChannel.DEVELOPER_ID:
            continue  # a ticket that was left behind is asked of nobody
        if bundle.ticket_problem:
            yield Fault(bundle.ticket_problem, place)
        if bundle.ticket is None:
            continue
        if verify_notarization_ticket(bundle.ticket, product.anchors) is not Outcome.HOLDS:
            yield Fault("the ticket's own signature does not hold", place)
            continue
        for member in app.members:
            cdhashes = member.code.cdhashes if member.code else {}
            missing = [name for name, cdhash in cdhashes.items() if cdhash not in bundle.ticket.cdhashes]
            if missing:
                issued = f", issued {bundle.ticket.issued:%Y-%m-%d}," if bundle.ticket.issued else ""
                yield Fault(f"the ticket{issued} does not name {', '.join(missing)}", member.path)


@of_product("SIG018")
def _certificate_expired(product: Product) -> Iterator[Fault]:
    for member in product.members:
        certificate = member.certificate
        if certificate is not None and certificate.expired_at(product.now):
            yield Fault(f"{_name(certificate)} ran out on {certificate.not_after:%Y-%m-%d}", member.path)


@of_app("SIG019")
def _first_authority(app: App) -> Found:
    facts = None if app.code is None else app.code.main.cms
    certificates = facts.chain.certificates if facts is not None and facts.chain is not None else ()
    if app.signed_channel is not SigningChannel.DEVELOPER_ID or len(certificates) < 2:
        return None
    authority, leaf = certificates[1], certificates[0]
    if authority.not_after >= _FIRST_AUTHORITY_ENDS:
        return None
    return f"{_name(authority)} ends on {authority.not_after:%Y-%m-%d}, {_name(leaf)} on {leaf.not_after:%Y-%m-%d}"


@of_member("SIG020")
def _slices_differ(member: Member) -> Iterator[str]:
    signed = _slices(member)
    for first, other in zip(signed[:1] * len(signed), signed[1:], strict=False):
        if first.directory is None or other.directory is None:
            continue
        names = f"{first.image.architecture} and {other.image.architecture}"
        if first.directory.identifier != other.directory.identifier:
            yield f"{names}: identifier {first.directory.identifier} and {other.directory.identifier}"
        if first.directory.team != other.directory.team:
            yield f"{names}: team {first.directory.team} and {other.directory.team}"
        keys = first.entitlements.keys() | other.entitlements.keys()
        differing = sorted(key for key in keys if first.entitlements.get(key) != other.entitlements.get(key))
        if differing:
            yield f"{names}: {', '.join(differing[:5])}"


@of_member("SIG021")
def _only_sha1(member: Member) -> Found:
    found = [
        one.image.architecture
        for one in _slices(member)
        if one.signature is not None
        and all(directory.hash_type is HashType.SHA1 for directory in one.signature.directories)
    ]
    return f"{', '.join(found)}: all hashes are SHA-1" if found else None


@of_extension("SIG022")
def _runtime_exceptions(extension: Extension) -> Found:
    found = [key for key in _RUNTIME_EXCEPTIONS if extension.claims(key)]
    return f"claims {', '.join(found)}" if found and extension.is_system_extension else None


@of_extension("SIG023")
def _two_channels(extension: Extension) -> Found:
    container = extension.container
    if container is None or container.certificate is None or extension.certificate is None:
        return None
    if _way(container.signed_channel) == _way(extension.signed_channel):
        return None
    return f"the app is signed for {container.signed_channel}, the extension for {extension.signed_channel}"


def _way(channel: SigningChannel) -> SigningChannel:
    """TestFlight and App Store are one way; so are the three that one distribution certificate serves."""
    return SigningChannel.APP_STORE if channel.is_distribution and channel.takes_standard_values else channel
