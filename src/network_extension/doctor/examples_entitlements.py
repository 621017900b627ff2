"""Before and after for the rules ENT."""

from __future__ import annotations

from .example import Example, Value, fragment
from .provider_kinds import ENTITLEMENT

_INSTALL = "com.apple.developer.system-extension.install"
_GROUPS = "com.apple.security.application-groups"
_TUNNEL: dict[str, Value] = {ENTITLEMENT: ["packet-tunnel-provider"]}
_FILTER: dict[str, Value] = {ENTITLEMENT: ["content-filter-provider-systemextension"]}
_SANDBOX: dict[str, Value] = {"com.apple.security.app-sandbox": True}
_CLIENT: dict[str, Value] = {"com.apple.security.network.client": True}
_TEAM_GROUP = fragment({_GROUPS: ["ABCDE12345.org.example.app"]})


def _of(what: str, before: dict[str, Value], after: dict[str, Value]) -> Example:
    """Two sets of entitlements."""
    return Example("xml", fragment(before), fragment(after), f"entitlements {what}".rstrip())


def _values(what: str, before: str, after: str) -> Example:
    return _of(what, {ENTITLEMENT: [before]}, {ENTITLEMENT: [after]})


EXAMPLES = {
    "ENT001": _values(
        "of app and extension, signed with Developer ID",
        "content-filter-provider",
        "content-filter-provider-systemextension",
    ),
    "ENT002": _values(
        "of app and extension, signed for development",
        "content-filter-provider-systemextension",
        "content-filter-provider",
    ),
    "ENT003": _of("of the extension", {**_SANDBOX, **_CLIENT}, {**_SANDBOX, **_CLIENT, **_TUNNEL}),
    "ENT004": _of(
        "of the app; its extension claims packet-tunnel-provider",
        {**_SANDBOX, **_CLIENT},
        {**_SANDBOX, **_CLIENT, **_TUNNEL},
    ),
    "ENT005": _of("of the app", _FILTER, {**_FILTER, _INSTALL: True}),
    "ENT006": _of("of the extension", {**_FILTER, _INSTALL: True}, _FILTER),
    "ENT007": _values("of a DNS proxy, signed for development", "packet-tunnel-provider", "dns-proxy"),
    "ENT008": _values(
        "of a transparent proxy under Developer ID",
        "transparent-proxy-systemextension",
        "app-proxy-provider-systemextension",
    ),
    "ENT009": _of("", {"com.apple.developer.networkextension": ["packet-tunnel-provider"]}, _TUNNEL),
    "ENT010": _of("", {ENTITLEMENT: "packet-tunnel-provider"}, _TUNNEL),
    "ENT011": _of(
        "of a Mac extension that is signed by hand",
        _TUNNEL,
        {"com.apple.application-identifier": "ABCDE12345.org.example.app.tunnel", **_TUNNEL},
    ),
    "ENT012": _of(
        "that team ABCDE12345 signs",
        {"com.apple.developer.team-identifier": "ZYXWV98765"},
        {"com.apple.developer.team-identifier": "ABCDE12345"},
    ),
    "ENT013": _of("of a Mac's app extension", _TUNNEL, {**_TUNNEL, **_SANDBOX, **_CLIENT}),
    "ENT014": _of(
        "of a Mac app for the App Store", {ENTITLEMENT: ["dns-proxy"]}, {ENTITLEMENT: ["dns-proxy"], **_SANDBOX}
    ),
    "ENT015": _of("of a system extension under Developer ID", _FILTER, {**_FILTER, **_SANDBOX, **_CLIENT}),
    "ENT016": _of("of a sandboxed tunnel", {**_TUNNEL, **_SANDBOX}, {**_TUNNEL, **_SANDBOX, **_CLIENT}),
    "ENT017": Example("xml", fragment({_GROUPS: ["org.example.app"]}), _TEAM_GROUP, "entitlements on a Mac"),
    "ENT018": Example(
        "xml",
        fragment({_GROUPS: ["group.org.example.app"]}),
        _TEAM_GROUP,
        "entitlements on a Mac; the profile names no group",
    ),
    "ENT019": Example(
        "xml",
        fragment({_GROUPS: ["$(TeamIdentifierPrefix)org.example.app"]}),
        _TEAM_GROUP,
        "entitlements that codesign is given",
    ),
    "ENT020": _of(
        "of the extension; its app has the group group.org.example.app",
        {_GROUPS: ["group.org.example.app.tunnel"]},
        {_GROUPS: ["group.org.example.app"]},
    ),
    "ENT021": Example(
        "swift",
        """\
// The extension runs as root, and looks into root's container.
UserDefaults(suiteName: "ABCDE12345.org.example.app")?.set(rules, forKey: "rules")""",
        """\
// The extension reads it in protocolConfiguration, as providerConfiguration.
let configuration = NETunnelProviderProtocol()
configuration.providerBundleIdentifier = "org.example.app.tunnel"
configuration.providerConfiguration = ["rules": rules]
manager.protocolConfiguration = configuration
try await manager.saveToPreferences()""",
        "code of the app",
    ),
    "ENT022": _of(
        "of an app with a tunnel in it",
        {"com.apple.developer.networking.vpn.api": ["allow-vpn"]},
        {"com.apple.developer.networking.vpn.api": ["allow-vpn"], **_TUNNEL},
    ),
    "ENT023": _of(
        "that the profile allows; the app claims com.apple.developer.networking.HotspotHelper",
        {"application-identifier": "ABCDE12345.org.example.app"},
        {
            "application-identifier": "ABCDE12345.org.example.app",
            "com.apple.developer.networking.HotspotHelper": True,
        },
    ),
    "ENT025": _values("of an app under Developer ID", "relay-systemextension", "relay"),
    "ENT026": Example(
        "xml",
        f"<!-- the tunnel -->\n{fragment(_TUNNEL)}",
        fragment(_TUNNEL),
        "an .entitlements file",
    ),
}  # fmt: skip
