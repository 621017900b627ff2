"""What no file can tell, and the commands that tell it on a Mac."""

from __future__ import annotations

import re
import shlex

from .deployment_table import Platform
from .product import App, Product
from .report import Undecided

__all__ = ["undecided"]

_IN_QUOTES = re.compile(r"[^A-Za-z0-9.-]")
_LOG = (
    'log show --last 10m --info --debug --predicate \'process IN {"sysextd", "nesessionmanager", "nehelper",'
    ' "amfid", "taskgated-helper", "pkd", "kernel"}\' > capture.log'
)


def undecided(product: Product) -> tuple[Undecided, ...]:
    """For the first app that runs on a Mac, and for the first that does not."""
    found: list[Undecided] = []
    on_mac = next((app for app in product.apps if app.is_on_mac), None)
    if on_mac is not None:
        found += _on_mac(on_mac)
    if any(not app.is_on_mac for app in product.apps):
        found.append(Undecided("Whether the device is supervised, managed, and in the profile", ""))
    if product.apps:
        question = "Whether the App ID's capabilities have changed since the profile was made; what App Review says"
        found.append(Undecided(question, ""))
    return tuple(found)


def _on_mac(app: App) -> list[Undecided]:
    installed = shlex.quote(f"/Applications/{app.bundle.name}")
    found = [
        Undecided("Whether macOS takes the signature as a whole", f"codesign --verify --deep --strict -vv {installed}"),
        Undecided(
            "Whether a certificate was revoked, and what Gatekeeper says",
            f"spctl --assess --type execute -vv {installed}",
        ),
    ]
    if app.platform is Platform.MACOS and app.system_extensions:
        identifier = app.bundle.identifier or "ID"
        found += [
            Undecided("Whether Apple has notarised it without a staple", f"xcrun stapler validate {installed}"),
            Undecided("Whether the user or a policy has approved the extension", "systemextensionsctl list"),
            Undecided(
                "Whether other copies are known to the system",
                f'mdfind "kMDItemCFBundleIdentifier == {_IN_QUOTES.sub("?", identifier)!r}"',
            ),
            Undecided("Whether System Integrity Protection is on", "csrutil status"),
        ]
    found.append(Undecided("What the system says; netext doctor logs capture.log reads it", _LOG))
    return found
