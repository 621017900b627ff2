"""The doctor finds each rule's fault in the example's `before`, and does not find it in its `after`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from network_extension.doctor.bundles import BundleKind
from network_extension.doctor.catalogue import RULES
from network_extension.doctor.channels import SigningChannel
from network_extension.doctor.deployment_table import Platform
from network_extension.doctor.examples import EXAMPLES
from network_extension.doctor.provider_kinds import ENTITLEMENT

from .shown_members import EXTENSION_ID, TEAM, Shown

DEVELOPMENT, STORE = SigningChannel.DEVELOPMENT, SigningChannel.APP_STORE
SYSTEM_EXTENSION = Shown()
APP_EXTENSION = Shown(BundleKind.APP_EXTENSION, channel=DEVELOPMENT)
APP = Shown(BundleKind.APP)
INFORMATION = replace(SYSTEM_EXTENSION, part="information")
APP_EXTENSION_INFORMATION = replace(APP_EXTENSION, part="information")
# What the fragments of profiles leave out.
_IDENTIFIERS: dict[str, Any] = {"com.apple.application-identifier": f"{TEAM}.{EXTENSION_ID}"}
_PROFILE: dict[str, Any] = {
    "ApplicationIdentifierPrefix": [TEAM],
    "TeamIdentifier": [TEAM],
    "Platform": ["OSX"],
    "Entitlements": _IDENTIFIERS,
}
_VALUE = {ENTITLEMENT: ["content-filter-provider-systemextension"]}
PROFILE = replace(SYSTEM_EXTENSION, part="profile", profile=_PROFILE, claims=_VALUE)
DEVICES = ["00008103-000000000000000A", "00008103-000000000000000B"]
_GROUPS = "com.apple.security.application-groups"
_ON_DEVICES = replace(APP_EXTENSION, platform=Platform.IOS)

SHOWN: dict[str, Shown] = {
    "PKG002": APP_EXTENSION,
    "PKG005": INFORMATION,
    "PKG006": APP_EXTENSION_INFORMATION,
    "SIG014": SYSTEM_EXTENSION,
    "SIG022": SYSTEM_EXTENSION,
    "ENT001": SYSTEM_EXTENSION,
    "ENT002": replace(SYSTEM_EXTENSION, channel=DEVELOPMENT),
    "ENT003": APP_EXTENSION,
    "ENT004": replace(APP, channel=DEVELOPMENT, others={ENTITLEMENT: ["packet-tunnel-provider"]}),
    "ENT005": APP,
    "ENT006": SYSTEM_EXTENSION,
    "ENT007": replace(SYSTEM_EXTENSION, channel=DEVELOPMENT, provider="dns-proxy"),
    "ENT008": SYSTEM_EXTENSION,
    "ENT009": APP_EXTENSION,
    "ENT010": APP_EXTENSION,
    "ENT011": replace(APP_EXTENSION, information={"CFBundleIdentifier": "org.example.app.tunnel"}),
    "ENT012": SYSTEM_EXTENSION,
    "ENT013": APP_EXTENSION,
    "ENT014": replace(APP, channel=STORE),
    "ENT015": SYSTEM_EXTENSION,
    "ENT016": replace(APP_EXTENSION, provider="packet-tunnel"),
    "ENT017": APP,
    "ENT018": replace(APP, profile=_PROFILE),
    "ENT019": APP,
    "ENT020": replace(_ON_DEVICES, others={_GROUPS: ["group.org.example.app"]}),
    "ENT022": APP,
    "ENT025": APP,
    "ENT026": SYSTEM_EXTENSION,
    "PROF003": PROFILE,
    "PROF004": replace(
        SYSTEM_EXTENSION, profile={**_PROFILE, "Entitlements": {ENTITLEMENT: ["dns-proxy-systemextension"]}}
    ),
    "PROF005": PROFILE,
    "PROF006": PROFILE,
    "PROF008": PROFILE,
    "PROF009": PROFILE,
    "PROF010": PROFILE,
    "PROF011": replace(PROFILE, app_profile={**_PROFILE, "ProvisionedDevices": DEVICES}),
    "PROF013": replace(PROFILE, profile={**_PROFILE, "ProvisionsAllDevices": True}),
    "INF001": INFORMATION,
    "INF002": INFORMATION,
    "INF003": INFORMATION,
    "INF005": replace(INFORMATION, provider="transparent-proxy"),
    "INF006": replace(INFORMATION, claims={_GROUPS: ["ABCDE12345.org.example.app"]}),
    "INF007": INFORMATION,
    "INF008": INFORMATION,
    "INF009": INFORMATION,
    "INF010": INFORMATION,
    "INF011": APP_EXTENSION_INFORMATION,
    "INF012": APP_EXTENSION_INFORMATION,
    "INF013": APP_EXTENSION_INFORMATION,
    "INF014": APP_EXTENSION_INFORMATION,
    "INF015": INFORMATION,
    "INF016": INFORMATION,
    "INF017": INFORMATION,
    "INF018": replace(_ON_DEVICES, part="information", provider="url-filter"),
    "INF019": replace(INFORMATION, app_information={"LSMinimumSystemVersion": "12.0"}),
    "INF020": replace(INFORMATION, built_for="13.0"),
    "APP003": replace(APP, part="information", platform=Platform.IOS),
    "APP005": APP,
    "DEP011": replace(_ON_DEVICES, part="profile"),
}
NOT_BY_A_FRAGMENT = {
    "PKG022": "it takes two builds",
    "ENT023": "its fault is in what the app claims; the example is what the profile allows",
    "INF004": "it takes code that lacks a class",
    "DEP007": "it is told of every system extension",
    "DEP013": "it is told of every provider of these kinds",
}


@pytest.mark.parametrize("rule", SHOWN)
def test_before_has_the_fault_and_after_has_not(rule: str) -> None:
    shown, example = SHOWN[rule], EXAMPLES[rule]
    after = replace(shown, kind=BundleKind.APP_EXTENSION) if rule == "INF003" else shown
    assert shown.holds_for(example.before, rule)
    assert not after.holds_for(example.after, rule)


def test_all_fragments_are_tried() -> None:
    in_xml = {name for name in RULES if EXAMPLES[name].language == "xml"}
    assert set(SHOWN) | set(NOT_BY_A_FRAGMENT) == in_xml
    assert not set(SHOWN) & set(NOT_BY_A_FRAGMENT)
