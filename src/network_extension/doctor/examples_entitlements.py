"""Before and after for the rules ENT."""

from __future__ import annotations

from .example import Example

_KEY = "com.apple.developer.networking.networkextension"


def _plist(key: str, value: str) -> str:
    return f"<key>{key}</key>\n{value}"


def _values(*values: str) -> str:
    return _plist(_KEY, "<array>" + "".join(f"<string>{value}</string>" for value in values) + "</array>")


def _groups(*values: str) -> str:
    inner = "".join(f"<string>{value}</string>" for value in values)
    return _plist("com.apple.security.application-groups", f"<array>{inner}</array>")


_INSTALL = "com.apple.developer.system-extension.install"

EXAMPLES = {
    "ENT001": Example(
        "xml",
        f"<!-- signed with Developer ID -->\n{_values('content-filter-provider')}",
        f"<!-- signed with Developer ID -->\n{_values('content-filter-provider-systemextension')}",
    ),
    "ENT002": Example(
        "xml",
        f"<!-- signed for development -->\n{_values('content-filter-provider-systemextension')}",
        f"<!-- signed for development -->\n{_values('content-filter-provider')}",
    ),
    "ENT003": Example(
        "xml",
        _plist("com.apple.security.app-sandbox", "<true/>"),
        f"{_plist('com.apple.security.app-sandbox', '<true/>')}\n{_values('packet-tunnel-provider')}",
    ),
    "ENT004": Example(
        "xml",
        f"<!-- the app claims nothing; its extension: -->\n{_values('packet-tunnel-provider')}",
        f"<!-- the app, as its extension: -->\n{_values('packet-tunnel-provider')}",
    ),
    "ENT005": Example("xml", _plist(_INSTALL, "<false/>"), _plist(_INSTALL, "<true/>")),
    "ENT006": Example(
        "xml",
        f"<!-- the extension -->\n{_plist(_INSTALL, '<true/>')}",
        f"<!-- the app alone -->\n{_plist(_INSTALL, '<true/>')}",
    ),
    "ENT007": Example(
        "xml",
        f"<!-- a DNS proxy -->\n{_values('packet-tunnel-provider')}",
        f"<!-- a DNS proxy -->\n{_values('dns-proxy')}",
    ),
    "ENT008": Example(
        "xml",
        _values("transparent-proxy-systemextension"),
        _values("app-proxy-provider-systemextension"),
    ),
    "ENT009": Example(
        "xml",
        _plist("com.apple.developer.networkextension", "<array><string>dns-proxy</string></array>"),
        _values("dns-proxy"),
    ),
    "ENT010": Example(
        "xml", _plist(_KEY, "<string>packet-tunnel-provider</string>"), _values("packet-tunnel-provider")
    ),
    "ENT011": Example(
        "xml",
        "<!-- org.example.app.tunnel, signed by hand -->\n" + _values("packet-tunnel-provider"),
        _plist("com.apple.application-identifier", "<string>ABCDE12345.org.example.app.tunnel</string>")
        + "\n" + _values("packet-tunnel-provider"),
    ),
    "ENT012": Example(
        "xml",
        "<!-- signed by team ABCDE12345 -->\n"
        + _plist("com.apple.developer.team-identifier", "<string>ZYXWV98765</string>"),
        "<!-- signed by team ABCDE12345 -->\n"
        + _plist("com.apple.developer.team-identifier", "<string>ABCDE12345</string>"),
    ),
    "ENT013": Example(
        "xml",
        _values("packet-tunnel-provider"),
        f"{_values('packet-tunnel-provider')}\n{_plist('com.apple.security.app-sandbox', '<true/>')}",
    ),
    "ENT014": Example(
        "xml",
        _plist("com.apple.security.app-sandbox", "<false/>"),
        _plist("com.apple.security.app-sandbox", "<true/>"),
    ),
    "ENT015": Example(
        "xml",
        _values("app-proxy-provider-systemextension"),
        f"<!-- optional -->\n{_plist('com.apple.security.app-sandbox', '<true/>')}\n"
        + _plist("com.apple.security.network.client", "<true/>"),
    ),
    "ENT016": Example(
        "xml",
        _plist("com.apple.security.app-sandbox", "<true/>"),
        f"{_plist('com.apple.security.app-sandbox', '<true/>')}\n"
        + _plist("com.apple.security.network.client", "<true/>"),
    ),
    "ENT017": Example("xml", _groups("org.example.app"), _groups("ABCDE12345.org.example.app")),
    "ENT018": Example(
        "xml",
        "<!-- the profile lists no group -->\n" + _groups("group.org.example.app"),
        "<!-- needs no profile -->\n" + _groups("ABCDE12345.org.example.app"),
    ),
    "ENT019": Example(
        "xml",
        _groups("$(TeamIdentifierPrefix)org.example.app"),
        _groups("ABCDE12345.org.example.app"),
    ),
    "ENT020": Example(
        "xml",
        f"<!-- app -->\n{_groups('group.org.example.app')}\n<!-- extension: none -->",
        f"<!-- app and extension -->\n{_groups('group.org.example.app')}",
    ),
    "ENT021": Example(
        "swift",
        """\
// In the app. The extension runs as root, and looks into root's container.
UserDefaults(suiteName: "ABCDE12345.org.example.app")?.set(rules, forKey: "rules")""",
        """\
// In the app. The extension reads it as protocolConfiguration.providerConfiguration.
let configuration = NETunnelProviderProtocol()
configuration.providerConfiguration = ["rules": rules]""",
    ),
    "ENT022": Example(
        "xml",
        _plist("com.apple.developer.networking.vpn.api", "<array><string>allow-vpn</string></array>"),
        _values("packet-tunnel-provider"),
    ),
    "ENT023": Example(
        "text",
        "claimed     com.apple.developer.networking.HotspotHelper = true\n"
        "profile     has no such key",
        "claimed     com.apple.developer.networking.HotspotHelper = true\n"
        "profile     com.apple.developer.networking.HotspotHelper = true   (made after Apple's answer)",
    ),
    "ENT025": Example("xml", _values("relay-systemextension"), _values("relay")),
    "ENT026": Example(
        "xml",
        f"<!-- the tunnel -->\n{_values('packet-tunnel-provider')}",
        _values("packet-tunnel-provider"),
    ),
}  # fmt: skip
