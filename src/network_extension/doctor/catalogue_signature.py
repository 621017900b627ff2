"""Rules about code signatures, certificates and notarisation."""

from __future__ import annotations

from .rule import Grade, Rule, Severity

RULES = (
    Rule(
        "SIG001", Severity.FATAL, "App or extension is not signed",
        "Unsigned code is refused (errSecCSUnsigned, -67062), and sysextd adds a line about /Applications that leads"
        " astray.",
        "Sign it: from the inside out, the extension first.", Grade.REPORTED, ("reports",), "sysextd",
        "MacOS error: -67062",
    ),
    Rule(
        "SIG002", Severity.FATAL, "Code that is signed ad hoc claims a restricted entitlement",
        "Only a provisioning profile allows those, and an ad hoc signature has none.",
        "Sign with a certificate and a profile. For a test Mac: SIP off and systemextensionsctl developer on.",
        Grade.REPORTED, ("TN3125", "reports"), "amfid", "-413 No matching profile found",
    ),
    Rule(
        "SIG003", Severity.FATAL, "Code has changed since it was signed",
        "A page's hash differs: strip, install_name_tool, a packer, or a line-ending conversion came after codesign.",
        "Change first, then sign.", Grade.SEEN, ("formats",), "kernel",
    ),
    Rule(
        "SIG004", Severity.FATAL, "Info.plist has changed since it was signed",
        "Stamping a version into a signed bundle does this.", "Stamp first, then sign.", Grade.SEEN, ("formats",),
    ),
    Rule(
        "SIG005", Severity.FATAL, "A sealed file has changed, is missing, or has been added",
        "The seal names every file: 'a sealed resource is missing or invalid'.", "Copy files in before signing.",
        Grade.SEEN, ("formats",),
    ),
    Rule(
        "SIG006", Severity.FATAL, "Nested code was signed after the code around it",
        "The app's seal names the extension's signature, and that one is another now.",
        "Sign from the inside out: extension and frameworks first, the app last.",
        Grade.APPLE, ("developer-id-export", "formats"),
    ),
    Rule(
        "SIG007", Severity.ERROR, "The two forms of the entitlements differ, or the DER form is missing",
        "codesign shows XML, the system reads DER.", "Sign again with a current tool.",
        Grade.SEEN, ("formats",), "amfid",
    ),
    Rule(
        "SIG008", Severity.FATAL, "The signature does not fit what it signs",
        "The digest in the signature is not the code directory's, or the signature itself is false.", "Sign again.",
        Grade.SEEN, ("formats",),
    ),
    Rule(
        "SIG009", Severity.ERROR, "The certificate does not lead to Apple's root",
        "A certificate of one's own will do for tests of this tool; macOS refuses it.",
        "Sign with a certificate of your team.", Grade.REPORTED, ("reports",), "amfid",
    ),
    Rule(
        "SIG010", Severity.ERROR, "The signature's identifier is not the CFBundleIdentifier",
        "nesessionmanager and designated requirements go by the identifier.",
        "codesign --identifier with the bundle id, or none at all.", Grade.EXPERIENCE,
    ),
    Rule(
        "SIG011", Severity.FATAL, "App, extension, certificate and profile are not of one team",
        "A provider and its app have to be.", "Sign all with one team's certificates and profiles.",
        Grade.APPLE, ("provisioned-devices", "reports"), "nesessionmanager",
        "Signature check failed: code failed to satisfy specified code requirement(s)",
    ),
    Rule(
        "SIG012", Severity.ERROR, "The code does not satisfy its own designated requirement",
        "Or the requirement is a cdhash, which the next build cannot satisfy.", "Let codesign write the requirement.",
        Grade.SEEN, ("signature-check", "formats"), "nesessionmanager",
        "Signature check failed: code failed to satisfy specified code requirement(s)",
    ),
    Rule(
        "SIG013", Severity.ERROR, "Developer ID without the hardened runtime",
        "The notary service refuses it.", "codesign --options runtime, on app and extension.",
        Grade.APPLE, ("developer-id-export",),
    ),
    Rule(
        "SIG014", Severity.ERROR, "A build for distribution may be debugged",
        "get-task-allow is for development; notary service and App Store refuse it.",
        "Build for release; CODE_SIGN_INJECT_BASE_ENTITLEMENTS=NO takes it out.", Grade.APPLE, ("TN3125",),
    ),
    Rule(
        "SIG015", Severity.ERROR, "Developer ID without a secure timestamp",
        "The notary service wants one.", "codesign --timestamp.", Grade.APPLE, ("developer-id-export",),
    ),
    Rule(
        "SIG016", Severity.ERROR, "A system extension under Developer ID without a notarisation ticket",
        "System policy wants Developer ID system extensions notarised. Without a stapled ticket the Mac asks online,"
        " which fails where it cannot.",
        "Notarise, then staple: xcrun stapler staple.", Grade.APPLE, ("no-policy-value", "must-notarise"), "sysextd",
        "bundle code signature is not valid - does not satisfy requirement: -67050",
    ),
    Rule(
        "SIG017", Severity.ERROR, "The notarisation ticket is of another build",
        "It does not name this code's hash: something was signed again afterwards.", "Notarise and staple again.",
        Grade.SEEN, ("formats",), "sysextd",
        "bundle code signature is not valid - does not satisfy requirement: -67050",
    ),
    Rule(
        "SIG018", Severity.WARN, "The certificate has expired",
        "Code that was timestamped before goes on working; new builds cannot be signed.", "Get a new certificate.",
        Grade.EXPERIENCE,
    ),
    Rule(
        "SIG019", Severity.INFO, "The certificate comes from the first Developer ID authority, which"
        " ends on 2027-02-01",
        "Builds after that day need a certificate of the second one, and a profile that lists it.",
        "Renew both in time.", Grade.SEEN, ("shipping",),
    ),
    Rule(
        "SIG020", Severity.WARN, "Architectures are signed with different claims",
        "Identifier, team or entitlements differ between slices.", "Sign the universal file once.", Grade.EXPERIENCE,
    ),
    Rule(
        "SIG021", Severity.INFO, "Hashes are SHA-1 only", "An old tool has signed.", "Sign again with a current one.",
        Grade.EXPERIENCE,
    ),
    Rule(
        "SIG022", Severity.WARN, "A system extension opens its hardened runtime",
        "Library validation, DYLD variables or page protection are off in a process that runs as root.",
        "Take the exceptions out.", Grade.EXPERIENCE,
    ),
    Rule(
        "SIG023", Severity.ERROR, "App and extension are signed for different channels",
        "One with Developer ID, the other for development, say.", "Sign both for one channel.",
        Grade.APPLE, ("developer-id-export",),
    ),
)  # fmt: skip
