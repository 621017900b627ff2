"""Before and after for the rules INF and APP."""

from __future__ import annotations

from .example import Example

_POINT = "com.apple.networkextension."


def _plist(key: str, value: str) -> str:
    return f"<key>{key}</key>\n{value}"


def _text(key: str, value: str) -> str:
    return _plist(key, f"<string>{value}</string>")


def _classes(point: str, name: str = "Filter.Provider") -> str:
    classes = f"<dict>\n    <key>{point}</key><string>{name}</string>\n  </dict>"
    return f"<key>NetworkExtension</key>\n<dict>\n  <key>NEProviderClasses</key>\n  {classes}\n</dict>"


def _service(name: str) -> str:
    return f"<key>NetworkExtension</key>\n<dict>\n  <key>NEMachServiceName</key><string>{name}</string>\n</dict>"


def _classic(point: str, name: str | None = "Tunnel.Provider") -> str:
    principal = f"\n  <key>NSExtensionPrincipalClass</key><string>{name}</string>" if name else ""
    identifier = f"<key>NSExtensionPointIdentifier</key><string>{point}</string>"
    return f"<key>NSExtension</key>\n<dict>\n  {identifier}{principal}\n</dict>"


EXAMPLES = {
    "INF001": Example("xml", _plist("NetworkExtension", "<dict/>"), _classes(f"{_POINT}filter-data")),
    "INF002": Example("xml", _classes("filter-data"), _classes(f"{_POINT}filter-data")),
    "INF003": Example(
        "xml",
        f"<!-- a system extension -->\n{_classes(f'{_POINT}filter-control')}",
        f"<!-- a system extension -->\n{_classes(f'{_POINT}filter-data')}",
    ),
    "INF004": Example(
        "xml",
        f"<!-- PRODUCT_MODULE_NAME is Filter_Extension -->\n{_classes(f'{_POINT}filter-data', 'Filter.Provider')}",
        f"<!-- before Xcode fills it in -->\n{_classes(f'{_POINT}filter-data', '$(PRODUCT_MODULE_NAME).Provider')}",
    ),
    "INF005": Example(
        "xml",
        "<!-- class Provider: NETransparentProxyProvider -->\n" + _classes(f"{_POINT}packet-tunnel"),
        "<!-- class Provider: NETransparentProxyProvider -->\n" + _classes(f"{_POINT}app-proxy"),
    ),
    "INF006": Example(
        "xml",
        "<!-- its group is ABCDE12345.org.example.app -->\n" + _service("org.example.app.filter"),
        "<!-- its group is ABCDE12345.org.example.app -->\n" + _service("ABCDE12345.org.example.app.filter"),
    ),
    "INF007": Example(
        "xml",
        _classes(f"{_POINT}filter-data"),
        "<!-- only where the app talks XPC to it -->\n" + _service("ABCDE12345.org.example.app.filter"),
    ),
    "INF008": Example(
        "xml",
        "<!-- at the top of Info.plist -->\n" + _text("NEMachServiceName", "ABCDE12345.org.example.app.filter"),
        _service("ABCDE12345.org.example.app.filter"),
    ),
    "INF009": Example(
        "xml",
        _text("CFBundlePackageType", "SYSX"),
        _text("CFBundlePackageType", "SYSX")
        + "\n"
        + _text("NSSystemExtensionUsageDescription", "Filters the network traffic of this Mac."),
    ),
    "INF010": Example(
        "xml",
        f"<!-- a system extension -->\n{_classic(f'{_POINT}filter-data')}",
        f"<!-- a system extension -->\n{_classes(f'{_POINT}filter-data')}",
    ),
    "INF011": Example(
        "xml", _classic("com.apple.networkextension.packettunnel"), _classic(f"{_POINT}packet-tunnel")
    ),
    "INF012": Example(
        "xml", _classic(f"{_POINT}packet-tunnel", None), _classic(f"{_POINT}packet-tunnel", "Tunnel.Provider")
    ),
    "INF013": Example(
        "xml",
        _classic(f"{_POINT}packet-tunnel") + "\n<key>EXAppExtensionAttributes</key>\n<dict/>",
        _classic(f"{_POINT}packet-tunnel"),
    ),
    "INF014": Example(
        "text",
        "app          org.example.app\nextension    org.example.tunnel",
        "app          org.example.app\nextension    org.example.app.tunnel",
    ),
    "INF015": Example(
        "text",
        "app          org.example.app\nextension    org.example.filter",
        "app          org.example.app\nextension    org.example.app.filter",
    ),
    "INF016": Example(
        "xml",
        _text("CFBundleVersion", ""),
        _text("CFBundleVersion", "42") + "\n" + _text("CFBundleShortVersionString", "1.3"),
    ),
    "INF017": Example(
        "xml",
        _text("CFBundleIdentifier", "$(PRODUCT_BUNDLE_IDENTIFIER)"),
        _text("CFBundleIdentifier", "org.example.app.filter"),
    ),
    "INF018": Example(
        "text",
        "URL filter    IPHONEOS_DEPLOYMENT_TARGET = 18.0",
        "URL filter    IPHONEOS_DEPLOYMENT_TARGET = 26.0",
    ),
    "INF019": Example(
        "text",
        "app          MACOSX_DEPLOYMENT_TARGET = 12.0\nextension    MACOSX_DEPLOYMENT_TARGET = 14.0",
        "app          MACOSX_DEPLOYMENT_TARGET = 14.0\nextension    MACOSX_DEPLOYMENT_TARGET = 14.0",
    ),
    "INF020": Example(
        "xml",
        "<!-- MACOSX_DEPLOYMENT_TARGET = 12.0 -->\n" + _text("LSMinimumSystemVersion", "11.0"),
        _text("LSMinimumSystemVersion", "$(MACOSX_DEPLOYMENT_TARGET)"),
    ),
    "APP001": Example(
        "text",
        "Example.app/Contents/Helpers/Agent.app/Contents/PlugIns/Tunnel.appex",
        "Example.app/Contents/PlugIns/Tunnel.appex",
    ),
    "APP002": Example(
        "swift",
        "// The app has no code that makes a configuration.",
        """\
let managers = try await NETunnelProviderManager.loadAllFromPreferences()
let manager = managers.first ?? NETunnelProviderManager()
let configuration = NETunnelProviderProtocol()
configuration.providerBundleIdentifier = "org.example.app.tunnel"
configuration.serverAddress = "vpn.example.org"
manager.protocolConfiguration = configuration
manager.isEnabled = true
try await manager.saveToPreferences()""",
    ),
    "APP003": Example(
        "xml",
        "<key>UIBackgroundModes</key>\n<array/>",
        "<key>UIBackgroundModes</key>\n<array><string>network-authentication</string></array>",
    ),
    "APP004": Example(
        "text",
        "The app claims relay, and has no extension.",
        "The same: NERelayManager configures relays, the system does the rest.",
    ),
    "APP005": Example(
        "xml",
        "<!-- not sandboxed -->\n<key>com.apple.security.application-groups</key>\n"
        "<array><string>group.org.example.app</string></array>",
        "<!-- not sandboxed -->\n<key>com.apple.security.application-groups</key>\n"
        "<array><string>ABCDE12345.org.example.app</string></array>",
    ),
}  # fmt: skip
