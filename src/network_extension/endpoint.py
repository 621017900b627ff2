"""Endpoints: a host and a port, as rules, flows and datagrams carry them."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from .errors import ConfigurationError

WILDCARD_ADDRESSES = frozenset(("0.0.0.0", "::"))
MAX_HOST = 255  # RFC 1035 §2.3.4, and more than any address needs with its zone


class Endpoint(NamedTuple):
    """A host and a port. As it is a tuple of the two, the socket functions take it as an address.

    `host` is an IP address in text or a host name; `port` is 0 to 65535, 0 standing for "any" in rules.
    """

    host: str
    port: int = 0

    @classmethod
    def parse(cls, text: str, default_port: int | None = None) -> Endpoint:
        """`192.0.2.1:80`, `[2001:db8::1]:80`, `name:80`; without a port only if `default_port` is given.

        Addresses come out in their canonical form. Raises ConfigurationError.
        """
        host, port = _split(text)
        if port is None:
            if default_port is None:
                raise ConfigurationError(f"endpoint {text!r}: no port; write HOST:PORT or [IPv6]:PORT")
            return cls.of(host, default_port)
        if not (port.isascii() and port.isdigit()) or len(port) > 5:
            raise ConfigurationError(f"endpoint {text!r}: port {port!r} is not a number from 0 to 65535")
        return cls.of(host, int(port))

    @classmethod
    def of(cls, host: str, port: int = 0) -> Endpoint:
        """A checked endpoint, its address in canonical form. Raises ConfigurationError."""
        if not host or len(host) > MAX_HOST or any(c.isspace() or c in "/[]" for c in host):
            raise ConfigurationError(f"endpoint: {host[:300]!r} is neither an address nor a host name")
        if type(port) is not int or not 0 <= port <= 65535:
            raise ConfigurationError(f"endpoint {host}: port {port!r} is not a number from 0 to 65535")
        address = ip_address(host)
        return cls(str(address) if address else host, port)

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host as an address, or None if it is a name."""
        return ip_address(self.host)

    @property
    def hostname(self) -> str | None:
        """The host as a name, or None if it is an address."""
        return None if self.address else self.host

    @property
    def is_wildcard_address(self) -> bool:
        """Whether the host is 0.0.0.0 or ::, which in rules stands for everything except loopback."""
        return self.host in WILDCARD_ADDRESSES

    @property
    def is_wildcard_port(self) -> bool:
        """Whether the port is 0, which in rules stands for any port."""
        return self.port == 0

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a text stands for, or None."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _split(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigurationError(f"endpoint {text!r}: write [IPv6]:PORT")
        return host, rest[1:] if rest else None
    if text.count(":") > 1:
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None
