"""Plans for every provider, platform and channel that TN3134 has, and a clear no for all others."""

from __future__ import annotations

import itertools
import json
import plistlib
from pathlib import Path

import pytest

from network_extension.cli.main import main
from network_extension.doctor.deployment_table import TABLE, Channel, Deployment, Packaging, Platform, deployments
from network_extension.doctor.plan import Plan, make_plan
from network_extension.doctor.provider_kinds import ENTITLEMENT, KINDS
from network_extension.errors import ConfigurationError

EVERY = [
    (row, channel)
    for row, channel in itertools.product(TABLE, Channel)
    if channel is not Channel.DEVELOPER_ID
    or (row.platform is Platform.MACOS and not row.app_store_only and KINDS[row.provider].developer_id_value)
]
WHOLE = pytest.mark.parametrize(
    ("row", "channel"), EVERY, ids=[f"{row.provider}-{row.platform}-{row.packaging}-{way}" for row, way in EVERY]
)


def planned(row: Deployment, channel: Channel) -> Plan:
    return make_plan(
        row.provider, row.platform, channel, bundle_id="org.example.app", team="ABCDE12345", packaging=row.packaging
    )


def read(made: Plan, name: str) -> dict[str, object]:
    content: dict[str, object] = plistlib.loads(made.files[name])
    return content


@WHOLE
def test_what_is_claimed_fits_the_channel(row: Deployment, channel: Channel) -> None:
    """The faults that ENT001, ENT002, ENT004, ENT005, ENT013 and PKG002 name are not in a plan."""
    made = planned(row, channel)
    app = read(made, "App.entitlements")
    kind = KINDS[row.provider]
    value = kind.developer_id_value if channel is Channel.DEVELOPER_ID else kind.value
    assert app[ENTITLEMENT] == [value]
    assert app.get("com.apple.developer.system-extension.install", False) is (
        row.packaging is Packaging.SYSTEM_EXTENSION
    )
    if row.packaging is Packaging.NONE:
        assert set(made.files) == {"App.entitlements"} and made.place == ""
        return
    extension = read(made, "Extension.entitlements")
    assert extension[ENTITLEMENT] == [value]
    assert "com.apple.developer.system-extension.install" not in extension
    assert app["com.apple.security.application-groups"] == extension["com.apple.security.application-groups"]
    if row.packaging is Packaging.APP_EXTENSION:
        assert not value.endswith("-systemextension")
        if row.platform in (Platform.MACOS, Platform.CATALYST):
            assert extension["com.apple.security.app-sandbox"] is True


@WHOLE
def test_where_it_lies_and_what_its_info_says(row: Deployment, channel: Channel) -> None:
    made = planned(row, channel)
    if row.packaging is Packaging.NONE:
        return
    info = read(made, "Extension-Info.plist")
    point = KINDS[row.provider].point
    if row.packaging is Packaging.SYSTEM_EXTENSION:
        assert made.place == "Contents/Library/SystemExtensions/org.example.app.extension.systemextension"
        assert info["CFBundlePackageType"] == "SYSX" and info["NSSystemExtensionUsageDescription"]
        assert info["NetworkExtension"] == {"NEProviderClasses": {point: "$(PRODUCT_MODULE_NAME).Provider"}}
        assert any("startSystemExtensionMode" in step for step in made.steps)
    elif KINDS[row.provider].is_extension_kit:
        assert made.place.endswith("Extensions/Extension.appex")
        assert info["EXAppExtensionAttributes"] == {"EXExtensionPointIdentifier": point} and "NSExtension" not in info
    else:
        assert made.place.endswith("PlugIns/Extension.appex")
        assert info["CFBundlePackageType"] == "XPC!"
    assert made.place.startswith("Contents/") is (row.platform in (Platform.MACOS, Platform.CATALYST))
    assert str(info["CFBundleIdentifier"]).startswith("org.example.app.")


def test_every_other_combination_is_refused_with_what_there_is() -> None:
    there = {(row.provider, row.platform, channel) for row, channel in EVERY}
    for provider, platform, channel in itertools.product(KINDS, Platform, Channel):
        if (provider, platform, channel) not in there:
            with pytest.raises(ConfigurationError, match=r"TN3134|app-store"):
                make_plan(provider, platform, channel)


def test_where_there_is_a_choice() -> None:
    assert make_plan("packet-tunnel", Platform.MACOS, Channel.APP_STORE).deployment.packaging is Packaging.APP_EXTENSION
    assert len(deployments("packet-tunnel", Platform.MACOS)) == 2
    assert len(deployments("packet-tunnel", Platform.MACOS, Channel.DEVELOPER_ID)) == 1
    with pytest.raises(ConfigurationError, match="as a system extension only"):
        make_plan("dns-proxy", Platform.MACOS, Channel.APP_STORE, packaging=Packaging.APP_EXTENSION)


def test_who_needs_supervision_hears_of_the_alternative() -> None:
    """S14: a DNS proxy from TestFlight."""
    made = make_plan("dns-proxy", Platform.IOS, Channel.APP_STORE)
    assert "supervised" in made.deployment.needs and made.instead.startswith("dns-settings")
    assert make_plan("packet-tunnel", Platform.IOS, Channel.APP_STORE).instead == ""


@pytest.mark.parametrize(
    "wrong", [{"bundle_id": "nodots"}, {"bundle_id": "a..b"}, {"bundle_id": "a.b/c"}, {"team": "short"}, {"team": ""}]
)
def test_names_that_cannot_be(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="wanted"):
        make_plan("packet-tunnel", Platform.IOS, Channel.DEVELOPMENT, **wrong)  # type: ignore[arg-type]


class TestCommand:
    WORDS = ("doctor", "plan", "--provider", "packet-tunnel", "--platform", "macos", "--channel", "developer-id")

    def test_files_are_written_and_none_is_replaced(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = tmp_path / "new" / "plan"
        assert main([*self.WORDS, "-o", str(folder)]) == 0
        assert sorted(path.name for path in folder.iterdir()) == [
            "App.entitlements", "Extension-Info.plist", "Extension.entitlements",
        ]  # fmt: skip
        (folder / "App.entitlements").write_text("mine")
        assert main([*self.WORDS, "-o", str(folder)]) == 78
        assert "is there already" in capsys.readouterr().err
        assert (folder / "App.entitlements").read_text() == "mine"
        assert main([*self.WORDS, "-o", str(folder / "App.entitlements" / "x")]) == 78

    def test_text_and_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*self.WORDS]) == 0
        said = capsys.readouterr().out
        assert "system extension" in said and "packet-tunnel-provider-systemextension" in said
        assert main([*self.WORDS, "--json"]) == 0
        record = json.loads(capsys.readouterr().out)
        assert record["packaging"] == "system extension" and "SYSX" in record["files"]["Extension-Info.plist"]

    def test_what_does_not_exist(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["doctor", "plan", "--provider", "transparent-proxy", "--platform", "ios"]) == 78
        assert "it does on macos" in capsys.readouterr().err
