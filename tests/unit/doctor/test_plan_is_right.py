"""A build that follows `netext doctor plan` has nothing that `netext doctor PATH` would refuse."""

from __future__ import annotations

import plistlib
from pathlib import Path

import pytest

from network_extension.doctor.deployment_table import Channel, Packaging, Platform
from network_extension.doctor.plan import Plan, make_plan
from network_extension.doctor.rule import Severity
from tests.doctor_authorities import TEAM
from tests.doctor_builds import (
    APP_ID,
    GROUPS,
    MANAGER,
    PROVIDER,
    Build,
    app_extension,
    application_identifier,
    mac_build,
    mobile_build,
)

KINDS = {Channel.DEVELOPER_ID: "developer id", Channel.DEVELOPMENT: "development", Channel.APP_STORE: "app store"}
SYSTEM_EXTENSIONS = [
    (provider, channel)
    for provider in ("packet-tunnel", "transparent-proxy", "content-filter", "dns-proxy")
    for channel in Channel
]


def follow(build: Build, plan: Plan) -> None:
    """The plan's files, with the variables filled in as Xcode does it."""
    for part, name in ((build.app, "App.entitlements"), (build.extension, "Extension.entitlements")):
        on_mac = plan.deployment.platform is Platform.MACOS
        identifier = part.information["CFBundleIdentifier"]
        part.entitlements = {**plistlib.loads(plan.files[name]), **application_identifier(identifier, on_mac)}
        assert part.profile is not None
        part.profile["Entitlements"][GROUPS] = part.entitlements[GROUPS]
    declared = plistlib.loads(plan.files["Extension-Info.plist"])
    declared.pop("CFBundleIdentifier")
    information = build.extension.information
    provider = _provider_class(information)
    information |= declared
    for values in (
        information.get("NetworkExtension", {}).get("NEProviderClasses", {}),
        information.get("NSExtension", {}),
    ):
        for key, value in values.items():
            if value == "$(PRODUCT_MODULE_NAME).Provider":
                values[key] = provider
    build.extension.rename_import(PROVIDER, f"_OBJC_CLASS_$_{plan.kind.classes[0]}")
    build.app.rename_import(MANAGER, f"_OBJC_CLASS_$_{plan.kind.managers[0]}")


def _provider_class(information: dict[str, object]) -> str:
    classic = information.get("NSExtension")
    if isinstance(classic, dict):
        return str(classic["NSExtensionPrincipalClass"])
    declared = information["NetworkExtension"]
    assert isinstance(declared, dict)
    return str(next(iter(declared["NEProviderClasses"].values())))


def assert_nothing_is_refused(build: Build) -> None:
    build.finish()
    report = build.examine()
    bad = [(found.rule.id, found.evidence) for found in report.findings if found.severity >= Severity.ERROR]
    warned = {found.rule.id for found in report.findings if found.severity is Severity.WARN}
    assert bad == [] and warned <= {"DEP012"}, (bad, warned)


@pytest.mark.parametrize(("provider", "channel"), SYSTEM_EXTENSIONS)
def test_system_extensions(provider: str, channel: Channel, tmp_path: Path) -> None:
    build = mac_build(tmp_path, KINDS[channel])
    plan = make_plan(
        provider, Platform.MACOS, channel, bundle_id=APP_ID, team=TEAM, packaging=Packaging.SYSTEM_EXTENSION
    )
    follow(build, plan)
    assert_nothing_is_refused(build)


@pytest.mark.parametrize("channel", [Channel.DEVELOPMENT, Channel.APP_STORE])
def test_app_extensions_for_the_mac(channel: Channel, tmp_path: Path) -> None:
    build = app_extension(mac_build(tmp_path, KINDS[channel]), "packet-tunnel")
    plan = make_plan(
        "packet-tunnel", Platform.MACOS, channel, bundle_id=APP_ID, team=TEAM, packaging=Packaging.APP_EXTENSION
    )
    follow(build, plan)
    assert_nothing_is_refused(build)


@pytest.mark.parametrize("channel", [Channel.DEVELOPMENT, Channel.APP_STORE])
def test_app_extensions_for_ios(channel: Channel, tmp_path: Path) -> None:
    build = mobile_build(tmp_path, KINDS[channel])
    plan = make_plan("packet-tunnel", Platform.IOS, channel, bundle_id=APP_ID, team=TEAM)
    follow(build, plan)
    assert_nothing_is_refused(build)
