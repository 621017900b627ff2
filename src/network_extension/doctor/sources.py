"""Where the doctor's rules come from."""

from __future__ import annotations

_FORUM = "https://developer.apple.com/forums/thread/"
_DOCUMENTATION = "https://developer.apple.com/documentation/"

SOURCES: dict[str, tuple[str, str]] = {
    "TN3134": (
        "Network Extension provider deployment",
        f"{_DOCUMENTATION}technotes/tn3134-network-extension-provider-deployment",
    ),
    "TN3125": (
        "Inside Code Signing: Provisioning Profiles",
        f"{_DOCUMENTATION}technotes/tn3125-inside-code-signing-provisioning-profiles",
    ),
    "TN3120": (
        "Expected use cases for packet tunnel providers",
        f"{_DOCUMENTATION}technotes/tn3120-expected-use-cases-for-network-extension-packet-tunnel-providers",
    ),
    "TN3165": ("Packet Filter is not API", f"{_DOCUMENTATION}technotes/tn3165-packet-filter-is-not-api"),
    "entitlement": (
        "Network Extensions Entitlement",
        f"{_DOCUMENTATION}bundleresources/entitlements/com.apple.developer.networking.networkextension",
    ),
    "usage-description": (
        "NSSystemExtensionUsageDescription",
        f"{_DOCUMENTATION}bundleresources/information-property-list/nssystemextensionusagedescription",
    ),
    "start-mode": (
        "NEProvider.startSystemExtensionMode()",
        f"{_DOCUMENTATION}networkextension/neprovider/startsystemextensionmode()",
    ),
    "sysext-errors": ("OSSystemExtensionError", f"{_DOCUMENTATION}systemextensions/ossystemextensionerror"),
    "dns-proxy-payload": ("DNSProxy (MDM payload)", f"{_DOCUMENTATION}devicemanagement/dnsproxy"),
    "app-push": ("NEAppPushProvider", f"{_DOCUMENTATION}networkextension/neapppushprovider"),
    "hotspot": ("NEHotspotHelper", f"{_DOCUMENTATION}networkextension/nehotspothelper"),
    "url-filter": ("Filtering traffic by URL", f"{_DOCUMENTATION}networkextension/filtering-traffic-by-url"),
    "developer-id-export": ("Exporting a Developer ID Network Extension", f"{_FORUM}737894"),
    "packaging": ("Network Extension Provider Packaging", f"{_FORUM}800887"),
    "framework-entitlements": ("Network Extension Framework Entitlements", f"{_FORUM}67613"),
    "signature-check": ("Signature check failed after an export", f"{_FORUM}820618"),
    "provisioned-devices": ("Signature check failed on some Macs", f"{_FORUM}805996"),
    "no-policy": ("'no policy' for an app in /Applications", f"{_FORUM}817101"),
    "no-policy-value": ("'no policy' where a standard value is used under Developer ID", f"{_FORUM}820254"),
    "no-policy-name": ("'no policy' where a bundle is not named as its id", f"{_FORUM}823195"),
    "dns-proxy-value": ("a DNS proxy with the wrong value", f"{_FORUM}815340"),
    "must-notarise": ("Developer ID under SIP has to be notarised", f"{_FORUM}129722"),
    "id-prefix": ("an extension's id begins with its app's", f"{_FORUM}101754"),
    "id-child": ("an extension's id is an immediate child of its app's", f"{_FORUM}720964"),
    "mach-service": ("Mach service names of system extensions", f"{_FORUM}708017"),
    "app-groups": ("App Groups: macOS vs iOS", f"{_FORUM}721701"),
    "xpc": ("XPC to a Network Extension", f"{_FORUM}747955"),
    "sysext-install": ("who may install a system extension", f"{_FORUM}738447"),
    "trusted-execution": ("Resolving Trusted Execution Problems", f"{_FORUM}706442"),
    "restricted-update": ("restricted entitlements after a system update", f"{_FORUM}742974"),
    "shipping": ("products that ship: mitmproxy_macos, LuLu, WireGuard, Mozilla VPN", ""),
    "formats": ("the file formats themselves (xnu's cs_blobs.h, RFC 5652)", ""),
    "reports": ("several reports of developers", ""),
}
"""By key: what it is, and where."""
