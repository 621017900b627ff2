"""Which flows do network rules claim? (reference §2.13, §3.2, §3.11)

The rules of the game, all from Apple:

- an excluded rule wins over an included one, whatever their order;
- 0.0.0.0, :: and "no remote network" stand for everything except loopback, and loopback is matched only by a
rule
  whose own network lies in 127.0.0.0/8 or is ::1 (so never by a host rule, even if the name leads there);
- a host rule of one label is that host; of two or more, the whole domain, on label boundaries;
- port 0 in a rule is any port;
- a host rule with port 0 or 53 stands for the DNS queries for its names as well: `claims_dns`.

`matches` decides one rule over one flow and is the definition. `TransparentProxyMatcher` gives the same
answers for a whole set of rules in a time that does not grow with their number; the tests hold one against
the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from ..endpoint import Endpoint
from ..network_settings import TransparentProxyNetworkSettings
from ..rules import Direction, NetworkRule, Protocol

_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291 §2.5.5.2: an IPv4 address in a socket of IPv6
_V6_LOOPBACK = bytes(15) + b"\x01"
DNS_PORT = 53


class FlowFacts(NamedTuple):
    """What is known of a flow when it begins; addresses as 4 or 16 bytes in network order."""

    protocol: Protocol
    remote_address: bytes
    remote_port: int
    host: str | None = None
    """The destination's name, lower case, without a final dot."""
    loopback: bool = False
    """Whether its packets stay on the loopback interface (implied by a loopback address)."""
    direction: Direction = Direction.OUTBOUND
    local_address: bytes = b""
    local_port: int = 0


def plain_address(address: bytes) -> bytes:
    """The address with an IPv4-mapped IPv6 address made the IPv4 address that it stands for."""
    return address[12:] if len(address) == 16 and address.startswith(_MAPPED) else address


def is_loopback(address: bytes) -> bool:
    """Whether an address is of 127.0.0.0/8 or ::1."""
    return (len(address) == 4 and address[0] == 127) or address == _V6_LOOPBACK


def matches(rule: NetworkRule, facts: FlowFacts) -> bool:
    """Whether one rule matches one flow."""
    if rule.match_protocol and rule.match_protocol != facts.protocol:
        return False
    if rule.match_direction and rule.match_direction != facts.direction:
        return False
    remote, local = plain_address(facts.remote_address), plain_address(facts.local_address)
    if (facts.loopback or is_loopback(remote)) and not names_loopback(rule):
        return False
    if rule.is_host_rule:
        end = rule.match_remote_endpoint
        assert end is not None
        known = facts.host is not None and name_fits(end.host, facts.host)
        return known and _port_fits(end, facts.remote_port)
    return _end_fits(rule.match_remote_endpoint, rule.match_remote_prefix, remote, facts.remote_port) and _end_fits(
        rule.match_local_network, rule.match_local_prefix, local, facts.local_port
    )


def name_fits(pattern: str, name: str) -> bool:
    """Whether a host rule's name matches: exact for one label, else by suffix on a label boundary."""
    return name == pattern or ("." in pattern and name.endswith("." + pattern))


def stands_for_dns(rule: NetworkRule) -> bool:
    """Whether a rule also stands for the DNS queries for its names (host rules with port 0 or 53)."""
    end = rule.match_remote_endpoint
    return rule.is_host_rule and end is not None and end.port in (0, DNS_PORT)


def names_loopback(rule: NetworkRule) -> bool:
    """Whether a rule names a loopback network, so that it can match what stays on the loopback interface."""
    if rule.is_host_rule:
        return False
    ends = (
        (rule.match_remote_endpoint, rule.match_remote_prefix),
        (rule.match_local_network, rule.match_local_prefix),
    )
    return any(end is not None and is_loopback(_network(end, prefix)[0]) for end, prefix in ends)


def _port_fits(end: Endpoint, port: int) -> bool:
    return end.port in (0, port)


def _end_fits(end: Endpoint | None, prefix: int | None, address: bytes, port: int) -> bool:
    if end is None:
        return True
    if not _port_fits(end, port):
        return False
    if end.is_wildcard_address:
        return True
    network, length = _network(end, prefix)
    shift = len(network) * 8 - length
    same_family = len(network) == len(address)
    return same_family and int.from_bytes(network, "big") >> shift == int.from_bytes(address, "big") >> shift


def _network(end: Endpoint, prefix: int | None) -> tuple[bytes, int]:
    """A rule's network as bytes and prefix length; an IPv4-mapped one (::ffff:a.b.c.d) becomes IPv4."""
    packed, length = ip_address(end.host.partition("%")[0]).packed, prefix or 0
    plain = plain_address(packed)
    return (plain, length - 96) if len(plain) != len(packed) and length >= 96 else (packed, length)


