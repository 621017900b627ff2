"""Before and after for the rules SIG.

`codesign --force` leaves the entitlements out unless it is given them, or told to keep them: so each command here is.
"""

from __future__ import annotations

from .example import Example, fragment
from .provider_kinds import ENTITLEMENT

_EXTENSION = "extension=Example.app/Contents/Library/SystemExtensions/org.example.app.filter.systemextension"
_DEVELOPER_ID = 'codesign --force --sign "Developer ID Application" --options runtime --timestamp'
_KEEP = "--preserve-metadata=entitlements"
_SIGN_APP = f"{_DEVELOPER_ID} \\\n    --entitlements App.entitlements Example.app"
_SIGN_EXTENSION = f'{_DEVELOPER_ID} \\\n    --entitlements Filter.entitlements "$extension"'
_NOTARISE = """\
ditto -c -k --keepParent Example.app Example.zip
xcrun notarytool submit Example.zip --keychain-profile notary --wait
xcrun stapler staple Example.app"""
_REQUIREMENT = """\
designated => anchor apple generic and identifier "org.example.app.filter"
  and (certificate leaf[field.1.2.840.113635.100.6.1.9] /* exists */
    or certificate 1[field.1.2.840.113635.100.6.2.6] /* exists */
    and certificate leaf[field.1.2.840.113635.100.6.1.13] /* exists */
    and certificate leaf[subject.OU] = ABCDE12345)"""
_VALUE = {ENTITLEMENT: ["content-filter-provider-systemextension"]}


def _shown(what: str, app: str, extension: str) -> str:
    """A line of `codesign --display`, of app and extension."""
    return (
        f"$ codesign --display --verbose=2 Example.app 2>&1 | grep -m 1 {what}\n{what}={app}\n"
        f'$ codesign --display --verbose=2 "$extension" 2>&1 | grep -m 1 {what}\n{what}={extension}'
    )


def _certificate(number: int, field: str, value: str) -> str:
    return f"""\
$ codesign --display --extract-certificates Example.app
$ openssl x509 -inform der -in codesign{number} -noout -{field}
{value}"""


