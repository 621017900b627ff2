"""Rules that say which traffic a provider wants: by network (NENetworkRule) and by program (NEAppRule).

Reference §2.12, §2.13, §3.11. How rules decide over a flow is in `core/rule_matching`; here are the values,
what Apple lets one write, and their form as plain data (JSON), in which they cross processes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, TypeVar

from .endpoint import Endpoint, ip_address
from .errors import ConfigurationError, NetworkSettingsError, NetworkSettingsErrorCode

MAX_LABELS = 127  # RFC 1035 §2.3.4: 255 octets hold no more


class Protocol(IntEnum):
    """NENetworkRuleProtocol."""

    ANY = 0
    TCP = 1
    UDP = 2


class Direction(IntEnum):
    """NETrafficDirection."""

    ANY = 0
    INBOUND = 1
    OUTBOUND = 2


class NetworkRule:
    """Traffic by remote and local network, protocol and direction, or by the destination's name. Immutable.

    Make one with `destination_network`, `destination_host` or `remote_and_local`. The `match_*` attributes
    read back what was given; a prefix is None where Apple has NSNotFound.
    """

    __slots__ = (
        "match_direction",
        "match_local_network",
        "match_local_prefix",
        "match_protocol",
        "match_remote_endpoint",
        "match_remote_prefix",
    )

    match_remote_endpoint: Endpoint | None
    match_remote_prefix: int | None
    match_local_network: Endpoint | None
    match_local_prefix: int | None
    match_protocol: Protocol
    match_direction: Direction

    def __init__(self) -> None:
        raise TypeError("use NetworkRule.destination_network, .destination_host or .remote_and_local")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"NetworkRule is immutable: {name} cannot be set")

    @classmethod
    def destination_network(
        cls,
        network: str | Endpoint,
        prefix: int | None = None,
        protocol: Protocol | str = Protocol.ANY,
        *,
        port: int = 0,
    ) -> NetworkRule:
        """Outbound traffic to an address or a network: "192.0.2.0/24", or an Endpoint (whose port counts) and
        a prefix.

        0.0.0.0 and :: mean everything except loopback, which only a rule for 127.0.0.0/8 or ::1 matches. Port
        0 is any port. Raises ConfigurationError.
        """
        remote, length = _network("network", network, prefix, port)
        return cls._make(remote, length, None, None, protocol, Direction.OUTBOUND)

    @classmethod
    def destination_host(
        cls, host: str | Endpoint, protocol: Protocol | str = Protocol.ANY, *, port: int = 0
    ) -> NetworkRule:
        """Outbound traffic to a name: exactly that host if it has one label, the whole domain if it has more.

        With port 0 or 53 the rule also stands for the DNS queries for these names; with 53 for these alone.
        Raises ConfigurationError.
        """
        remote = _host(host, port)
        return cls._make(remote, None, None, None, protocol, Direction.OUTBOUND)

    @classmethod
    def remote_and_local(
        cls,
        remote: str | Endpoint | None = None,
        remote_prefix: int | None = None,
        local: str | Endpoint | None = None,
        local_prefix: int | None = None,
        protocol: Protocol | str = Protocol.ANY,
        direction: Direction | str = Direction.ANY,
    ) -> NetworkRule:
        """Traffic by both ends; None is any. Neither given: all traffic of the protocol and direction, bar
        loopback.

        Raises ConfigurationError.
        """
        remote_end, remote_length = _network("remote", remote, remote_prefix, 0) if remote else (None, None)
        local_end, local_length = _network("local", local, local_prefix, 0) if local else (None, None)
        return cls._make(remote_end, remote_length, local_end, local_length, protocol, direction)

    @classmethod
    def _make(
        cls,
        remote: Endpoint | None,
        remote_prefix: int | None,
        local: Endpoint | None,
        local_prefix: int | None,
        protocol: Protocol | str,
        direction: Direction | str,
    ) -> NetworkRule:
        rule, put = cls.__new__(cls), object.__setattr__
        put(rule, "match_remote_endpoint", remote)
        put(rule, "match_remote_prefix", remote_prefix)
        put(rule, "match_local_network", local)
        put(rule, "match_local_prefix", local_prefix)
        put(rule, "match_protocol", _member(Protocol, "protocol", protocol))
        put(rule, "match_direction", _member(Direction, "direction", direction))
        return rule

    @property
    def is_host_rule(self) -> bool:
        """Whether the rule is about names (made by `destination_host`)."""
        return self.match_remote_endpoint is not None and self.match_remote_prefix is None

    def validate_for_transparent_proxy(self, place: str = "rule") -> None:
        """Check Apple's restrictions on rules of a transparent proxy (NETransparentProxyNetworkSettings).

        Raises NetworkSettingsError (networkSettingsInvalid) that names `place`, the rule, and what is wrong
        with it.
        """
        reason = self._unfit_for_transparent_proxy()
        if reason:
            raise NetworkSettingsError(NetworkSettingsErrorCode.INVALID, f"{place} ({self}): {reason}")

    def _unfit_for_transparent_proxy(self) -> str | None:
        remote = self.match_remote_endpoint
        if self.match_local_network is not None:
            return "match_local_network must be None for transparent proxy network rules"
        if self.match_direction is not Direction.OUTBOUND:
            return "the direction must be outbound for transparent proxy network rules"
        if remote is None or self.is_host_rule:
            return None
        if remote.port == 53:
            return (
                "53 cannot be specified as the port for transparent proxy network rules; "
                "use NetworkRule.destination_host(name, port=53) to match DNS"
            )
        if remote.is_wildcard_address and remote.is_wildcard_port:
            return (
                "a wildcard address needs a specific port, and a wildcard port a specific address, "
                "in transparent proxy network rules"
            )
        return None

    def to_dict(self) -> dict[str, Any]:
        """The rule as plain data: {"remote": [host, port], "remote_prefix": n, …}; what is not set is left
        out.
        """
        data: dict[str, Any] = {}
        if self.match_remote_endpoint is not None:
            data["remote"] = list(self.match_remote_endpoint)
        if self.match_remote_prefix is not None:
            data["remote_prefix"] = self.match_remote_prefix
        if self.match_local_network is not None:
            data["local"] = list(self.match_local_network)
            data["local_prefix"] = self.match_local_prefix
        if self.match_protocol:
            data["protocol"] = self.match_protocol.name.lower()
        if self.match_direction:
            data["direction"] = self.match_direction.name.lower()
        return data

    @classmethod
    def from_dict(cls, data: object, place: str = "rule") -> NetworkRule:
        """The rule that `to_dict` described. Raises ConfigurationError, which says where in `data` (from
        `place` on).
        """
        if not isinstance(data, Mapping):
            raise ConfigurationError(f"{place}: an object is needed, not {_shown(data)}")
        for key in data:
            if key not in _RULE_KEYS:
                known = ", ".join(_RULE_KEYS)
                raise ConfigurationError(f"{place}: {_shown(key)} is not a key of a rule ({known})")
        remote = _endpoint_field(data, "remote", place)
        remote_prefix = _prefix_field(data, "remote_prefix", place)
        local = _endpoint_field(data, "local", place)
        local_prefix = _prefix_field(data, "local_prefix", place)
        protocol, direction = data.get("protocol", "any"), data.get("direction", "any")
        try:
            if remote is not None and remote_prefix is None and ip_address(remote.host) is None:
                if local is not None:
                    raise ConfigurationError("local: a rule for a host name has no local network")
                return cls._make(_host(remote, 0), None, None, None, protocol, direction)
            return cls.remote_and_local(remote, remote_prefix, local, local_prefix, protocol, direction)
        except ConfigurationError as error:
            raise ConfigurationError(f"{place}.{error}") from None

    def _key(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, NetworkRule) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[object, ...]:
        return (NetworkRule.from_dict, (self.to_dict(),))

    def __str__(self) -> str:
        parts = [self.match_direction.name.lower()] if self.match_direction else []
        parts.append(self.match_protocol.name.lower() if self.match_protocol else "any protocol")
        if self.match_local_network is not None:
            parts.append("from " + _end_text(self.match_local_network, self.match_local_prefix))
        if self.match_remote_endpoint is None:
            parts.append("to anywhere")
        else:
            parts.append("to " + _end_text(self.match_remote_endpoint, self.match_remote_prefix))
        return " ".join(parts)

    def __repr__(self) -> str:
        return f"<NetworkRule {self}>"


_RULE_KEYS = ("remote", "remote_prefix", "local", "local_prefix", "protocol", "direction")


class AppRule:
    """Traffic by the program that makes it (NEAppRule); all conditions that are given must hold. Immutable.

    `match_signing_identifier` is compared with the program's identifier, `match_path` with the full path of
    its executable, `match_domains` with the destination's name by suffix on label boundaries, `match_tools`
    lists rules for helper programs that it starts: None means the program and all its helpers.
    `match_designated_requirement` is kept as given.
    """

    __slots__ = (
        "match_designated_requirement",
        "match_domains",
        "match_path",
        "match_signing_identifier",
        "match_tools",
    )

    def __init__(
        self,
        match_signing_identifier: str,
        match_designated_requirement: str | None = None,
        *,
        match_path: str | None = None,
        match_domains: Sequence[str] | None = None,
        match_tools: Sequence[AppRule] | None = None,
    ) -> None:
        if not match_signing_identifier:
            raise ConfigurationError("match_signing_identifier: must not be empty")
        if match_path is not None and not match_path.startswith("/"):
            raise ConfigurationError(f"match_path: {match_path!r} is not an absolute path")
        self.match_signing_identifier = match_signing_identifier
        self.match_designated_requirement = match_designated_requirement
        self.match_path = match_path
        self.match_domains = None if match_domains is None else tuple(map(canonical_name, match_domains))
        self.match_tools = None if match_tools is None else tuple(match_tools)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AppRule):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self.__slots__))

    def __repr__(self) -> str:
        return f"<AppRule {self.match_signing_identifier}>"


def canonical_name(name: str) -> str:
    """A host name as rules compare it: lower case, no final dot, IDNA (RFC 3490). Raises
    ConfigurationError.
    """
    text = name[:-1] if name.endswith(".") else name
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise ConfigurationError(f"host: {name[:300]!r} is not a host name: {error}") from None
    text = text.lower()
    labels = text.split(".")
    if len(text) > 253 or len(labels) > MAX_LABELS or not all(0 < len(label) <= 63 for label in labels):
        raise ConfigurationError(f"host: {name[:300]!r} is not a host name")
    if any(c.isspace() or c in "/[]:" for c in text):
        raise ConfigurationError(f"host: {name[:300]!r} is not a host name")
    return text


def _host(host: str | Endpoint, port: int) -> Endpoint:
    name, port = (host.host, host.port or port) if isinstance(host, Endpoint) else (host, port)
    if ip_address(name) is not None:
        raise ConfigurationError(f"host: {name} is an address; use destination_network")
    return Endpoint.of(canonical_name(name), port)


def _network(place: str, network: str | Endpoint, prefix: int | None, port: int) -> tuple[Endpoint, int]:
    if isinstance(network, Endpoint):
        text, port = network.host, network.port or port
    else:
        text, slash, length = network.partition("/")
        if slash:
            if prefix is not None or not (length.isascii() and length.isdigit()) or len(length) > 3:
                raise ConfigurationError(f"{place}: {network[:300]!r} is not a network such as 192.0.2.0/24")
            prefix = int(length)
    address = ip_address(text)
    if address is None:
        raise ConfigurationError(f"{place}: {text[:300]!r} is not an address; use destination_host for names")
    endpoint = Endpoint.of(str(address), port)
    return endpoint, _prefix(place, address, prefix)


def _prefix(place: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address, prefix: int | None) -> int:
    if address.is_unspecified:
        if prefix:
            raise ConfigurationError(f"{place}: {address} is the wildcard address, its prefix must be 0, not {prefix}")
        return 0
    if prefix is None:
        return address.max_prefixlen
    if not 0 <= prefix <= address.max_prefixlen:
        limit = address.max_prefixlen
        raise ConfigurationError(f"{place}: prefix {prefix} is not a number from 0 to {limit}")
    if prefix == 0:
        raise ConfigurationError(
            f"{place}: {address}/0 would match every address; write 0.0.0.0 or :: if that is meant"
        )
    return prefix


_E = TypeVar("_E", bound=IntEnum)


def _member(kind: type[_E], place: str, value: object) -> _E:
    if isinstance(value, kind):
        return value
    try:
        if isinstance(value, str):
            return kind[value.upper()]
        if type(value) is int:
            return kind(value)
        raise ValueError(value)
    except (KeyError, ValueError):
        known = ", ".join(member.name.lower() for member in kind)
        raise ConfigurationError(f"{place}: {_shown(value)} is not one of {known}") from None


def _end_text(endpoint: Endpoint, prefix: int | None) -> str:
    port = f" port {endpoint.port}" if endpoint.port else ""
    if prefix is None:
        kind = "domain" if "." in endpoint.host else "host"
        return f"{kind} {endpoint.host}{port}"
    if endpoint.is_wildcard_address:
        return f"any address{port}"
    full = 128 if ":" in endpoint.host else 32
    return f"{endpoint.host}{port}" if prefix == full else f"{endpoint.host}/{prefix}{port}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _endpoint_field(data: Mapping[str, Any], key: str, place: str) -> Endpoint | None:
    value = data.get(key)
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ConfigurationError(f"{place}.{key}: [host, port] is needed, not {_shown(value)}")
    host, port = value
    if not isinstance(host, str):
        raise ConfigurationError(f"{place}.{key}[0]: a text is needed, not {_shown(host)}")
    if type(port) is not int or not 0 <= port <= 65535:
        raise ConfigurationError(f"{place}.{key}[1]: {_shown(port)} is not a port from 0 to 65535")
    try:
        return Endpoint.of(host, port)
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}.{key}[0]: {error}") from None


def _prefix_field(data: Mapping[str, Any], key: str, place: str) -> int | None:
    value = data.get(key)
    if value is not None and (type(value) is not int or not 0 <= value <= 128):
        raise ConfigurationError(f"{place}.{key}: {_shown(value)} is not a prefix length from 0 to 128")
    return value
