"""What was let through without a rule, as rules that a person can review.

Flows are noted by program, protocol and port. What is written merges them: hosts of one domain become the domain,
neighbouring addresses their network, and targets with the same ports one rule. What gets too long to review becomes
"any". The file is replaced as a whole; what was in it before (a person's changes too) stays as it is at its top, and
flows that it already matches are not noted again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from .answers import domain_of
from .facts import FlowFacts
from .index import RuleIndex
from .patterns import literal
from .rules import Action, Rule
from .toml_text import rule_text

MOST_PROGRAMS, MOST_TARGETS, MOST_PORTS = 1000, 256, 16
MERGED_HOSTS, MERGED_ADDRESSES = 3, 4
"""From so many hosts of a domain, or addresses of a network, on, that is proposed instead."""
_HEADER = """\
# Proposed by the firewall in learn mode: flows that no rule decided. Review them, and move what is right to your rules,
# or include this file: include = ["learned.toml"]
"""

_Key = tuple[str, bool, str]  # program, outbound, protocol
_Target = tuple[str, str]  # "host" or "network", which


class Learner:
    """The flows of one session, and the text of a file before it."""

    def __init__(self, session: datetime, before: str = "", known: Iterable[Rule] = ()) -> None:
        self._session, self._before = session, before or _HEADER
        self._known = RuleIndex(tuple(known), Action.ASK)
        self._seen: dict[_Key, dict[_Target, set[int]]] = {}
        self.is_changed = False
        self.unknown = 0
        """Flows whose program is not known, so that no rule can be proposed for them."""

    def note(self, facts: FlowFacts, now: datetime) -> None:
        """A flow was let through without a rule."""
        if not facts.program:
            self.unknown += 1
            return
        if self._known.decide(facts._replace(may_look=False), now).rule is not None:
            return
        key = facts.program, facts.is_outbound, facts.protocol_name
        if key not in self._seen and len(self._seen) >= MOST_PROGRAMS:
            return
        targets = self._seen.setdefault(key, {})
        target = _target(facts)
        if target not in targets and len(targets) >= MOST_TARGETS:
            target = ("any", "")
        ports = targets.setdefault(target, set())
        if facts.port not in ports and len(ports) <= MOST_PORTS:
            ports.add(facts.port)
            self.is_changed = True

    def text(self) -> str:
        """The whole file."""
        self.is_changed = False
        return self._before.rstrip("\n") + "\n" + "".join(f"\n{rule_text(rule)}" for rule in self.proposals())

    def proposals(self) -> list[dict[str, Any]]:
        """The rules as data, merged."""
        found: list[dict[str, Any]] = []
        for (program, is_outbound, protocol), targets in self._seen.items():
            for ports, group in _by_ports(targets).items():
                for far_side in _merged(group):
                    found.append(
                        self._rule(
                            len(self._known.rules) + len(found) + 1, program, is_outbound, protocol, ports, far_side
                        )
                    )
        return found

    def _rule(
        self, number: int, program: str, is_outbound: bool, protocol: str, ports: frozenset[int], far: dict[str, Any]
    ) -> dict[str, Any]:
        name = program.rpartition("/")[2]
        data: dict[str, Any] = {
            "name": f"learned {self._session:%Y-%m-%d %H:%M:%S} {number}: {name}",
            "action": "allow",
            "program": literal(program),
            "direction": "outbound" if is_outbound else "inbound",
            "protocol": int(protocol) if protocol.isdigit() else protocol,
        }
        numbers = sorted(ports - {-1})
        if numbers and len(numbers) <= MOST_PORTS:
            data["port"] = numbers[0] if len(numbers) == 1 else numbers
        return data | far


def _target(facts: FlowFacts) -> _Target:
    if not facts.is_outbound:
        return "any", ""  # who comes in is not ours to choose: the port is what is proposed
    if facts.host:
        return "host", facts.host
    return ("network", facts.address_text) if facts.version else ("any", "")


def _by_ports(targets: dict[_Target, set[int]]) -> dict[frozenset[int], list[_Target]]:
    groups: dict[frozenset[int], list[_Target]] = {}
    if ("any", "") in targets:
        everything: frozenset[int] = frozenset().union(*targets.values())
        return {everything: [("any", "")]}
    for target, ports in targets.items():
        groups.setdefault(frozenset(ports), []).append(target)
    return groups


def _merged(targets: list[_Target]) -> list[dict[str, Any]]:
    """The far sides of as many rules as it takes: names and addresses are conditions that would both have to hold."""
    if ("any", "") in targets:
        return [{}]
    found: list[dict[str, Any]] = []
    hosts = [value for kind, value in targets if kind == "host"]
    networks = [value for kind, value in targets if kind == "network"]
    if hosts:
        domains, single = _grouped(hosts, domain_of, MERGED_HOSTS)
        found.append({key: _one_or_all(values) for key, values in (("host", single), ("domain", domains)) if values})
    if networks:
        wide, narrow = _grouped(networks, _network_of, MERGED_ADDRESSES)
        found.append({"network": _one_or_all(wide + narrow)})
    return found


def _grouped(values: list[str], group_of: Any, least: int) -> tuple[list[str], list[str]]:
    """Groups with at least so many members, and the values that are in none of them."""
    groups: dict[str, list[str]] = {}
    for value in values:
        groups.setdefault(group_of(value), []).append(value)
    large = sorted(name for name, members in groups.items() if len(members) >= least)
    return large, sorted(value for name, members in groups.items() if name not in large for value in members)


def _network_of(address: str) -> str:
    """The /24 or /64 of an address."""
    from ipaddress import ip_network

    return str(ip_network(f"{address}/{64 if ':' in address else 24}", strict=False))


def _one_or_all(values: list[str]) -> Any:
    return values[0] if len(values) == 1 else values
