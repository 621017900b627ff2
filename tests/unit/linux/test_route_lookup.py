"""The kernel's answer to: by which interface?"""

from __future__ import annotations

import socket

from network_extension.linux.route_lookup import RouteLookup


def test_loopback_by_both_families() -> None:
    routes = RouteLookup()
    assert routes.interface(socket.inet_aton("127.0.0.1")) == "lo"
    assert routes.interface(socket.inet_aton("127.9.9.9")) == "lo"
    assert routes.interface(socket.inet_pton(socket.AF_INET6, "::1")) in ("lo", None)  # None: a machine without IPv6
    routes.close()


def test_what_is_no_address_has_no_interface() -> None:
    routes = RouteLookup()
    assert routes.interface(b"\xe0") is None
    routes.close()
    assert routes.interface(b"\x7f\0\0\1") is None
