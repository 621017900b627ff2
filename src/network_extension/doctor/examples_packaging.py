"""Before and after for the rules PKG."""

from __future__ import annotations

from .example import Example, fragment
from .provider_kinds import ENTITLEMENT

_FILTER = "Example.app/Contents/Library/SystemExtensions/org.example.app.filter.systemextension"
_TUNNEL = "Example.app/Contents/PlugIns/Tunnel.appex"
_SIGN = 'codesign --force --sign "Developer ID Application" --options runtime --timestamp'

EXAMPLES = {
    "PKG001": Example(
        "text",
        f"""\
{_TUNNEL}
  CFBundlePackageType         XPC!
  NSExtensionPointIdentifier  com.apple.networkextension.packet-tunnel
  entitlement                 packet-tunnel-provider
  signed by                   Developer ID Application""",
        """\
Example.app/Contents/Library/SystemExtensions/org.example.app.tunnel.systemextension
  CFBundlePackageType         SYSX
  NEProviderClasses           com.apple.networkextension.packet-tunnel: Tunnel.Provider
  entitlement                 packet-tunnel-provider-systemextension
  signed by                   Developer ID Application""",
    ),
    "PKG002": Example(
        "xml",
        fragment({ENTITLEMENT: ["packet-tunnel-provider-systemextension"]}),
        fragment({ENTITLEMENT: ["packet-tunnel-provider"]}),
        "entitlements of an app extension",
    ),
    "PKG003": Example(
        "text", "Example.app/Contents/Library/Extensions/org.example.app.filter.systemextension", _FILTER
    ),
    "PKG004": Example(
        "text",
        """\
Example.app/Contents/Library/SystemExtensions/FilterData.systemextension
  CFBundleIdentifier  org.example.app.filter""",
        f"{_FILTER}\n  CFBundleIdentifier  org.example.app.filter",
    ),
    "PKG005": Example(
        "xml",
        fragment({"CFBundlePackageType": "BNDL"}),
        fragment({"CFBundlePackageType": "SYSX"}),
        "Info.plist of a system extension",
    ),
    "PKG006": Example(
        "xml",
        fragment({"CFBundlePackageType": "APPL"}),
        fragment({"CFBundlePackageType": "XPC!"}),
        "Info.plist of an app extension",
    ),
    "PKG007": Example(
        "text",
        "Example.app/Library/SystemExtensions/org.example.app.tunnel.systemextension",
        "Example.app/PlugIns/Tunnel.appex",
        "an app for iOS",
    ),
    "PKG008": Example(
        "text",
        """\
Example.app/Contents/PlugIns/DNSProxy.appex
  NSExtensionPointIdentifier  com.apple.networkextension.dns-proxy""",
        """\
Example.app/Contents/Library/SystemExtensions/org.example.app.dns.systemextension
  NEProviderClasses           com.apple.networkextension.dns-proxy: DNSProxy.Provider""",
        "an app for macOS",
    ),
    "PKG009": Example(
        "text",
        """\
Example.app/Contents/Library/SystemExtensions/org.example.app.urls.systemextension
  NEProviderClasses          com.apple.networkextension.url-filter-control: URLs.Provider""",
        """\
Example.app/Contents/Extensions/URLFilter.appex
  EXExtensionPointIdentifier  com.apple.networkextension.url-filter-control""",
    ),
    "PKG010": Example("text", "Example.app/Contents/Frameworks/Kit.framework/PlugIns/Tunnel.appex", _TUNNEL),
    "PKG011": Example(
        "text",
        """\
Example.app/Contents/PlugIns/URLFilter.appex
  EXAppExtensionAttributes  com.apple.networkextension.url-filter-control""",
        """\
Example.app/Contents/Extensions/URLFilter.appex
  EXAppExtensionAttributes  com.apple.networkextension.url-filter-control""",
    ),
    "PKG012": Example(
        "swift",
        """\
// Linked with -e _NSExtensionMain, as an app extension is; there is no main.swift.
import NetworkExtension

class Provider: NEFilterDataProvider {}""",
        """\
// main.swift; OTHER_LDFLAGS names no entry point.
import Foundation
import NetworkExtension

autoreleasepool {
    NEProvider.startSystemExtensionMode()
}
dispatchMain()""",
    ),
    "PKG013": Example(
        "text",
        "OTHER_LDFLAGS =",
        "OTHER_LDFLAGS = -e _NSExtensionMain",
        "build settings of an app extension's target that is not from Xcode's template",
    ),
    "PKG014": Example(
        "swift",
        """\
// The configuration is made, and nobody has activated the extension that it is for.
try await NEFilterManager.shared().saveToPreferences()""",
        """\
import SystemExtensions

let request = OSSystemExtensionRequest.activationRequest(
    forExtensionWithIdentifier: "org.example.app.filter", queue: .main)
request.delegate = self
OSSystemExtensionManager.shared.submitRequest(request)""",
        "code of the app",
    ),
    "PKG015": Example(
        "text",
        """\
Example.app/Contents/MacOS/Example           imports nothing of SystemExtensions
Example.app/Contents/Helpers/example-helper  imports OSSystemExtensionRequest""",
        """\
Example.app/Contents/MacOS/Example           imports OSSystemExtensionRequest
Example.app/Contents/Helpers/example-helper  asks the app""",
    ),
    "PKG016": Example(
        "sh",
        """\
$ head -1 Example.app/Contents/MacOS/Example
#!/bin/sh""",
        """\
$ lipo -archs Example.app/Contents/MacOS/Example
x86_64 arm64""",
    ),
    "PKG017": Example(
        "sh",
        f"""\
$ lipo -archs Example.app/Contents/MacOS/Example
x86_64 arm64
$ lipo -archs {_TUNNEL}/Contents/MacOS/Tunnel
arm64""",
        f"""\
$ lipo -archs Example.app/Contents/MacOS/Example
x86_64 arm64
$ lipo -archs {_TUNNEL}/Contents/MacOS/Tunnel
x86_64 arm64""",
    ),
    "PKG018": Example(
        "text",
        """\
Example.app/Contents/PlugIns/Tunnel.appex  CFBundleIdentifier  org.example.app.extension
Example.app/Contents/PlugIns/Proxy.appex   CFBundleIdentifier  org.example.app.extension""",
        """\
Example.app/Contents/PlugIns/Tunnel.appex  CFBundleIdentifier  org.example.app.tunnel
Example.app/Contents/PlugIns/Proxy.appex   CFBundleIdentifier  org.example.app.proxy""",
    ),
    "PKG019": Example(
        "sh",
        "pkgbuild --root root --install-location /Applications Example.pkg",
        """\
pkgbuild --analyze --root root components.plist
plutil -replace 0.BundleIsRelocatable -bool NO components.plist
pkgbuild --root root --component-plist components.plist \\
    --install-location /Applications Example.pkg""",
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
        "xml",
        fragment({"CFBundleShortVersionString": "2.0", "CFBundleVersion": "1"}),
        fragment({"CFBundleShortVersionString": "2.0", "CFBundleVersion": "2"}),
        "Info.plist of app and extension; the build before has 2.0 and 1",
    ),
    "PKG023": Example(
        "sh",
        """\
$ plutil -extract ApplicationProperties.SigningIdentity raw Example.xcarchive/Info.plist
Apple Development: A Developer (ABCDE12345)""",
        f"""\
cp -R Example.xcarchive/Products/Applications/Example.app .
extension={_FILTER}
cp App_Developer_ID.provisionprofile Example.app/Contents/embedded.provisionprofile
cp Filter_Developer_ID.provisionprofile "$extension/Contents/embedded.provisionprofile"
{_SIGN} \\
    --entitlements Filter.entitlements "$extension"
{_SIGN} \\
    --entitlements App.entitlements Example.app""",
    ),
}  # fmt: skip
