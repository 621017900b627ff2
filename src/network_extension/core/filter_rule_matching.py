"""Which rule of a content filter decides a flow? (NEFilterSettings, reference §2.16, §3.2)

Rules are ordered and the first that matches decides; `core/rule_matching.matches` says whether one does. Loopback is
allowed by default, whatever the default action, and is matched only by a rule whose own network is a loopback one.

`FilterRuleMatcher` gives the answer of a walk through the list in a time that hardly depends on its length: rules are
filed by what they say of the near side, then by protocol and direction, then by what they say of the far side, and of
all that fit the one with the lowest number is taken. A look-up costs one dict access for each prefix length in use. The
tests hold it against the walk.
"""

from __future__ import annotations

from ipaddress import ip_address

from ..endpoint import Endpoint
from ..filter_settings import FilterRule, FilterSettings
from ..filter_verdicts import FilterAction
from ..rules import Direction, NetworkRule, Protocol
from .rule_matching import FlowFacts, is_loopback, names_loopback, plain_address

NONE = 1 << 30
"""Larger than the number of any rule."""
_Ports = dict[int, int]  # port, 0 for any -> number of the first rule that says so
_Networks = dict[int, dict[int, dict[int, _Ports]]]  # bytes of an address -> shift -> network -> ports
_PROTOCOLS = {Protocol.ANY: tuple(Protocol)}
_DIRECTIONS = {Direction.ANY: tuple(Direction)}


class FilterRuleMatcher:
    """The rules of one filter, made ready."""

    __slots__ = ("_anywhere", "_default", "_near", "_rules", "_texts", "names_loopback")

    def __init__(self, settings: FilterSettings) -> None:
        self._rules = settings.rules
        self._default = settings.default_action
        self._texts = [
            f"rules[{number}] {rule.action.name.lower()} {rule.network_rule}" for number, rule in enumerate(self._rules)
        ]
        self._anywhere = _Group()
        """Rules that say nothing of the near side."""
        self._near: dict[tuple[int, int], dict[int, dict[int, _Group]]] = {}
        """The others: (bytes of an address, shift) -> network -> port -> rules. (0, 0) is any address."""
        self.names_loopback = any(names_loopback(rule.network_rule) for rule in self._rules)
        """Whether any rule can match a loopback flow; without one all of them are allowed."""
        for number, rule in enumerate(self._rules):
            self._file(number, rule)

    def _file(self, number: int, rule: FilterRule) -> None:
        network = rule.network_rule
        near = network.match_local_network
        if near is None:
            self._anywhere.add(network, number)
            return
        size, shift, value = (0, 0, 0) if near.is_wildcard_address else _place(near, network.match_local_prefix)
        groups = self._near.setdefault((size, shift), {}).setdefault(value, {})
        group = groups.get(near.port)
        if group is None:
            group = groups[near.port] = _Group(size > 0 and is_loopback((value << shift).to_bytes(size, "big")))
        group.add(network, number)

    def decide(self, facts: FlowFacts) -> tuple[FilterAction, str]:
        """What becomes of a flow, and the text of the rule, or "default" or what else says so."""
        remote = plain_address(facts.remote_address)
        loopback = facts.loopback or is_loopback(remote)
        number = self._anywhere.find(facts, remote, loopback)
        if self._near:
            number = min(number, self._find_near(facts, remote, loopback))
        if number < NONE:
            return self._rules[number].action, self._texts[number]
        if loopback:
            return FilterAction.ALLOW, "loopback, which no rule names"
        return self._default, "default action"

    def _find_near(self, facts: FlowFacts, remote: bytes, loopback: bool) -> int:
        local, port, best = plain_address(facts.local_address), facts.local_port, NONE
        value = int.from_bytes(local, "big")
        for (size, shift), networks in self._near.items():
            if size in (0, len(local)) and (groups := networks.get(value >> shift if size else 0)) is not None:
                for number in {port, 0}:
                    if (group := groups.get(number)) is not None:
                        best = min(best, group.find(facts, remote, loopback))
        return best


