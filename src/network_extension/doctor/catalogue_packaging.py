"""Rules about where code lies in a bundle, and how it is packed."""

from __future__ import annotations

from .rule import Grade, Rule, Severity

RULES = (
    Rule(
        "PKG001", Severity.ERROR, "A macOS app extension with a Network Extension is signed with Developer ID",
        "With Developer ID a provider runs only as a system extension; an app extension is for the App Store alone. It"
        " works from Xcode, whose builds are signed for development, and is ended after the export.",
        "Make it a system extension: Contents/Library/SystemExtensions/<id>.systemextension, package type SYSX,"
        " NEProviderClasses, startSystemExtensionMode(), OSSystemExtensionRequest. Or ship it in the App Store.",
        Grade.APPLE, ("TN3134", "developer-id-export", "signature-check"), "nesessionmanager",
        "Signature check failed: code failed to satisfy specified code requirement(s)",
    ),
    Rule(
        "PKG002", Severity.FATAL, "An app extension claims a value that ends with -systemextension",
        "Those values belong to system extensions under Developer ID; in an app extension they are never right.",
        "Take the suffix off (development, App Store), or make it a system extension (PKG001).",
        Grade.APPLE, ("developer-id-export", "entitlement", "signature-check"), "nesessionmanager",
        "Signature check failed: code failed to satisfy specified code requirement(s)",
    ),
    Rule(
        "PKG003", Severity.ERROR, "A system extension lies outside Contents/Library/SystemExtensions",
        "sysextd looks nowhere else.",
        "Move it there: Xcode's phase Embed System Extensions does.",
        Grade.APPLE, ("sysext-errors",), "sysextd", "OSSystemExtensionErrorDomain code=4",
    ),
    Rule(
        "PKG004", Severity.ERROR, "A system extension's folder is not named <CFBundleIdentifier>.systemextension",
        "sysextd finds an extension by that name. It says 'Extension not found in App bundle', and often 'no policy,"
        " cannot allow apps outside /Applications', which leads astray.",
        "Set PRODUCT_NAME to PRODUCT_BUNDLE_IDENTIFIER.",
        Grade.REPORTED, ("no-policy-name", "reports"), "sysextd", "Extension not found in App bundle",
    ),
    Rule(
        "PKG005", Severity.ERROR, "A system extension's CFBundlePackageType is not SYSX",
        "sysextd refuses every other type.", "Set CFBundlePackageType to SYSX.",
        Grade.REPORTED, ("reports", "shipping"), "sysextd", "package type not SYSX",
    ),
    Rule(
        "PKG006", Severity.ERROR, "An app extension's CFBundlePackageType is not XPC!",
        "PlugInKit passes it over.", "Set CFBundlePackageType to XPC!.", Grade.EXPERIENCE, (), "pkd",
    ),
    Rule(
        "PKG007", Severity.FATAL, "A system extension in an app for iOS, tvOS or visionOS",
        "These platforms have app extensions only.", "Put the provider into PlugIns as an .appex.",
        Grade.APPLE, ("TN3134",),
    ),
    Rule(
        "PKG008", Severity.ERROR, "A content filter, packet filter or DNS proxy for macOS as an app extension",
        "On macOS these are system extensions on every channel, since 10.15.", "Make it a system extension (PKG001).",
        Grade.APPLE, ("TN3134",),
    ),
    Rule(
        "PKG009", Severity.ERROR, "A URL filter as a system extension",
        "URL filter providers are app extensions, on iOS and on macOS 26 and later.",
        "Make it an ExtensionKit app extension in Extensions.", Grade.APPLE, ("TN3134", "url-filter"),
    ),
    Rule(
        "PKG010", Severity.ERROR, "A Network Extension app extension does not lie directly in its app",
        "The system looks into PlugIns and Extensions of the container app, and not into frameworks or"
        " other extensions.",
        "Embed it in the app's own PlugIns (ExtensionKit: Extensions).", Grade.APPLE, ("id-child",),
    ),
    Rule(
        "PKG011", Severity.ERROR, "An app extension lies in the folder of the other kind",
        "URL filter and hotspot providers are ExtensionKit's: Extensions, with EXAppExtensionAttributes."
        " All others lie in"
        " PlugIns, with NSExtension.",
        "Move it, and give it the dictionary of its kind.", Grade.REPORTED, ("url-filter", "reports"),
    ),
    Rule(
        "PKG012", Severity.ERROR, "A system extension's code starts as an app extension",
        "launchd starts it, not PlugInKit. With NSExtensionMain it traps; without startSystemExtensionMode() it never"
        " answers nesessionmanager.",
        "Let main() call NEProvider.startSystemExtensionMode() and dispatchMain().",
        Grade.APPLE, ("start-mode", "reports"), "launchd",
    ),
    Rule(
        "PKG013", Severity.ERROR, "An app extension's code has no NSExtensionMain",
        "PlugInKit starts it there.", "Link with -e _NSExtensionMain, as Xcode's templates do.", Grade.EXPERIENCE,
    ),
    Rule(
        "PKG014", Severity.WARN, "Nothing in the app asks for its system extension to be activated",
        "No code imports OSSystemExtensionRequest, and nobody else may start the extension.",
        "Submit an activation request from the app.", Grade.APPLE, ("sysext-install", "shipping"),
    ),
    Rule(
        "PKG015", Severity.WARN, "Only a helper asks for the system extension",
        "Requests are expected from the app's main executable.", "Submit the request from the app itself.",
        Grade.REPORTED, ("reports",),
    ),
    Rule(
        "PKG016", Severity.ERROR, "The main executable is missing, a script, or no Mach-O file",
        "A script carries no entitlements.", "Use a Mach-O launcher.",
        Grade.REPORTED, ("reports",), "amfid", "-413 No matching profile found",
    ),
    Rule(
        "PKG017", Severity.WARN, "App and extension have different architectures",
        "Where one is missing, the extension does not start.", "Build both for the same ones.", Grade.EXPERIENCE,
    ),
    Rule(
        "PKG018", Severity.WARN, "Two extensions with one bundle id",
        "Only one can be activated.", "Give each its own id.",
        Grade.APPLE, ("sysext-errors",), "sysextd", "OSSystemExtensionErrorDomain code=6",
    ),
    Rule(
        "PKG019", Severity.WARN, "The installer package may put the app elsewhere",
        "Where the bundle is relocatable, a stray copy is overwritten instead of /Applications, and the extension is"
        " refused there.",
        "Set BundleIsRelocatable to false.", Grade.REPORTED, ("reports",), "sysextd",
        "no policy, cannot allow apps outside /Applications",
    ),
    Rule(
        "PKG020", Severity.ERROR, "The installer package puts the app outside /Applications",
        "Its system extension is refused there.", "Install to /Applications or a folder in it.",
        Grade.APPLE, ("sysext-errors",), "sysextd", "OSSystemExtensionErrorDomain code=3",
    ),
    Rule(
        "PKG021", Severity.INFO, "An app with a system extension has to run from /Applications",
        "And no second copy with the same id may be known to the system: from DerivedData, Downloads, TestFlight.",
        "Look for copies with mdfind 'kMDItemCFBundleIdentifier == <id>'.",
        Grade.REPORTED, ("provisioned-devices", "reports"),
    ),
    Rule(
        "PKG022", Severity.WARN, "Another build with the same version",
        "sysextd may keep the extension that is installed.", "Raise CFBundleVersion with each build.",
        Grade.SEEN, ("reports", "shipping"),
    ),
    Rule(
        "PKG023", Severity.INFO, "The archive is signed for development",
        "That is normal. An export to Developer ID signs anew, from the inside out, with Developer ID"
        " profiles and values"
        " that end with -systemextension; Xcode before 27 does not do it by itself.",
        "See the forum's instructions.", Grade.APPLE, ("developer-id-export",),
    ),
)  # fmt: skip
