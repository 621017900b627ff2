"""Rules about what code claims."""

from __future__ import annotations

from .rule import Grade, Rule, Severity

RULES = (
    Rule(
        "ENT001", Severity.ERROR, "A standard Network Extension value under Developer ID",
        "Developer ID profiles allow only values that end with -systemextension, in app and extension.",
        "Use the values with the suffix: packet-tunnel-provider-systemextension and its like.",
        Grade.APPLE, ("developer-id-export", "no-policy-value", "dns-proxy-value"), "sysextd",
        "no policy, cannot allow apps outside /Applications",
    ),
    Rule(
        "ENT002", Severity.ERROR, "A value that ends with -systemextension in a build for development or the App Store",
        "Those profiles do not have it.", "Use the standard value there.", Grade.APPLE, ("developer-id-export",),
        "taskgated-helper", "Unsatisfied entitlements",
    ),
    Rule(
        "ENT003", Severity.FATAL, "A Network Extension does not claim com.apple.developer.networking.networkextension",
        "Without it the system does not run a provider.", "Add the capability Network Extensions to the target.",
        Grade.APPLE, ("entitlement",), "nesessionmanager",
    ),
    Rule(
        "ENT004", Severity.ERROR, "The app does not claim what its extension needs",
        "The container app needs the entitlement as well: without it saving a configuration is denied.",
        "Add the capability to the app's target, with the same value.", Grade.APPLE, ("developer-id-export", "reports"),
        "nehelper",
    ),
    Rule(
        "ENT005", Severity.ERROR, "The app may not install its system extension",
        "com.apple.developer.system-extension.install is missing, or not true.", "Add the capability System Extension.",
        Grade.APPLE, ("sysext-errors", "shipping"), "sysextd", "OSSystemExtensionErrorDomain code=2",
    ),
    Rule(
        "ENT006", Severity.WARN, "The extension claims system-extension.install",
        "It belongs to the app; products ship with it all the same.", "Take it out of the extension.",
        Grade.SEEN, ("shipping",),
    ),
    Rule(
        "ENT007", Severity.FATAL, "The provider's kind is not among the values that are claimed",
        "Each kind has a value of its own: a DNS proxy needs dns-proxy, a transparent proxy app-proxy-provider.",
        "Claim the value of the provider's kind.", Grade.APPLE, ("entitlement",), "nesessionmanager",
    ),
    Rule(
        "ENT008", Severity.ERROR, "A value that Apple does not have",
        "transparent-proxy-systemextension, for one, does not exist: transparent proxies use app-proxy.",
        "Use one of the values on Apple's page.", Grade.APPLE, ("entitlement", "reports"),
    ),
    Rule(
        "ENT009", Severity.ERROR, "The entitlement's key is misspelt",
        "A key that the system does not know claims nothing.",
        "The key is com.apple.developer.networking.networkextension.", Grade.REPORTED, ("reports",),
    ),
    Rule(
        "ENT010", Severity.ERROR, "The entitlement is no array of strings",
        "A single string or a boolean is not read.", "Make it an array.", Grade.APPLE, ("entitlement",),
    ),
    Rule(
        "ENT011", Severity.ERROR, "The application identifier is missing or of another bundle",
        "The profile is found by it: com.apple.application-identifier on macOS, application-identifier elsewhere.",
        "Let Xcode add it; when signing by hand put TEAM.bundle-id into the entitlements.",
        Grade.REPORTED, ("reports", "shipping"), "taskgated-helper", "no eligible provisioning profiles found",
    ),
    Rule(
        "ENT012", Severity.WARN, "com.apple.developer.team-identifier is missing or of another team",
        "All products that were looked at have it.", "Add it.", Grade.SEEN, ("shipping",),
    ),
    Rule(
        "ENT013", Severity.ERROR, "A macOS app extension is not sandboxed",
        "PlugInKit refuses it.", "Add the App Sandbox.", Grade.REPORTED, ("reports",), "pkd", "plug-ins"
        " must be sandboxed",
    ),
    Rule(
        "ENT014", Severity.ERROR, "A macOS app for the App Store is not sandboxed",
        "The Mac App Store wants the sandbox, for system extensions too.", "Add the App Sandbox.", Grade.EXPERIENCE,
    ),
    Rule(
        "ENT015", Severity.INFO, "A system extension under Developer ID is not sandboxed",
        "That is allowed; network providers run as root, so consider it.", "", Grade.SEEN, ("shipping",),
    ),
    Rule(
        "ENT016", Severity.WARN, "A sandboxed provider may not open connections",
        "com.apple.security.network.client is missing (network.server for listeners).", "Add it.",
        Grade.SEEN, ("shipping",),
    ),
    Rule(
        "ENT017", Severity.ERROR, "An app group that begins with neither the team's id nor 'group.'",
        "macOS asks the user or denies it, and the App Store refuses it.", "Begin it with TEAMID. or group.",
        Grade.APPLE, ("app-groups",),
    ),
    Rule(
        "ENT018", Severity.WARN, "An app group with group. that the profile does not allow",
        "On macOS such groups have to be in the profile.", "Make a profile with the group, or use TEAMID.name.",
        Grade.APPLE, ("app-groups",),
    ),
    Rule(
        "ENT019", Severity.WARN, "An app group of another team, or with an unexpanded variable",
        "$(TeamIdentifierPrefix) was not filled in when signing by hand.", "Write the team into the file.",
        Grade.REPORTED, ("reports",),
    ),
    Rule(
        "ENT020", Severity.WARN, "App and extension have no app group in common",
        "They cannot share files or defaults.", "Give both the same group.", Grade.EXPERIENCE,
    ),
    Rule(
        "ENT021", Severity.INFO, "A system extension relies on a group container",
        "It runs as root: another container than the app's, and no user's keychain.",
        "Use XPC, or the configuration's providerConfiguration.", Grade.APPLE, ("packaging",),
    ),
    Rule(
        "ENT022", Severity.WARN, "Personal VPN is claimed, and a provider is embedded",
        "com.apple.developer.networking.vpn.api is for the system's own VPN protocols.",
        "Claim Network Extensions for the provider.", Grade.EXPERIENCE,
    ),
    Rule(
        "ENT023", Severity.WARN, "An entitlement that Apple grants on request",
        "App push, hotspot helper and family controls are not self-service; the profile must have them.",
        "Ask Apple, then make a new profile.", Grade.APPLE, ("framework-entitlements", "hotspot"),
    ),
    Rule(
        "ENT025", Severity.INFO, "dns-settings and relay have no form with a suffix",
        "They are used as they are under Developer ID as well.", "Take the suffix off.",
        Grade.APPLE, ("entitlement", "shipping"),
    ),
    Rule(
        "ENT026", Severity.WARN, "A comment in an .entitlements file",
        "The kernel's reader does not take it.", "Take the comments out.",
        Grade.REPORTED, ("reports",), "kernel", "AMFIUnserializeXML: syntax error",
    ),
)  # fmt: skip