EXAMPLES = {
    "SIG001": Example(
        "sh",
        "$ codesign --display Example.app\nExample.app: code object is not signed at all",
        f"{_EXTENSION}\n{_SIGN_EXTENSION}\n{_SIGN_APP}",
    ),
    "SIG002": Example(
        "sh",
        "codesign --sign - --entitlements App.entitlements Example.app",
        "cp App_Development.provisionprofile Example.app/Contents/embedded.provisionprofile\n"
        'codesign --sign "Apple Development" --entitlements App.entitlements Example.app',
    ),
    "SIG003": Example(
        "sh",
        f"{_SIGN_APP}\nstrip Example.app/Contents/MacOS/Example",
        f"strip Example.app/Contents/MacOS/Example\n{_SIGN_APP}",
    ),
    "SIG004": Example(
        "sh",
        f"{_SIGN_APP}\nplutil -replace CFBundleVersion -string 42 Example.app/Contents/Info.plist",
        f"plutil -replace CFBundleVersion -string 42 Example.app/Contents/Info.plist\n{_SIGN_APP}",
    ),
    "SIG005": Example(
        "sh",
        f"{_SIGN_APP}\ncp rules.json Example.app/Contents/Resources/",
        f"cp rules.json Example.app/Contents/Resources/\n{_SIGN_APP}",
    ),
    "SIG006": Example(
        "sh",
        f"{_EXTENSION}\n{_SIGN_APP}\n{_SIGN_EXTENSION}",
        f"{_EXTENSION}\n{_SIGN_EXTENSION}\n{_SIGN_APP}",
    ),
    "SIG007": Example(
        "sh",
        "ldid -SFilter.entitlements Filter        # an old version, which writes the XML form alone",
        'codesign --force --sign "Developer ID Application" --generate-entitlement-der \\\n'
        '    --entitlements Filter.entitlements "$extension"',
    ),
    "SIG008": Example(
        "sh",
        "$ codesign --verify --verbose=2 Example.app\n"
        "Example.app: invalid signature (code or signature have been modified)",
        f"$ {_DEVELOPER_ID} \\\n    {_KEEP} Example.app\n"
        "$ codesign --verify --verbose=2 Example.app\n"
        "Example.app: valid on disk\nExample.app: satisfies its Designated Requirement",
    ),
    "SIG009": Example(
        "sh",
        "$ codesign --display --verbose=2 Example.app 2>&1 | grep Authority\nAuthority=My Own Certificate",
        "$ codesign --display --verbose=2 Example.app 2>&1 | grep Authority\n"
        "Authority=Developer ID Application: Example (ABCDE12345)\n"
        "Authority=Developer ID Certification Authority\n"
        "Authority=Apple Root CA",
    ),
    "SIG010": Example(
        "sh",
        f'{_DEVELOPER_ID} \\\n    --entitlements Filter.entitlements --identifier filter "$extension"',
        _SIGN_EXTENSION,
    ),
    "SIG011": Example(
        "sh", _shown("TeamIdentifier", "ABCDE12345", "ZYXWV98765"), _shown("TeamIdentifier", "ABCDE12345", "ABCDE12345")
    ),
    "SIG012": Example(
        "text",
        'designated => cdhash H"6d62ff36bb1e53278a6ea276178a33ea0504615e"',
        _REQUIREMENT,
        "what codesign --display --requirements - prints of the extension",
    ),
    "SIG013": Example(
        "sh",
        'codesign --force --sign "Developer ID Application" --timestamp \\\n'
        '    --entitlements Filter.entitlements "$extension"',
        _SIGN_EXTENSION,
    ),
    "SIG014": Example(
        "xml",
        fragment({**_VALUE, "com.apple.security.get-task-allow": True}),
        fragment(_VALUE),
        "entitlements that were signed",
    ),
    "SIG015": Example(
        "sh",
        'codesign --force --sign "Developer ID Application" --options runtime \\\n'
        '    --entitlements Filter.entitlements "$extension"',
        _SIGN_EXTENSION,
    ),
    "SIG016": Example(
        "sh",
        "$ xcrun stapler validate Example.app\nExample.app does not have a ticket stapled to it.",
        _NOTARISE,
    ),
    "SIG017": Example("sh", f"{_NOTARISE}\n{_SIGN_APP}", f"{_SIGN_APP}\n{_NOTARISE}"),
    "SIG018": Example(
        "sh",
        _certificate(0, "enddate", "notAfter=Jun  2 12:00:00 2025 GMT"),
        _certificate(0, "enddate", "notAfter=Jun  2 12:00:00 2030 GMT"),
    ),
    "SIG019": Example(
        "text",
        "CN=Developer ID Certification Authority, OU=Apple Certification Authority, O=Apple Inc., C=US",
        "CN=Developer ID Certification Authority, OU=G2, O=Apple Inc., C=US",
        "issuer of the certificate that signed",
    ),
    "SIG020": Example(
        "sh",
        "codesign --sign ID --entitlements Old.entitlements example-x86_64\n"
        "codesign --sign ID --entitlements New.entitlements example-arm64\n"
        "lipo -create example-x86_64 example-arm64 -output example",
        "lipo -create example-x86_64 example-arm64 -output example\n"
        "codesign --force --sign ID --entitlements New.entitlements example",
    ),
    "SIG021": Example(
        "sh",
        "$ codesign --display --verbose=3 Example.app 2>&1 | grep 'Hash choices'\nHash choices=sha1",
        "$ codesign --display --verbose=3 Example.app 2>&1 | grep 'Hash choices'\nHash choices=sha256",
    ),
    "SIG022": Example(
        "xml",
        fragment({**_VALUE, "com.apple.security.cs.disable-library-validation": True}),
        fragment(_VALUE),
        "entitlements of a system extension",
    ),
    "SIG023": Example(
        "sh",
        _shown(
            "Authority", "Developer ID Application: Example (ABCDE12345)", "Apple Development: A Developer (ABCDE12345)"
        ),
        _shown(
            "Authority",
            "Developer ID Application: Example (ABCDE12345)",
            "Developer ID Application: Example (ABCDE12345)",
        ),
    ),
}  # fmt: skip
