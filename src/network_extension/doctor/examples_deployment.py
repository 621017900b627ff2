"""Before and after for the rules DEP; where nothing has to be mended, what else there is."""

from __future__ import annotations

from .example import Example

_EVERYBODY = "runs on every device, without management"

EXAMPLES = {
    "DEP001": Example(
        "swift",
        """\
class Provider: NEDNSProxyProvider {      // supervised or managed devices only
    override func handleNewFlow(_ flow: NEAppProxyFlow) -> Bool { … }
}""",
        f"""\
let manager = NEDNSSettingsManager.shared()      // {_EVERYBODY}
try await manager.loadFromPreferences()
let settings = NEDNSOverHTTPSSettings(servers: ["192.0.2.53"])
settings.serverURL = URL(string: "https://dns.example.org/dns-query")
manager.dnsSettings = settings
try await manager.saveToPreferences()""",
    ),
    "DEP002": Example(
        "swift",
        """\
class Provider: NEFilterDataProvider {    // supervised devices only
    override func handleNewFlow(_ flow: NEFilterFlow) -> NEFilterNewFlowVerdict { … }
}""",
        f"""\
let manager = NEURLFilterManager.shared          // iOS 26; {_EVERYBODY}
try await manager.loadFromPreferences()
try manager.setConfiguration(
    pirServerURL: server, pirPrivacyPassIssuerURL: issuer, pirAuthenticationToken: token,
    controlProviderBundleIdentifier: "org.example.app.url-filter")
manager.isEnabled = true
try await manager.saveToPreferences()""",
    ),
    "DEP003": Example(
        "text",
        "app proxy        managed devices, per-app VPN, configured by MDM",
        f"packet tunnel    {_EVERYBODY}",
    ),
    "DEP004": Example(
        "text",
        "per-app mode     managed devices; MDM installs the apps that it is for",
        f"whole device     {_EVERYBODY}",
    ),
    "DEP005": Example(
        "text",
        "transparent proxy    iOS",
        "transparent proxy    macOS 10.15 and later\npacket tunnel        iOS 9.0 and later",
    ),
    "DEP006": Example(
        "text",
        "Mac Catalyst    app extension       Developer ID",
        "Mac Catalyst    app extension       App Store\nmacOS           system extension    Developer ID",
    ),
    "DEP007": Example(
        "text",
        "The user allows it in System Settings, General, Login Items & Extensions.",
        """\
MDM does, by com.apple.system-extension-policy:
  AllowedSystemExtensions
    ABCDE12345    [org.example.app.filter]""",
    ),
    "DEP008": Example(
        "sh",
        "$ log show --last 10m --predicate 'process == \"sysextd\"'\n"
        "no policy, cannot allow apps outside /Applications",
        """\
$ mdfind "kMDItemCFBundleIdentifier == 'org.example.app'"
$ log show --last 10m --predicate 'process == "sysextd"' | grep -e -67062 -e -67050""",
    ),
    "DEP009": Example(
        "text",
        "Apple Development: runs on the Macs in the profile",
        "Developer ID Application, notarised: runs on every Mac",
    ),
    "DEP010": Example(
        "sh",
        "pfctl -e -f /etc/pf.anchors/org.example        # in the package's postinstall",
        "# nothing: NEFilterDataProvider filters, NETransparentProxyProvider redirects",
    ),
    "DEP011": Example(
        "text",
        "ProvisionsAllDevices on iOS: in-house, for the enterprise's own people",
        "No ProvisionsAllDevices, no ProvisionedDevices: for the App Store",
    ),
    "DEP012": Example(
        "text",
        "TestFlight build, system updated since: the extension is refused at its next start",
        "Delete the app, and install the build from TestFlight again",
    ),
    "DEP013": Example(
        "text",
        "app-push-provider in the entitlements, and not in the profile",
        "Ask Apple for it; then make a new profile, which has it",
    ),
}  # fmt: skip