class _Group:
    """Rules that say the same of the near side, by protocol and direction."""

    __slots__ = ("_names_loopback", "_tables")

    def __init__(self, names_loopback: bool = False) -> None:
        self._names_loopback = names_loopback
        """The near side is a loopback network: that is naming loopback, whatever the far side is."""
        self._tables: dict[tuple[int, int], _Table] = {}

    def add(self, rule: NetworkRule, number: int) -> None:
        for protocol in _PROTOCOLS.get(rule.match_protocol, (rule.match_protocol,)):
            for direction in _DIRECTIONS.get(rule.match_direction, (rule.match_direction,)):
                table = self._tables.get((protocol, direction))
                if table is None:
                    table = self._tables[int(protocol), int(direction)] = _Table()
                table.add(rule, number)

    def find(self, facts: FlowFacts, remote: bytes, loopback: bool) -> int:
        """The number of the first rule that matches, or NONE."""
        table = self._tables.get((facts.protocol, facts.direction))
        if table is None:
            return NONE
        return table.find(remote, facts.remote_port, facts.host, loopback and not self._names_loopback)


class _Table:
    """Rules of one protocol and direction."""

    __slots__ = ("anywhere", "domains", "hosts", "loopback", "networks")

    def __init__(self) -> None:
        self.anywhere: _Ports = {}
        self.hosts: dict[str, _Ports] = {}
        self.domains: dict[str, _Ports] = {}
        self.networks: _Networks = {4: {}, 16: {}}
        self.loopback: _Networks = {4: {}, 16: {}}
        """Networks that lie in 127.0.0.0/8 or are ::1: they match what goes over the loopback interface, too."""

    def add(self, rule: NetworkRule, number: int) -> None:
        end = rule.match_remote_endpoint
        if end is None or (not rule.is_host_rule and end.is_wildcard_address):
            ports = self.anywhere
        elif rule.is_host_rule:
            ports = (self.domains if "." in end.host else self.hosts).setdefault(end.host, {})
        else:
            size, shift, network = _place(end, rule.match_remote_prefix)
            group = self.loopback if is_loopback((network << shift).to_bytes(size, "big")) else self.networks
            ports = group[size].setdefault(shift, {}).setdefault(network, {})
        ports.setdefault(end.port if end else 0, number)

    def find(self, address: bytes, port: int, host: str | None, loopback: bool) -> int:
        """The number of the first rule that matches, or NONE."""
        best = NONE
        if not loopback:
            best = _first(self.anywhere, port, best)
            if host is not None and (self.hosts or self.domains):
                best = self._find_name(host, port, best)
            best = _in_networks(self.networks, address, port, best)
        return _in_networks(self.loopback, address, port, best)

    def _find_name(self, host: str, port: int, best: int) -> int:
        best = _first(self.hosts.get(host), port, best)
        if self.domains:
            suffix = host
            while suffix:
                best = _first(self.domains.get(suffix), port, best)
                suffix = suffix.partition(".")[2]
        return best


def _first(ports: _Ports | None, port: int, best: int) -> int:
    if not ports:
        return best
    return min(best, ports.get(port, NONE), ports.get(0, NONE))


def _in_networks(networks: _Networks, address: bytes, port: int, best: int) -> int:
    groups = networks.get(len(address))
    if groups:
        value = int.from_bytes(address, "big")
        for shift, group in groups.items():
            ports = group.get(value >> shift)
            if ports is not None:
                best = _first(ports, port, best)
    return best


def _place(end: Endpoint, prefix: int | None) -> tuple[int, int, int]:
    """A network as (bytes of an address, shift, value); an IPv4-mapped one is IPv4."""
    packed, length = ip_address(end.host.partition("%")[0]).packed, prefix or 0
    plain = plain_address(packed)
    if len(plain) != len(packed) and length >= 96:
        packed, length = plain, length - 96
    shift = len(packed) * 8 - length
    return len(packed), shift, int.from_bytes(packed, "big") >> shift
