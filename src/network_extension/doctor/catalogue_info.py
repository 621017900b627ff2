"""Rules about Info.plists and the container app."""

from __future__ import annotations

from .rule import Grade, Rule, Severity

RULES = (
    Rule(
        "INF001", Severity.FATAL, "A system extension names no provider classes",
        "sysextd finds no category for it without NetworkExtension/NEProviderClasses.",
        "Add NetworkExtension with NEProviderClasses: extension point to class.",
        Grade.APPLE, ("start-mode", "sysext-errors"), "sysextd", "extension category returned error",
    ),
    Rule(
        "INF002", Severity.ERROR, "NEProviderClasses has a key that is no extension point",
        "The short form packet-tunnel is none, for one.", "Write"
        " com.apple.networkextension.packet-tunnel and its like.",
        Grade.APPLE, ("start-mode", "reports"), "sysextd",
    ),
    Rule(
        "INF003", Severity.ERROR, "An extension point that system extensions do not have",
        "filter-control, app-push, url-filter-control and hotspot points are for app extensions.",
        "Make it an app extension.", Grade.APPLE, ("TN3134",),
    ),
    Rule(
        "INF004", Severity.ERROR, "The provider's class is not in the code",
        "The module's name differs, the class was stripped, or @objc gave it another name.",
        "Name it $(PRODUCT_MODULE_NAME).Class, and see that it is linked.", Grade.SEEN, ("formats",),
    ),
    Rule(
        "INF005", Severity.ERROR, "The provider's class is of another kind than its extension point",
        "A transparent proxy under packet-tunnel, say.", "Use the point of the class's kind.", Grade.SEEN, ("formats",),
    ),
    Rule(
        "INF006", Severity.ERROR, "NEMachServiceName does not begin with an app group of the extension",
        "The name has to be one of its groups, or below one. The app is only told code 9.",
        "Use $(TeamIdentifierPrefix)group.name, and claim that group.",
        Grade.APPLE, ("mach-service", "reports"), "sysextd",
        "invalid mach service name or is not signed, the value must be prefixed with one of the App Groups in the"
        " entitlement",
    ),
    Rule(
        "INF007", Severity.INFO, "No NEMachServiceName", "It is needed only where the app talks XPC to the extension.",
        "", Grade.APPLE, ("xpc", "shipping"),
    ),
    Rule(
        "INF008", Severity.ERROR, "NEMachServiceName stands where it is not read",
        "It belongs into the dictionary NetworkExtension of a system extension.", "Move it there.",
        Grade.APPLE, ("start-mode", "reports"),
    ),
    Rule(
        "INF009", Severity.ERROR, "A system extension without NSSystemExtensionUsageDescription",
        "It is required, and its absence is an error at the activation. An empty text is a warning: LuLu ships so.",
        "Say in a sentence what the extension is for.", Grade.APPLE, ("usage-description", "shipping"), "sysextd",
        "extension category returned error",
    ),
    Rule(
        "INF010", Severity.ERROR, "A system extension with an app extension's keys",
        "NSExtension or XPCService in its Info.plist.", "Take them out.",
        Grade.REPORTED, ("reports",), "sysextd", "extension category returned error",
    ),
    Rule(
        "INF011", Severity.FATAL, "An app extension names no extension point of Network Extension",
        "PlugInKit never offers it to the system.", "Set NSExtensionPointIdentifier.",
        Grade.APPLE, ("app-push", "reports"), "pkd",
    ),
    Rule(
        "INF012", Severity.ERROR, "NSExtensionPrincipalClass is missing, or not in the code",
        "The system cannot make the provider.", "Name it $(PRODUCT_MODULE_NAME).Class.",
        Grade.APPLE, ("app-push", "formats"),
    ),
    Rule(
        "INF013", Severity.ERROR, "An app extension with the keys of both kinds",
        "NSExtension and EXAppExtensionAttributes.", "Keep one.", Grade.REPORTED, ("url-filter", "reports"),
    ),
    Rule(
        "INF014", Severity.ERROR, "An app extension's id is not its app's with one more part",
        "It cannot be installed.", "Name it <app id>.<one part>.", Grade.APPLE, ("id-prefix", "id-child"),
    ),
    Rule(
        "INF015", Severity.WARN, "A system extension's id does not begin with its app's",
        "sysextd takes it; Xcode and the App Store complain.", "Name it <app id>.<part>.", Grade.SEEN, ("shipping",),
    ),
    Rule(
        "INF016", Severity.ERROR, "A system extension without a version",
        "Without CFBundleVersion and CFBundleShortVersionString it is passed over.", "Set both.",
        Grade.REPORTED, ("reports",), "sysextd", "Extension not found in App bundle",
    ),
    Rule(
        "INF017", Severity.ERROR, "A build setting that was not filled in",
        "$(…), ${…} or a placeholder stands in the built file.", "Fill it in, or let Xcode process the file.",
        Grade.REPORTED, ("reports",),
    ),
    Rule(
        "INF018", Severity.ERROR, "The least system version is below the provider's",
        "A URL filter needs 26.0, a tunnel on tvOS 17.0, an Ethernet tunnel 13.0.", "Raise it.",
        Grade.APPLE, ("TN3134",),
    ),
    Rule(
        "INF019", Severity.WARN, "The extension needs a newer system than its app",
        "The app is installed where the extension cannot run.", "Give both the same least version.", Grade.EXPERIENCE,
    ),
    Rule(
        "INF020", Severity.WARN, "Info.plist and code name different least system versions",
        "What is linked goes by the code's.", "Set the deployment target once.", Grade.SEEN, ("formats",),
    ),
    Rule(
        "APP001", Severity.ERROR, "The extension is not in an app of its own",
        "Its container has to be the app itself, not a helper.", "Embed it in the app.", Grade.APPLE, ("id-child",),
    ),
    Rule(
        "APP002", Severity.WARN, "Nothing in the app makes the provider's configuration",
        "No code uses its manager class, so only MDM could configure it.",
        "Use NETunnelProviderManager, NEFilterManager and their like.", Grade.SEEN, ("formats",),
    ),
    Rule(
        "APP003", Severity.WARN, "A hotspot helper without its background mode",
        "Registering fails without network-authentication in UIBackgroundModes.", "Add it.",
        Grade.APPLE, ("hotspot",),
    ),
    Rule(
        "APP004", Severity.INFO, "relay and dns-settings need no extension", "The app alone configures them.", "",
        Grade.APPLE, ("entitlement",),
    ),
    Rule(
        "APP005", Severity.WARN, "An app without sandbox uses a group that begins with 'group.'",
        "macOS 15 and later ask the user.", "Use a group that begins with the team.", Grade.APPLE, ("app-groups",),
    ),
)  # fmt: skip
