"""Which rule of a content filter decides a flow? (NEFilterSettings, reference §2.16, §3.2)

Rules are ordered and the first that matches decides; `core/rule_matching.matches` says whether one does. Loopback is
allowed by default, whatever the default action, and is matched only by a rule whose own network is a loopback one.

`FilterRuleMatcher` gives the answer of a walk through the list in a time that hardly depends on its length: rules are
filed by protocol, direction, and what they say of the far side, and of all that fit the one with the lowest number is
taken. Rules that name a local network are filed by that, and looked at one by one. The tests hold it against the walk.
"""

from __future__ import annotations

from ipaddress import ip_address

from ..endpoint import Endpoint
from ..filter_settings import FilterRule, FilterSettings
from ..filter_verdicts import FilterAction
from ..rules import Direction, NetworkRule, Protocol
from .rule_matching import FlowFacts, is_loopback, matches, plain_address

NONE = 1 << 30
"""Larger than the number of any rule."""
_Ports = dict[int, int]  # port, 0 for any -> number of the first rule that says so
_Networks = dict[int, dict[int, dict[int, _Ports]]]  # bytes of an address -> shift -> network -> ports


class FilterRuleMatcher:
    """The rules of one filter, made ready."""

    __slots__ = ("_default", "_local", "_rules", "_tables", "_texts")

    def __init__(self, settings: FilterSettings) -> None:
        self._rules = settings.rules
        self._default = settings.default_action
        self._texts = [
            f"rules[{number}] {rule.action.name.lower()} {rule.network_rule}" for number, rule in enumerate(self._rules)
        ]
        self._tables = {
            (protocol, direction): _Table()
            for protocol in Protocol
            for direction in (Direction.INBOUND, Direction.OUTBOUND)
        }
        self._local: dict[tuple[int, int, int], list[int]] = {}
        """Rules that name a local network: (bytes, shift, network) -> their numbers."""
        for number, rule in enumerate(self._rules):
            self._file(number, rule)

    def _file(self, number: int, rule: FilterRule) -> None:
        network = rule.network_rule
        if network.match_local_network is not None:
            self._local.setdefault(_place(network.match_local_network, network.match_local_prefix), []).append(number)
            return
        for (protocol, direction), table in self._tables.items():
            if network.match_protocol in (Protocol.ANY, protocol) and network.match_direction in (
                Direction.ANY,
                direction,
            ):
                table.add(network, number)

    def decide(self, facts: FlowFacts) -> tuple[FilterAction, str]:
        """What becomes of a flow, and the text of the rule, or "default" or what else says so."""
        remote = plain_address(facts.remote_address)
        loopback = facts.loopback or is_loopback(remote)
        direction = Direction.INBOUND if facts.direction is Direction.INBOUND else Direction.OUTBOUND
        number = self._tables[facts.protocol, direction].find(remote, facts.remote_port, facts.host, loopback)
        if self._local:
            number = min(number, self._find_local(facts, number))
        if number < NONE:
            return self._rules[number].action, self._texts[number]
        if loopback:
            return FilterAction.ALLOW, "loopback, which no rule names"
        return self._default, "default action"

    def _find_local(self, facts: FlowFacts, best: int) -> int:
        local = plain_address(facts.local_address)
        value = int.from_bytes(local, "big")
        for (size, shift, network), numbers in self._local.items():
            # An unspecified network (0.0.0.0, ::) stands for every address of both families.
            if network and (size != len(local) or value >> shift != network):
                continue
            for number in numbers:
                if number >= best:
                    break
                if matches(self._rules[number].network_rule, facts):
                    best = number
        return best


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
