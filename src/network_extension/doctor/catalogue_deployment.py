"""Rules about where and by whom a provider may be run: what no bundle shows, and its developer must know."""

from __future__ import annotations

from .rule import Grade, Rule, Severity

RULES = (
    Rule(
        "DEP001", Severity.WARN, "A DNS proxy for iOS or visionOS runs on supervised or managed devices only",
        "From Xcode it runs on any; from TestFlight and the App Store it needs supervision, or per-app"
        " management (iOS 16,"
        " visionOS 1.1), and a configuration by MDM.",
        "For everybody else use DNS settings: NEDNSSettingsManager, which needs nothing.",
        Grade.APPLE, ("TN3134", "dns-proxy-payload"),
    ),
    Rule(
        "DEP002", Severity.WARN, "A content filter for iOS or visionOS runs on supervised devices only",
        "Or for a child with Family Controls (iOS 15), or per app on managed devices (iOS 16).",
        "For everybody else use a URL filter (26 and later).", Grade.APPLE, ("TN3134",),
    ),
    Rule(
        "DEP003", Severity.WARN, "An app proxy for iOS or visionOS runs on managed devices only",
        "It is a per-app VPN, configured by MDM.", "For everybody else use a packet tunnel.", Grade.APPLE, ("TN3134",),
    ),
    Rule(
        "DEP004", Severity.INFO, "A packet tunnel's per-app mode needs managed devices",
        "The apps that it is for have to be installed by MDM; tvOS and visionOS 1.0 have no such mode.", "",
        Grade.APPLE, ("TN3134",),
    ),
    Rule(
        "DEP005", Severity.ERROR, "The provider does not exist on this platform",
        "A transparent proxy on iOS, app push on macOS, a content filter in Catalyst.",
        "See TN3134 for what there is.", Grade.APPLE, ("TN3134",),
    ),
    Rule(
        "DEP006", Severity.WARN, "Catalyst and iOS apps on the Mac: App Store only",
        "Their providers are app extensions.", "Ship it there, or make a Mac app.", Grade.APPLE, ("TN3134",),
    ),
    Rule(
        "DEP007", Severity.INFO, "The user has to approve a system extension",
        "In System Settings, or MDM does by com.apple.system-extension-policy. Error 10: a policy forbids it.", "",
        Grade.APPLE, ("sysext-errors", "reports"), "sysextd", "OSSystemExtensionErrorDomain code=10",
    ),
    Rule(
        "DEP008", Severity.INFO, "macOS 26 refuses some correct apps",
        "Many reports of 'no policy, cannot allow apps outside /Applications' for apps that are in"
        " order; Apple calls the"
        " line a red herring. Lines with -67062 or -67050 before it tell more.",
        "Look for copies of the app (mdfind, lsregister), and for those lines.",
        Grade.REPORTED, ("no-policy", "reports"), "sysextd", "no policy, cannot allow apps outside /Applications",
    ),
    Rule(
        "DEP009", Severity.INFO, "A development build runs on registered Macs only",
        "The Mac has to be in the profile; outside /Applications SIP has to be off and the developer mode on.", "",
        Grade.APPLE, ("no-policy-value",),
    ),
    Rule(
        "DEP010", Severity.INFO, "A packet tunnel is no filter and no proxy server",
        "And pf, which a script calls, is not API.", "Use the provider that is meant for it.",
        Grade.APPLE, ("TN3120", "TN3165"),
    ),
    Rule(
        "DEP011", Severity.WARN, "An in-house build", "Its profile is for all devices of an enterprise.",
        "Distribute it there only.", Grade.EXPERIENCE,
    ),
    Rule(
        "DEP012", Severity.WARN, "System extensions from TestFlight have been refused after a system update",
        "'Code has restricted entitlements, but the validation of its code signature failed'.",
        "Tell testers to install the build again.", Grade.REPORTED, ("restricted-update",), "amfid",
        "Code has restricted entitlements, but the validation of its code signature failed",
    ),
    Rule(
        "DEP013", Severity.INFO, "Apple grants this provider's entitlement on request",
        "App push and hotspot providers.", "Ask for it early.", Grade.APPLE, ("framework-entitlements", "hotspot"),
    ),
)  # fmt: skip
