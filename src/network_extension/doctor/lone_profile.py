"""A provisioning profile that is no part of a bundle: what it is for, what it allows, and whether it still counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from .catalogue import RULES
from .certificates import Certificate
from .checks.profile import SOON, has_filter_values, signature_faults
from .errors import UnreadableFile
from .profile_verification import verify_provisioning_profile
from .property_list import text_of
from .provider_kinds import ENTITLEMENT
from .provisioning_profile import ProfileKind, ProvisioningProfile, read_provisioning_profile
from .report import Finding, Report
from .rule import Severity

__all__ = ["report_on_profile"]


def report_on_profile(data: bytes, subject: str, now: datetime, anchors: Sequence[Certificate] = ()) -> Report:
    """The report of one file. `now` is aware; `anchors` are trusted besides Apple's roots, in tests."""
    try:
        profile = read_provisioning_profile(data)
    except UnreadableFile as error:
        return Report(subject, findings=(Finding(RULES["PROF002"], "", str(error)),))
    facts = verify_provisioning_profile(profile, anchors=anchors)
    findings = [Finding(RULES["PROF002"], "", evidence) for evidence in signature_faults(facts)]
    findings += _dates(profile, now)
    allowed = profile.entitlements.get(ENTITLEMENT)
    if profile.kind is ProfileKind.DEVELOPER_ID and allowed is not None and not has_filter_values(profile):
        findings.append(Finding(RULES["PROF013"], "", f"it allows {text_of(allowed)}"))
    findings.sort(key=lambda finding: -finding.severity)
    return Report(subject, findings=tuple(findings), verified=tuple(_contents(profile)))


def _dates(profile: ProvisioningProfile, now: datetime) -> Iterator[Finding]:
    if profile.expiration_date is None:
        return
    day = f"{profile.expiration_date:%Y-%m-%d}"
    if profile.expired_at(now):
        yield Finding(RULES["PROF003"], "", f"ran out on {day}")
    elif profile.expired_at(now + SOON):
        yield Finding(RULES["PROF003"], "", f"runs out on {day}", Severity.INFO)


def _contents(profile: ProvisioningProfile) -> Iterator[str]:
    until = f", until {profile.expiration_date:%Y-%m-%d}" if profile.expiration_date else ""
    team = ", ".join(profile.team_identifiers) or "none"
    platforms = ", ".join(profile.platforms) or "no platform"
    yield f"{profile.name or 'a profile without a name'}: for {profile.kind.value} on {platforms}, team {team}{until}"
    yield f"for the App ID {profile.application_identifier or 'none'}"
    if profile.provisioned_devices is not None:
        yield f"for {len(profile.provisioned_devices)} devices"
    yield f"lists {len(profile.developer_certificates)} certificates"
    allowed = profile.entitlements.get(ENTITLEMENT)
    yield f"allows {ENTITLEMENT}: {text_of(allowed)}" if allowed is not None else f"does not allow {ENTITLEMENT}"
