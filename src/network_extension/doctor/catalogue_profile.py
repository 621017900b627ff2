"""Rules about provisioning profiles."""

from __future__ import annotations

from .rule import Grade, Rule, Severity

RULES = (
    Rule(
        "PROF001", Severity.FATAL, "Code claims a restricted entitlement, and its bundle has no profile",
        "App and extension need one each. systemextensionsctl goes on saying 'activated enabled' while the process is"
        " ended at each start.",
        "Embed a profile in each: embedded.provisionprofile in Contents (macOS), embedded.mobileprovision elsewhere.",
        Grade.APPLE, ("TN3125", "reports"), "amfid",
        "Code has restricted entitlements, but the validation of its code signature failed",
    ),
    Rule(
        "PROF002", Severity.FATAL, "The profile cannot be read, or its signature is false",
        "It was changed or cut off.", "Download it again.", Grade.SEEN, ("formats",), "taskgated-helper",
    ),
    Rule(
        "PROF003", Severity.ERROR, "The profile has expired", "The system no longer counts it.",
        "Make a new one, and sign again.", Grade.APPLE, ("TN3125",), "taskgated-helper",
    ),
    Rule(
        "PROF004", Severity.FATAL, "The code claims more than the profile allows",
        "A process that claims a restricted entitlement without permission is ended at its start.",
        "Enable the capability and make a new profile, or claim another value: mind the suffix -systemextension.",
        Grade.APPLE, ("TN3125", "trusted-execution", "dns-proxy-value"), "taskgated-helper", "Unsatisfied entitlements",
    ),
    Rule(
        "PROF005", Severity.ERROR, "The profile is of another app",
        "Its application identifier does not fit this bundle: the app's profile in the extension, say.",
        "Embed the profile of this bundle id.", Grade.REPORTED, ("reports",), "taskgated-helper",
        "no eligible provisioning profiles found",
    ),
    Rule(
        "PROF006", Severity.ERROR, "The profile is for a wildcard App ID",
        "The capability Network Extensions needs an explicit one.", "Register the bundle id, and make a"
        " profile for it.",
        Grade.EXPERIENCE,
    ),
    Rule(
        "PROF007", Severity.FATAL, "The profile does not list the certificate that signed",
        "It was made for another one.", "Make the profile anew with this certificate.",
        Grade.APPLE, ("TN3125", "formats"), "taskgated-helper", "no eligible provisioning profiles found",
    ),
    Rule(
        "PROF008", Severity.ERROR, "The profile is of another team", "It allows that team's code only.",
        "Use your team's.", Grade.APPLE, ("TN3125",), "taskgated-helper",
    ),
    Rule(
        "PROF009", Severity.ERROR, "The profile is for another channel than the signature",
        "A development profile that stayed behind in a Developer ID export is the usual case.",
        "Replace the profiles of app and extension before signing again.", Grade.APPLE, ("developer-id-export",),
        "taskgated-helper", "no eligible provisioning profiles found",
    ),
    Rule(
        "PROF010", Severity.ERROR, "The profile is for another platform",
        "A profile for iOS in a Mac app, say.", "Make one for this platform.", Grade.SEEN, ("formats",),
    ),
    Rule(
        "PROF011", Severity.WARN, "App and extension are for different devices",
        "Where the extension's profile lacks a device that the app's has, only the extension fails. On a Mac it is the"
        " Provisioning UDID that counts.",
        "Make both profiles with the same devices.", Grade.APPLE, ("provisioned-devices",), "nesessionmanager",
        "Signature check failed: code failed to satisfy specified code requirement(s)",
    ),
    Rule(
        "PROF012", Severity.ERROR, "The profile's file has the other platform's name",
        "embedded.mobileprovision is not read in a Mac app, embedded.provisionprofile nowhere else.", "Rename it.",
        Grade.APPLE, ("TN3125",),
    ),
    Rule(
        "PROF013", Severity.WARN, "A Developer ID profile without values that end with -systemextension",
        "It was made before the capability was enabled.", "Make it anew: the portal gives all of them.",
        Grade.APPLE, ("no-policy-value", "dns-proxy-value", "shipping"),
    ),
    Rule(
        "PROF014", Severity.INFO, "The profile is signed with SHA-1, or by a certificate that has expired",
        "So are profiles in products that work.", "", Grade.SEEN, ("shipping",),
    ),
)  # fmt: skip
