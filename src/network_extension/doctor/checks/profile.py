"""Looks for the rules PROF: provisioning profiles."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from ..bundles import MAC_PROFILE, MOBILE_PROFILE
from ..channels import SigningChannel
from ..deployment_table import Platform
from ..outcome import Outcome
from ..product import Extension, Member, Product
from ..profile_verification import ProfileFacts
from ..property_list import text_of
from ..provider_kinds import ENTITLEMENT, SUFFIX
from ..provisioning_profile import ProfileKind, ProvisioningProfile
from ..restricted_entitlements import restricted
from ..rule import Severity
from .registry import Fault, Found, of_member, of_product

SOON = timedelta(days=60)
"""Before its end a profile is told to end."""
_SHA1 = "1.3.14.3.2.26"
_PLATFORM_NAMES = {
    Platform.MACOS: ("OSX",),
    Platform.CATALYST: ("OSX",),
    Platform.IOS: ("iOS",),
    Platform.IOS_ON_MAC: ("iOS",),
    Platform.TVOS: ("tvOS",),
    Platform.VISIONOS: ("xrOS", "visionOS", "iOS"),
}
_KINDS = {
    SigningChannel.DEVELOPMENT: (ProfileKind.DEVELOPMENT,),
    SigningChannel.DEVELOPER_ID: (ProfileKind.DEVELOPER_ID,),
    SigningChannel.APP_STORE: (ProfileKind.APP_STORE,),
    SigningChannel.TESTFLIGHT: (ProfileKind.APP_STORE,),
    SigningChannel.ENTERPRISE: (ProfileKind.ENTERPRISE,),
    SigningChannel.AD_HOC: (ProfileKind.AD_HOC,),
}


def _profile(member: Member) -> ProvisioningProfile | None:
    """The profile that the system would ask: none of code that the App Store has signed again, or that nobody has."""
    return None if member.is_signed_by_apple or member.certificate is None else member.bundle.profile


@of_member("PROF001")
def _no_profile(member: Member) -> Found:
    if member.bundle.profile_path or member.is_signed_by_apple or member.certificate is None:
        return None
    claimed = restricted(member.entitlements, member.is_on_mac)
    return f"claims {', '.join(claimed[:4])}, and holds no profile" if claimed else None


@of_member("PROF002")
def _unreadable(member: Member) -> Iterator[str]:
    bundle = member.bundle
    if bundle.profile_problem:
        yield bundle.profile_problem
    if bundle.profile_facts is not None:
        yield from signature_faults(bundle.profile_facts)


def signature_faults(facts: ProfileFacts) -> Iterator[str]:
    """What is wrong with the two signatures of a profile."""
    if not facts.signature.trusted:
        yield "its signature does not hold, or is not Apple's"
    elif not facts.in_dates:
        yield "its signer's certificate was not valid when it signed"
    elif facts.signature.announced is Outcome.FAILS:
        yield "the head of its signature does not fit what it holds"
    if facts.unreadable_der:
        yield facts.unreadable_der
    elif facts.der_signature is not None and not facts.der_signature.trusted:
        yield "the signature of its DER form does not hold, or is not Apple's"
    elif facts.der_agrees is Outcome.FAILS:
        yield "its DER form says something else than its XML form"


@of_product("PROF003")
def _expired(product: Product) -> Iterator[Fault]:
    for member in product.members:
        profile = _profile(member)
        if profile is None or profile.expiration_date is None:
            continue
        day = f"{profile.expiration_date:%Y-%m-%d}"
        if profile.expired_at(product.now):
            yield Fault(f"ran out on {day}", member.path)
        elif profile.expired_at(product.now + SOON):
            yield Fault(f"runs out on {day}", member.path, Severity.INFO)


@of_member("PROF004")
def _over_claim(member: Member) -> Iterator[str]:
    profile = _profile(member)
    if profile is None:
        return
    for key in restricted(member.entitlements, member.is_on_mac):
        value = member.entitlements[key]
        if profile.allows(key, value) or _is_of_another_app(key):
            continue
        listed = text_of(profile.entitlements[key]) if key in profile.entitlements else "nothing of it"
        yield f"{key}: claimed {text_of(value)}, allowed {listed}"


def _is_of_another_app(key: str) -> bool:
    """PROF005 and PROF008 tell of these, by what the profile is for."""
    return key in (
        "com.apple.application-identifier",
        "application-identifier",
        "com.apple.developer.team-identifier",
    )


@of_member("PROF005")
def _other_app(member: Member) -> Found:
    profile = _profile(member)
    listed = None if profile is None else profile.application_identifier
    if profile is None or listed is None or not member.bundle.identifier:
        return None
    prefixes = profile.application_identifier_prefixes or profile.team_identifiers
    wanted = [f"{prefix}.{member.bundle.identifier}" for prefix in prefixes]
    if any(profile.covers_application(one) for one in wanted):
        return None
    return f"the profile is for {listed}, the bundle is {member.bundle.identifier}"


@of_member("PROF006")
def _wildcard(member: Member) -> Found:
    profile = _profile(member)
    if profile is None or not profile.is_wildcard or ENTITLEMENT not in member.entitlements:
        return None
    return f"the profile is for {profile.application_identifier}"


@of_member("PROF007")
def _other_certificate(member: Member) -> Found:
    profile, certificate = _profile(member), member.certificate
    if profile is None or certificate is None or profile.covers(certificate):
        return None
    return f"signed by {certificate.subject.common_name}, which is not among its {len(profile.developer_certificates)}"


@of_member("PROF008")
def _other_team(member: Member) -> Found:
    profile = _profile(member)
    if profile is None or not member.team or not profile.team_identifiers or member.team in profile.team_identifiers:
        return None
    return f"the profile is of team {', '.join(profile.team_identifiers)}, the signature of {member.team}"


@of_member("PROF009")
def _other_channel(member: Member) -> Found:
    profile, wanted = _profile(member), _KINDS.get(member.channel)
    # Of a profile for another platform not even the kind can be told.
    if profile is None or wanted is None or profile.kind in wanted or _is_for_another_platform(member, profile):
        return None
    return f"a profile for {profile.kind.value}, in a build for {member.channel}"


@of_member("PROF010")
def _other_platform(member: Member) -> Found:
    profile = _profile(member)
    if profile is None or not _is_for_another_platform(member, profile):
        return None
    return f"the profile is for {', '.join(profile.platforms)}, the code for {member.platform}"


def _is_for_another_platform(member: Member, profile: ProvisioningProfile) -> bool:
    return bool(profile.platforms) and not set(profile.platforms) & set(_PLATFORM_NAMES[member.platform])


@of_product("PROF011")
def _other_devices(product: Product) -> Iterator[Fault]:
    for extension in product.extensions:
        if evidence := _differing_devices(extension):
            yield Fault(evidence, extension.path)
    for member in product.members:
        profile = _profile(member)
        for device in product.devices:
            if profile is not None and profile.provisioned_devices is not None and not profile.covers_device(device):
                yield Fault(f"{device} is not in the profile", member.path)


def _differing_devices(extension: Extension) -> str | None:
    own = _profile(extension)
    others = None if extension.container is None else _profile(extension.container)
    if own is None or others is None or own.provisioned_devices is None or others.provisioned_devices is None:
        return None
    missing = sorted(set(others.provisioned_devices) - set(own.provisioned_devices))
    extra = sorted(set(own.provisioned_devices) - set(others.provisioned_devices))
    if not missing and not extra:
        return None
    in_app, in_extension = (", ".join(names[:3]) or "none" for names in (missing, extra))
    return f"only in the app's: {in_app}; only in the extension's: {in_extension}"


@of_member("PROF012")
def _file_name(member: Member) -> Found:
    wrong = MOBILE_PROFILE if member.bundle.is_deep else MAC_PROFILE
    return wrong if member.bundle.files.is_file(member.bundle.inner(wrong)) else None


@of_member("PROF013")
def _no_suffixed_values(member: Member) -> Found:
    profile = _profile(member)
    if profile is None or profile.kind is not ProfileKind.DEVELOPER_ID or not member.values:
        return None
    return None if has_filter_values(profile) else f"it allows {text_of(profile.entitlements.get(ENTITLEMENT))}"


def has_filter_values(profile: ProvisioningProfile) -> bool:
    """Whether it allows suffixed values besides those for tunnels and proxies, which older ones have alone."""
    listed = profile.entitlements.get(ENTITLEMENT)
    values = [value for value in listed if isinstance(value, str)] if isinstance(listed, list) else []
    suffixed = {value for value in values if value.endswith(SUFFIX)}
    return bool(suffixed - {f"packet-tunnel-provider{SUFFIX}", f"app-proxy-provider{SUFFIX}"})


@of_product("PROF014")
def _old_signature(product: Product) -> Iterator[Fault]:
    for member in product.members:
        facts = member.bundle.profile_facts
        if facts is None or member.bundle.profile is None:
            continue
        said = []
        if any(signer.digest_algorithm == _SHA1 for signer in member.bundle.profile.signed_data.signers):
            said.append("signed with SHA-1")
        said += [
            f"{one.subject.common_name} ran out on {one.not_after:%Y-%m-%d}"
            for one in facts.expired_signers(product.now)[:1]
        ]
        if said:
            yield Fault(", ".join(said), member.path)
