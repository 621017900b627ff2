"""What a rule can ask of the far side of a flow; the form is that of `conditions`."""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

from .conditions import Condition, any_of
from .facts import FlowFacts
from .lists import TargetList


class Ports(NamedTuple):
    """The service's port: the far side's for outbound flows, ours for inbound ones."""

    ranges: tuple[tuple[int, int], ...]

    def holds(self, facts: FlowFacts, now: datetime) -> bool:
        """In one of the ranges."""
        port = facts.port
        return any(first <= port <= last for first, last in self.ranges)

    def elements(self) -> tuple[object, ...]:
        """The ranges."""
        return tuple(("port", *pair) for pair in self.ranges)

    def found(self, facts: FlowFacts, now: datetime) -> str:
        """The port."""
        return f"port is {facts.port}" if facts.port >= 0 else f"{facts.protocol_name} has no ports"

    def __str__(self) -> str:
        return f"port {any_of(str(a) if a == b else f'{a}-{b}' for a, b in self.ranges)}"


class Protocols(NamedTuple):
    """The transport protocol."""

    numbers: tuple[int, ...]
    texts: tuple[str, ...]

    def holds(self, facts: FlowFacts, now: datetime) -> bool:
        """By number."""
        return facts.protocol in self.numbers

    def elements(self) -> tuple[object, ...]:
        """The numbers."""
        return tuple(("protocol", number) for number in self.numbers)

    def found(self, facts: FlowFacts, now: datetime) -> str:
        """The protocol."""
        return f"protocol is {facts.protocol_name}"

    def __str__(self) -> str:
        return f"protocol {any_of(self.texts)}"


class Towards(NamedTuple):
    """Who began it."""

    is_outbound: bool

    def holds(self, facts: FlowFacts, now: datetime) -> bool:
        """Outbound: a program of this machine."""
        return facts.is_outbound == self.is_outbound

    def elements(self) -> tuple[object, ...]:
        """The direction."""
        return (("direction", self.is_outbound),)

    def found(self, facts: FlowFacts, now: datetime) -> str:
        """The direction."""
        return f"direction is {'outbound' if facts.is_outbound else 'inbound'}"

    def __str__(self) -> str:
        return f"direction {'outbound' if self.is_outbound else 'inbound'}"


class Hosts(NamedTuple):
    """The far side's name."""

    texts: tuple[str, ...]
    exact: frozenset[str]
    below: frozenset[str]
    """Names of which everything below, but not the name itself, is meant (`*.example.com`)."""
    domains: frozenset[str]
    """Names meant with everything below them."""
    globs: tuple[re.Pattern[str], ...]

    def holds(self, facts: FlowFacts, now: datetime) -> bool | None:
        """None while a name may still come."""
        name = facts.host
        if name is None:
            return None if facts.may_look else False
        if name in self.exact or name in self.domains:
            return True
        if self.below or self.domains:
            parent = name.partition(".")[2]
            while parent:
                if parent in self.below or parent in self.domains:
                    return True
                parent = parent.partition(".")[2]
        return any(glob.match(name) for glob in self.globs)

    def elements(self) -> tuple[object, ...]:
        """The names and patterns."""
        return tuple(("host", name) for name in (*self.exact, *self.below, *self.domains)) + tuple(
            ("host glob", glob.pattern) for glob in self.globs
        )

    def found(self, facts: FlowFacts, now: datetime) -> str:
        """The name."""
        return f"host is {facts.host}" if facts.host else "the host's name is not known"

    def __str__(self) -> str:
        return f"host {any_of(self.texts)}"


class Networks(NamedTuple):
    """The far side's address."""

    texts: tuple[str, ...]
    ranges: tuple[tuple[int, int, int], ...]
    """IP version, first and last address."""

    def holds(self, facts: FlowFacts, now: datetime) -> bool:
        """In one of the networks."""
        version, address = facts.version, facts.address
        return any(first <= address <= last and of == version for of, first, last in self.ranges)

    def elements(self) -> tuple[object, ...]:
        """The networks."""
        return tuple(("network", *each) for each in self.ranges)

    def found(self, facts: FlowFacts, now: datetime) -> str:
        """The address."""
        return f"address is {facts.address_text or 'not known'}"

    def __str__(self) -> str:
        return f"network {any_of(self.texts)}"


class Listed(NamedTuple):
    """The far side is on a list, by name or by address."""

    lists: tuple[TargetList, ...]

    @property
    def has_names(self) -> bool:
        """Whether any of the lists has names."""
        return any(each.has_names for each in self.lists)

    def holds(self, facts: FlowFacts, now: datetime) -> bool | None:
        """None while a name may still come, which may be on a list."""
        if facts.version and any(each.has_address(facts.version, facts.address) for each in self.lists):
            return True
        name = facts.host
        if name is None:
            return None if facts.may_look and self.has_names else False
        return any(each.has_name(name) for each in self.lists)

    def elements(self) -> tuple[object, ...]:
        """The lists."""
        return tuple(("list", id(each)) for each in self.lists)

    def found(self, facts: FlowFacts, now: datetime) -> str:
        """What was looked up."""
        names = ", ".join(each.name for each in self.lists)
        return f"neither name nor address of {facts.target} is on {names}"

    def __str__(self) -> str:
        return f"list {any_of(each.name for each in self.lists)}"


def is_about_names(condition: Condition) -> bool:
    """Whether a name that comes later can change what a condition says."""
    return isinstance(condition, Hosts) or (isinstance(condition, Listed) and condition.has_names)
