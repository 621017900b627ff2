"""Before and after for the rules DEP; where nothing has to be mended, what else there is."""

from __future__ import annotations

from .example import Example, fragment
from .provider_kinds import ENTITLEMENT

_EVERYBODY = "every device, without management"

EXAMPLES = {
    "DEP001": Example(
        "swift",
        """\
// On supervised or managed devices, configured by MDM.
class Provider: NEDNSProxyProvider {
    override func handleNewFlow(_ flow: NEAppProxyFlow) -> Bool { … }
}""",
        """\
// In the app, without an extension: it claims dns-settings, and the user turns it on in Settings.
let manager = NEDNSSettingsManager.shared()
try await manager.loadFromPreferences()
let settings = NEDNSOverHTTPSSettings(servers: ["192.0.2.53"])
settings.serverURL = URL(string: "https://dns.example.org/dns-query")
manager.dnsSettings = settings
try await manager.saveToPreferences()""",
    ),
    "DEP002": Example(
        "swift",
        """\
// On supervised devices.
class Provider: NEFilterDataProvider {
    override func handleNewFlow(_ flow: NEFilterFlow) -> NEFilterNewFlowVerdict { … }
}""",
        """\
// iOS 26 and later: URLs are looked up in a service of yours, which learns nothing of them.
let manager = NEURLFilterManager.shared
try await manager.loadFromPreferences()
try manager.setConfiguration(
    pirServerURL: service, pirPrivacyPassIssuerURL: issuer, pirAuthenticationToken: token,
    controlProviderBundleIdentifier: "org.example.app.urls")
manager.isEnabled = true
try await manager.saveToPreferences()""",
    ),
    "DEP003": Example(
        "text",
        "app proxy      managed devices, per-app VPN, configured by MDM",
        f"packet tunnel  {_EVERYBODY}",
    ),
    "DEP004": Example(
        "text",
        "packet tunnel, per-app mode  managed devices, and MDM installs the apps that it is for",
        f"packet tunnel                {_EVERYBODY}",
    ),
    "DEP005": Example(
        "text",
        "transparent proxy  iOS",
        "transparent proxy  macOS 10.15 and later\npacket tunnel      iOS 9.0 and later",
    ),
    "DEP006": Example(
        "text",
        "Mac Catalyst  app extension     Developer ID",
        "Mac Catalyst  app extension     App Store\nmacOS         system extension  Developer ID",
    ),
    "DEP007": Example(
        "xml",
        fragment({"PayloadType": "com.apple.system-extension-policy", "AllowUserOverrides": True}),
        fragment(
            {
                "PayloadType": "com.apple.system-extension-policy",
                "AllowedSystemExtensions": {"ABCDE12345": ["org.example.app.filter"]},
            }
        ),
        "payload by MDM, without the extension and with it",
    ),
    "DEP008": Example(
        "sh",
        """\
$ log show --last 10m --predicate 'process == "sysextd"' | grep -c 'no policy, cannot allow'
1""",
        """\
mdfind "kMDItemCFBundleIdentifier == 'org.example.app'"
log show --last 10m --info --predicate 'process == "sysextd"' | grep -e -67062 -e -67050""",
    ),
    "DEP009": Example(
        "text",
        "Apple Development                    runs on the Macs that the profile lists",
        "Developer ID Application, notarised  runs on every Mac",
    ),
    "DEP010": Example(
        "sh",
        "pfctl -e -f /etc/pf.anchors/org.example    # in the package's postinstall",
        "# Nothing: a content filter drops flows, a transparent proxy redirects them.",
    ),
    "DEP011": Example(
        "xml",
        fragment({"Platform": ["iOS"], "ProvisionsAllDevices": True}),
        fragment({"Platform": ["iOS"]}),
        "the profile: in-house, and for the App Store",
    ),
    "DEP012": Example(
        "text",
        "TestFlight's build, and macOS was updated since: the extension is refused",
        "The same build, installed again from TestFlight",
    ),
    "DEP013": Example(
        "xml",
        fragment({"Entitlements": {"application-identifier": "ABCDE12345.org.example.app"}}),
        fragment(
            {
                "Entitlements": {
                    "application-identifier": "ABCDE12345.org.example.app",
                    ENTITLEMENT: ["app-push-provider"],
                }
            }
        ),
        "the profile, before and after Apple's answer",
    ),
}  # fmt: skip
