"""Before and after for the rules SIG."""

from __future__ import annotations

from .example import Example

_EXTENSION = "Example.app/Contents/Library/SystemExtensions/org.example.app.filter.systemextension"
_SIGN = 'codesign -s "Developer ID Application" -o runtime --timestamp'
_REQUIREMENT = (
    'designated => identifier "org.example.app.filter" and anchor apple generic\n'
    "  and certificate leaf[subject.OU] = ABCDE12345"
)

EXAMPLES = {
    "SIG001": Example(
        "sh",
        "$ codesign -dv Example.app\nExample.app: code object is not signed at all",
        f"{_SIGN} \\\n    {_EXTENSION}\n{_SIGN} Example.app",
    ),
    "SIG002": Example(
        "sh",
        "codesign -s - --entitlements App.entitlements Example.app",
        'codesign -s "Apple Development" --entitlements App.entitlements Example.app',
    ),
    "SIG003": Example(
        "sh",
        'codesign -s "Developer ID Application" Example.app\nstrip Example.app/Contents/MacOS/Example',
        'strip Example.app/Contents/MacOS/Example\ncodesign -s "Developer ID Application" Example.app',
    ),
    "SIG004": Example(
        "sh",
        'codesign -s "Developer ID Application" Example.app\n'
        "plutil -replace CFBundleVersion -string 42 Example.app/Contents/Info.plist",
        "plutil -replace CFBundleVersion -string 42 Example.app/Contents/Info.plist\n"
        'codesign -s "Developer ID Application" Example.app',
    ),
    "SIG005": Example(
        "sh",
        'codesign -s "Developer ID Application" Example.app\ncp notes.txt Example.app/Contents/Resources/',
        'cp notes.txt Example.app/Contents/Resources/\ncodesign -s "Developer ID Application" Example.app',
    ),
    "SIG006": Example(
        "sh",
        f"codesign -s ID Example.app\ncodesign -f -s ID {_EXTENSION}",
        f"codesign -f -s ID {_EXTENSION}\ncodesign -f -s ID Example.app",
    ),
    "SIG007": Example(
        "sh",
        "$ ldid -SFilter.entitlements filter          # an old version, which writes no DER",
        "codesign -f -s ID --generate-entitlement-der --entitlements Filter.entitlements filter",
    ),
    "SIG008": Example(
        "sh",
        "$ codesign --verify Example.app\nExample.app: invalid signature (code or signature have been modified)",
        "codesign -f -s ID -o runtime --timestamp Example.app\ncodesign --verify --strict Example.app",
    ),
    "SIG009": Example(
        "text",
        "Authority=My Own Certificate",
        "Authority=Developer ID Application: Example (ABCDE12345)\n"
        "Authority=Developer ID Certification Authority\n"
        "Authority=Apple Root CA",
    ),
    "SIG010": Example(
        "sh",
        f"codesign -s ID --identifier filter \\\n    {_EXTENSION}",
        f"codesign -s ID {_EXTENSION}",
    ),
    "SIG011": Example(
        "text",
        "Example.app                               TeamIdentifier=ABCDE12345\n"
        "org.example.app.filter.systemextension    TeamIdentifier=ZYXWV98765",
        "Example.app                               TeamIdentifier=ABCDE12345\n"
        "org.example.app.filter.systemextension    TeamIdentifier=ABCDE12345",
    ),
    "SIG012": Example(
        "text",
        'designated => cdhash H"6d62ff36bb1e53278a6ea276178a33ea0504615e"',
        _REQUIREMENT,
    ),
    "SIG013": Example(
        "sh",
        'codesign -s "Developer ID Application" --timestamp Example.app',
        'codesign -s "Developer ID Application" --timestamp --options runtime Example.app',
    ),
    "SIG014": Example(
        "xml",
        "<key>com.apple.security.get-task-allow</key>\n<true/>",
        "<!-- CODE_SIGN_INJECT_BASE_ENTITLEMENTS = NO in the release configuration -->",
    ),
    "SIG015": Example(
        "sh",
        'codesign -s "Developer ID Application" -o runtime Example.app',
        'codesign -s "Developer ID Application" -o runtime --timestamp Example.app',
    ),
    "SIG016": Example(
        "sh",
        "$ xcrun stapler validate Example.app\nExample.app does not have a ticket stapled to it.",
        "ditto -c -k --keepParent Example.app Example.zip\n"
        "xcrun notarytool submit Example.zip --keychain-profile notary --wait\n"
        "xcrun stapler staple Example.app",
    ),
    "SIG017": Example(
        "sh",
        "xcrun stapler staple Example.app\ncodesign -f -s ID -o runtime --timestamp Example.app",
        "codesign -f -s ID -o runtime --timestamp Example.app\n"
        "ditto -c -k --keepParent Example.app Example.zip\n"
        "xcrun notarytool submit Example.zip --keychain-profile notary --wait\n"
        "xcrun stapler staple Example.app",
    ),
    "SIG018": Example(
        "text",
        "Developer ID Application: Example (ABCDE12345)    Not After : Feb  1 22:12:15 2027 GMT",
        "Developer ID Application: Example (ABCDE12345)    Not After : Sep 17 00:00:00 2031 GMT",
    ),
    "SIG019": Example(
        "text",
        "Authority=Developer ID Certification Authority    OU=Apple Certification Authority",
        "Authority=Developer ID Certification Authority    OU=G2",
    ),
    "SIG020": Example(
        "sh",
        "codesign -s ID --entitlements Old.entitlements example-x86_64\n"
        "codesign -s ID --entitlements New.entitlements example-arm64\n"
        "lipo -create example-x86_64 example-arm64 -output example",
        "lipo -create example-x86_64 example-arm64 -output example\n"
        "codesign -f -s ID --entitlements New.entitlements example",
    ),
    "SIG021": Example(
        "sh",
        "$ codesign -dvvv Example.app 2>&1 | grep choices\nHash choices=sha1",
        "$ codesign -dvvv Example.app 2>&1 | grep choices\nHash choices=sha256",
    ),
    "SIG022": Example(
        "xml",
        "<key>com.apple.security.cs.disable-library-validation</key>\n<true/>",
        "<!-- taken out: the extension's libraries are signed by its own team -->",
    ),
    "SIG023": Example(
        "text",
        "Example.app                               Authority=Developer ID Application: Example\n"
        "org.example.app.filter.systemextension    Authority=Apple Development: A Developer",
        "Example.app                               Authority=Developer ID Application: Example\n"
        "org.example.app.filter.systemextension    Authority=Developer ID Application: Example",
    ),
}  # fmt: skip