class TransparentProxyMatcher:
    """The rules of one transparent proxy, made ready. Without settings it claims all that is outbound, bar
    loopback.

    (Apple offers a transparent proxy without settings nothing at all; docs/differences.md.) The settings must
    be valid for a transparent proxy: call `validate` on them first.
    """

    __slots__ = ("_excluded", "_included")

    def __init__(self, settings: TransparentProxyNetworkSettings | None = None) -> None:
        self._included: tuple[_Table, ...] | None = None
        self._excluded: tuple[_Table, ...] | None = None
        if settings is not None:
            self._included = _tables("included", settings.included_network_rules)
            self._excluded = _tables("excluded", settings.excluded_network_rules)

    def claims(
        self, protocol: Protocol, address: bytes, port: int, host: str | None = None, loopback: bool = False
    ) -> tuple[bool, str]:
        """Whether the flow is the proxy's, and the text of the rule that decided.

        `protocol` is TCP or UDP, `address` the remote address as 4 or 16 bytes, `host` its name in lower case
        if known.
        """
        address = plain_address(address)
        loopback = loopback or is_loopback(address)
        if self._included is None or self._excluded is None:
            text = "loopback needs a rule of its own" if loopback else "no settings: every flow"
            return not loopback, text
        decided = self._excluded[protocol].find(address, port, host, loopback)
        if decided is not None:
            return False, decided
        decided = self._included[protocol].find(address, port, host, loopback)
        return (True, decided) if decided is not None else (False, "no included rule matches")

    def claims_dns(self, name: str, protocol: Protocol = Protocol.UDP) -> tuple[bool, str]:
        """Whether the DNS queries for a name are the proxy's, by host rules with port 0 or 53, and the
        deciding rule.

        Only rules speak for queries: without settings, and by address rules, none are claimed. (Reference
        §2.13.)
        """
        if self._included is None or self._excluded is None:
            return False, "no settings: no queries"
        decided = self._excluded[protocol].find_name(name, DNS_PORT)
        if decided is not None:
            return False, decided
        decided = self._included[protocol].find_name(name, DNS_PORT)
        return (True, decided) if decided is not None else (False, "no included host rule matches")


_Ports = dict[int, str]  # port, 0 for any -> text of the first rule that says so


class _Table:
    """Rules of one list for one protocol, grouped so that a look-up costs one dict access per prefix
    length.
    """

    __slots__ = ("anywhere", "domains", "hosts", "networks")

    def __init__(self) -> None:
        self.anywhere: _Ports = {}
        self.hosts: dict[str, _Ports] = {}
        self.domains: dict[str, _Ports] = {}
        self.networks: dict[int, dict[int, tuple[dict[int, _Ports], dict[int, _Ports]]]] = {4: {}, 16: {}}
        """Length of the address -> shift -> (networks, networks that may match loopback) -> network ->
        ports.
        """

    def add(self, rule: NetworkRule, text: str) -> None:
        end = rule.match_remote_endpoint
        if end is None or (not rule.is_host_rule and end.is_wildcard_address):
            ports = self.anywhere
        elif rule.is_host_rule:
            names = self.domains if "." in end.host else self.hosts
            ports = names.setdefault(end.host, {})
        else:
            ports = self._network_ports(end, rule.match_remote_prefix)
        ports.setdefault(end.port if end else 0, text)

    def _network_ports(self, end: Endpoint, prefix: int | None) -> _Ports:
        network, length = _network(end, prefix)
        shift = len(network) * 8 - length
        ordinary, loopback = self.networks[len(network)].setdefault(shift, ({}, {}))
        # a rule for loopback matches what the kernel carries over lo, and any other address just the same
        group = loopback if is_loopback(network) else ordinary
        return group.setdefault(int.from_bytes(network, "big") >> shift, {})

    def find(self, address: bytes, port: int, host: str | None, loopback: bool) -> str | None:
        """The text of a rule that matches, or None."""
        if not loopback:
            found = _of(self.anywhere, port)
            if found is None and host is not None:
                found = self.find_name(host, port)
            if found is not None:
                return found
        return self._find_network(address, port, loopback)

    def find_name(self, name: str, port: int) -> str | None:
        """The text of a host rule that matches a name, or None."""
        found = _of(self.hosts.get(name), port)
        if found is not None or not self.domains:
            return found
        suffix = name
        while found is None and suffix:
            found = _of(self.domains.get(suffix), port)
            suffix = suffix.partition(".")[2]
        return found

    def _find_network(self, address: bytes, port: int, loopback: bool) -> str | None:
        groups = self.networks.get(len(address))
        if not groups:
            return None
        number = int.from_bytes(address, "big")
        for shift, (ordinary, explicit) in groups.items():
            found = _of(explicit.get(number >> shift), port)
            if found is None and not loopback:
                found = _of(ordinary.get(number >> shift), port)
            if found is not None:
                return found
        return None


def _of(ports: _Ports | None, port: int) -> str | None:
    return (ports.get(port) or ports.get(0)) if ports else None


def _tables(name: str, rules: Iterable[NetworkRule]) -> tuple[_Table, ...]:
    """One table for each protocol, at the index of its number (0, "any", is asked for by nobody and holds
    all).
    """
    tables = (_Table(), _Table(), _Table())
    for index, rule in enumerate(rules):
        text = f"{name}[{index}] {rule}"
        for protocol in Protocol:
            if not rule.match_protocol or rule.match_protocol == protocol or not protocol:
                tables[protocol].add(rule, text)
    return tables
