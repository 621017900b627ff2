"""Before and after for the rules PROF. What a profile holds is shown as `security cms -D -i FILE` prints it."""

from __future__ import annotations

from datetime import UTC, datetime

from .example import Example, Value, fragment
from .provider_kinds import ENTITLEMENT

_EXTENSION = "Example.app/Contents/PlugIns/Tunnel.appex/Contents"
_SUFFIX = "-systemextension"


def _of(what: str, before: dict[str, Value], after: dict[str, Value]) -> Example:
    """What two profiles hold."""
    return Example("xml", fragment(before), fragment(after), what)


def _identifier(value: str) -> dict[str, Value]:
    return {"Entitlements": {"com.apple.application-identifier": value}}


EXAMPLES = {
    "PROF001": Example(
        "text",
        f"""\
Example.app/Contents/embedded.provisionprofile
{_EXTENSION}/Info.plist""",
        f"""\
Example.app/Contents/embedded.provisionprofile
{_EXTENSION}/Info.plist
{_EXTENSION}/embedded.provisionprofile""",
    ),
    "PROF002": Example(
        "sh",
        "sed -i '' s/2026/2046/ Example.app/Contents/embedded.provisionprofile",
        "cp ~/Downloads/App_Developer_ID.provisionprofile \\\n    Example.app/Contents/embedded.provisionprofile",
    ),
    "PROF003": _of(
        "the profile",
        {"ExpirationDate": datetime(2025, 1, 31, 12, tzinfo=UTC)},
        {"ExpirationDate": datetime(2043, 1, 31, 12, tzinfo=UTC)},
    ),
    "PROF004": _of(
        f"entitlements of the code; the profile allows dns-proxy{_SUFFIX}",
        {ENTITLEMENT: ["dns-proxy"]},
        {ENTITLEMENT: [f"dns-proxy{_SUFFIX}"]},
    ),
    "PROF005": _of(
        "the profile in org.example.app.filter",
        _identifier("ABCDE12345.org.example.app"),
        _identifier("ABCDE12345.org.example.app.filter"),
    ),
    "PROF006": _of("the profile", _identifier("ABCDE12345.*"), _identifier("ABCDE12345.org.example.app.filter")),
    "PROF007": Example(
        "text",
        """\
signed by              Developer ID Application: Example (ABCDE12345), of 2026
DeveloperCertificates  Developer ID Application: Example (ABCDE12345), of 2021""",
        """\
signed by              Developer ID Application: Example (ABCDE12345), of 2026
DeveloperCertificates  Developer ID Application: Example (ABCDE12345), of 2026""",
    ),
    "PROF008": _of(
        "the profile in a bundle that team ABCDE12345 signs",
        {"TeamIdentifier": ["ZYXWV98765"]},
        {"TeamIdentifier": ["ABCDE12345"]},
    ),
    "PROF009": _of(
        "the profile in a bundle that is signed with Developer ID",
        {"Platform": ["OSX"], "ProvisionedDevices": ["00008103-000000000000000A"]},
        {"Platform": ["OSX"], "ProvisionsAllDevices": True},
    ),
    "PROF010": _of("the profile in a Mac app", {"Platform": ["iOS"]}, {"Platform": ["OSX"]}),
    "PROF011": _of(
        "the extension's profile; the app's has both devices",
        {"ProvisionedDevices": ["00008103-000000000000000A"]},
        {"ProvisionedDevices": ["00008103-000000000000000A", "00008103-000000000000000B"]},
    ),
    "PROF012": Example(
        "text",
        "Example.app/Contents/embedded.mobileprovision",
        "Example.app/Contents/embedded.provisionprofile",
        "a Mac app",
    ),
    "PROF013": _of(
        "the profile, for Developer ID",
        {"Entitlements": {ENTITLEMENT: [f"packet-tunnel-provider{_SUFFIX}"]}},
        {
            "Entitlements": {
                ENTITLEMENT: [
                    f"packet-tunnel-provider{_SUFFIX}",
                    f"app-proxy-provider{_SUFFIX}",
                    f"content-filter-provider{_SUFFIX}",
                    f"dns-proxy{_SUFFIX}",
                    "dns-settings",
                    "relay",
                ]
            }
        },
    ),
    "PROF014": Example(
        "text",
        "Mac OS X Provisioning Profile Signing    notAfter=Aug 31 2026",
        "Nothing: what counts is that the certificate was valid when it signed the profile.",
        "who signed the profile",
    ),
}  # fmt: skip
