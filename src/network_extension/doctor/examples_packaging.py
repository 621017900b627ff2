"""Before and after for the rules PKG."""

from __future__ import annotations

from .example import Example

EXAMPLES = {
    "PKG001": Example(
        "text",
        """\
Example.app/Contents/PlugIns/Tunnel.appex            signed with Developer ID Application
  NSExtension/NSExtensionPointIdentifier  com.apple.networkextension.packet-tunnel""",
        """\
Example.app/Contents/Library/SystemExtensions/org.example.app.tunnel.systemextension
  CFBundlePackageType                     SYSX
  NetworkExtension/NEProviderClasses      com.apple.networkextension.packet-tunnel → Tunnel.Provider""",
    ),
    "PKG002": Example(
        "xml",
        """\
<!-- Tunnel.appex -->
<key>com.apple.developer.networking.networkextension</key>
<array><string>packet-tunnel-provider-systemextension</string></array>""",
        """\
<key>com.apple.developer.networking.networkextension</key>
<array><string>packet-tunnel-provider</string></array>""",
    ),
    "PKG003": Example(
        "text",
        "Example.app/Contents/Library/Extensions/org.example.app.filter.systemextension",
        "Example.app/Contents/Library/SystemExtensions/org.example.app.filter.systemextension",
    ),
    "PKG004": Example(
        "text",
        """\
Contents/Library/SystemExtensions/FilterData.systemextension
  CFBundleIdentifier  org.example.app.filter""",
        """\
Contents/Library/SystemExtensions/org.example.app.filter.systemextension
  CFBundleIdentifier  org.example.app.filter""",
    ),
    "PKG005": Example(
        "xml",
        "<key>CFBundlePackageType</key>\n<string>BNDL</string>",
        "<key>CFBundlePackageType</key>\n<string>SYSX</string>",
    ),
    "PKG006": Example(
        "xml",
        "<key>CFBundlePackageType</key>\n<string>APPL</string>",
        "<key>CFBundlePackageType</key>\n<string>XPC!</string>",
    ),
    "PKG007": Example(
        "text",
        "Example.app/PlugIns/org.example.app.tunnel.systemextension      (iOS)",
        "Example.app/PlugIns/Tunnel.appex                                (iOS)",
    ),
    "PKG008": Example(
        "text",
        "Example.app/Contents/PlugIns/DNSProxy.appex                     (macOS)",
        "Example.app/Contents/Library/SystemExtensions/org.example.app.dns.systemextension",
    ),
    "PKG009": Example(
        "text",
        """\
Example.app/Contents/Library/SystemExtensions/org.example.app.urls.systemextension
  NetworkExtension/NEProviderClasses      com.apple.networkextension.url-filter-control""",
        """\
Example.app/Contents/Extensions/URLFilter.appex
  EXAppExtensionAttributes/EXExtensionPointIdentifier  com.apple.networkextension.url-filter-control""",
    ),
    "PKG010": Example(
        "text",
        "Example.app/Contents/Frameworks/Kit.framework/PlugIns/Tunnel.appex",
        "Example.app/Contents/PlugIns/Tunnel.appex",
    ),
    "PKG011": Example(
        "text",
        "Example.app/PlugIns/URLFilter.appex       EXAppExtensionAttributes",
        "Example.app/Extensions/URLFilter.appex    EXAppExtensionAttributes",
    ),
    "PKG012": Example(
        "swift",
        """\
// Linked with -e _NSExtensionMain, as the template of an app extension does; there is no main.""",
        """\
import NetworkExtension

// main.swift, without -e in OTHER_LDFLAGS
autoreleasepool {
    NEProvider.startSystemExtensionMode()
}
dispatchMain()""",
    ),
    "PKG013": Example(
        "text",
        "OTHER_LDFLAGS =",
        "OTHER_LDFLAGS = -e _NSExtensionMain",
    ),
    "PKG014": Example(
        "swift",
        "// The app has no code that submits a request.",
        """\
import SystemExtensions

let request = OSSystemExtensionRequest.activationRequest(
    forExtensionWithIdentifier: "org.example.app.filter", queue: .main)
request.delegate = self
OSSystemExtensionManager.shared.submitRequest(request)""",
    ),
    "PKG015": Example(
        "text",
        """\
Example.app/Contents/MacOS/Example            does not import OSSystemExtensionRequest
Example.app/Contents/MacOS/example-helper     imports it""",
        "Example.app/Contents/MacOS/Example            imports OSSystemExtensionRequest",
    ),
    "PKG016": Example(
        "sh",
        """\
$ head -1 Example.app/Contents/MacOS/Example
#!/bin/sh""",
        """\
$ file Example.app/Contents/MacOS/Example
Mach-O universal binary with 2 architectures: [x86_64] [arm64]""",
    ),
    "PKG017": Example(
        "sh",
        """\
$ lipo -archs Example.app/Contents/MacOS/Example
x86_64 arm64
$ lipo -archs Example.app/Contents/PlugIns/Tunnel.appex/Contents/MacOS/Tunnel
arm64""",
        """\
$ lipo -archs Example.app/Contents/PlugIns/Tunnel.appex/Contents/MacOS/Tunnel
x86_64 arm64""",
    ),
    "PKG018": Example(
        "text",
        """\
PlugIns/Tunnel.appex    CFBundleIdentifier  org.example.app.extension
PlugIns/Filter.appex    CFBundleIdentifier  org.example.app.extension""",
        """\
PlugIns/Tunnel.appex    CFBundleIdentifier  org.example.app.tunnel
PlugIns/Filter.appex    CFBundleIdentifier  org.example.app.filter""",
    ),
    "PKG019": Example(
        "sh",
        "pkgbuild --root root --install-location /Applications Example.pkg",
        """\
pkgbuild --analyze --root root parts.plist
plutil -replace 0.BundleIsRelocatable -bool NO parts.plist
pkgbuild --root root --component-plist parts.plist --install-location /Applications Example.pkg""",
    ),
    "PKG020": Example(
        "sh",
        "pkgbuild --component Example.app --install-location /opt/example Example.pkg",
        "pkgbuild --component Example.app --install-location /Applications Example.pkg",
    ),
    "PKG021": Example(
        "sh",
        """\
$ mdfind "kMDItemCFBundleIdentifier == 'org.example.app'"
/Applications/Example.app
/Users/me/Library/Developer/Xcode/DerivedData/Example/Build/Products/Debug/Example.app""",
        """\
$ mdfind "kMDItemCFBundleIdentifier == 'org.example.app'"
/Applications/Example.app""",
    ),
    "PKG022": Example(
        "text",
        """\
installed   CFBundleShortVersionString 2.0  CFBundleVersion 1  cdhash 6d62ff36…
new         CFBundleShortVersionString 2.0  CFBundleVersion 1  cdhash 1a88b066…""",
        "new         CFBundleShortVersionString 2.0  CFBundleVersion 2  cdhash 1a88b066…",
    ),
    "PKG023": Example(
        "sh",
        """\
$ plutil -extract ApplicationProperties.SigningIdentity raw Example.xcarchive/Info.plist
Apple Development: A Developer (ABCDE12345)""",
        """\
codesign -f -s "Developer ID Application" -o runtime --timestamp --entitlements Filter.entitlements \\
    Example.app/Contents/Library/SystemExtensions/org.example.app.filter.systemextension
codesign -f -s "Developer ID Application" -o runtime --timestamp --entitlements App.entitlements \\
    Example.app""",
    ),
}  # fmt: skip
