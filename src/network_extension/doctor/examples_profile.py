"""Before and after for the rules PROF."""

from __future__ import annotations

from .example import Example

_SYSTEM_EXTENSIONS = "Example.app/Contents/Library/SystemExtensions"

EXAMPLES = {
    "PROF001": Example(
        "text",
        f"""\
Example.app/Contents/embedded.provisionprofile
{_SYSTEM_EXTENSIONS}/org.example.app.filter.systemextension/Contents/
  Info.plist  MacOS/  _CodeSignature/""",
        f"""\
Example.app/Contents/embedded.provisionprofile
{_SYSTEM_EXTENSIONS}/org.example.app.filter.systemextension/Contents/
  Info.plist  MacOS/  _CodeSignature/  embedded.provisionprofile""",
    ),
    "PROF002": Example(
        "sh",
        "sed -i '' s/Old/New/ Example.app/Contents/embedded.provisionprofile",
        "cp ~/Downloads/Example_Developer_ID.provisionprofile \\\n"
        "    Example.app/Contents/embedded.provisionprofile",
    ),
    "PROF003": Example(
        "xml",
        "<key>ExpirationDate</key>\n<date>2025-01-31T00:00:00Z</date>",
        "<key>ExpirationDate</key>\n<date>2043-01-31T00:00:00Z</date>",
    ),
    "PROF004": Example(
        "text",
        "claimed    content-filter-provider\nallowed    content-filter-provider-systemextension",
        "claimed    content-filter-provider-systemextension\nallowed    content-filter-provider-systemextension",
    ),
    "PROF005": Example(
        "text",
        "bundle     org.example.app.filter\nprofile    ABCDE12345.org.example.app",
        "bundle     org.example.app.filter\nprofile    ABCDE12345.org.example.app.filter",
    ),
    "PROF006": Example("text", "profile    ABCDE12345.*", "profile    ABCDE12345.org.example.app.tunnel"),
    "PROF007": Example(
        "text",
        "signed by  Developer ID Application: Example, serial 1F\nprofile    lists serial 0A",
        "signed by  Developer ID Application: Example, serial 1F\nprofile    lists serial 0A and 1F",
    ),
    "PROF008": Example(
        "text",
        "signed by  team ABCDE12345\nprofile    TeamIdentifier ZYXWV98765",
        "signed by  team ABCDE12345\nprofile    TeamIdentifier ABCDE12345",
    ),
    "PROF009": Example(
        "text",
        "signed by  Developer ID Application\nprofile    ProvisionedDevices, no ProvisionsAllDevices",
        "signed by  Developer ID Application\nprofile    ProvisionsAllDevices true",
    ),
    "PROF010": Example(
        "xml",
        "<!-- in a Mac app -->\n<key>Platform</key>\n<array><string>iOS</string></array>",
        "<!-- in a Mac app -->\n<key>Platform</key>\n<array><string>OSX</string></array>",
    ),
    "PROF011": Example(
        "text",
        "app's profile          00008103-000A, 00008103-000B\nextension's profile    00008103-000A",
        "app's profile          00008103-000A, 00008103-000B\nextension's profile    00008103-000A, 00008103-000B",
    ),
    "PROF012": Example(
        "text",
        "Example.app/Contents/embedded.mobileprovision",
        "Example.app/Contents/embedded.provisionprofile",
    ),
    "PROF013": Example(
        "text",
        "profile    packet-tunnel-provider-systemextension",
        """\
profile    packet-tunnel-provider-systemextension, app-proxy-provider-systemextension,
           content-filter-provider-systemextension, dns-proxy-systemextension, dns-settings, relay""",
    ),
    "PROF014": Example(
        "text",
        "Mac OS X Provisioning Profile Signing    notAfter=Aug 31 2026",
        "The same: what counts is that it was valid when it signed.",
    ),
}  # fmt: skip
