"""Rules made ready: the first that matches, in a time that hardly grows with their number.

Each rule is filed under one of its conditions, the *anchor*: the one that fewest other rules share. For a flow, only
the rules whose anchors fit are looked at, in their order, with all of their conditions. How the anchors are found:

    host         a dictionary by name, and one step for each domain above it; wildcards by memory (below)
    network      a dictionary for each length of prefix that is in use
    list         one look-up in each list, however many rules use it
    all others   by memory: which rules fit this program (port, user, command line, …) is worked out once for each
                 that comes by, and kept for the last 1024
    none         rules without an anchor are looked at every time

While a flow's name may still come, conditions on names are no anchors: a second index without them is used. In it,
rules that differ only in names and do the same are one, for all that they can say is "the name is needed".

`rules.decide_plainly` is the definition; a test holds this against it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from .conditions import Arguments, Condition, Interface, OneProcess, Parent, Program, User
from .destinations import Hosts, Listed, Networks, Ports, Protocols, Towards, is_about_names
from .facts import FlowFacts
from .rules import Action, Decision, Rule

MOST_REMEMBERED = 1024
_ANY_TIME = datetime.min.replace(tzinfo=UTC)
_Places = list[int]


class _Memory:
    """Anchors of one kind: which rules fit a value, worked out when the value first comes by."""

    __slots__ = ("_anchored", "_known", "_most", "_value")

    def __init__(self, value: Callable[[FlowFacts], Any], most: int = MOST_REMEMBERED) -> None:
        self._value, self._most = value, most
        self._anchored: list[tuple[int, Condition]] = []
        self._known: dict[Any, _Places] = {}

    def file(self, number: int, condition: Condition) -> None:
        self._anchored.append((number, condition))

    def find(self, facts: FlowFacts) -> _Places:
        value = self._value(facts)
        found = self._known.get(value)
        if found is None:
            if len(self._known) >= self._most:
                self._known.clear()
            found = [number for number, condition in self._anchored if condition.holds(facts, _ANY_TIME)]
            self._known[value] = found
        return found


class _Names:
    """Anchors on host names: exact, by domain, and the wildcards that are neither by memory.

    Names that never came by before are common, and most fit no wildcard: one expression for all of them says so.
    """

    __slots__ = ("_any_glob", "_exact", "_globs", "_patterns", "_suffixes")

    def __init__(self) -> None:
        self._exact: dict[str, _Places] = {}
        self._suffixes: dict[str, _Places] = {}
        self._globs = _Memory(lambda facts: facts.host)
        self._patterns: list[str] = []
        self._any_glob: re.Pattern[str] | None = None

    def file(self, number: int, condition: Hosts) -> None:
        for name in condition.exact | condition.domains:
            self._exact.setdefault(name, []).append(number)
        for name in condition.below | condition.domains:
            self._suffixes.setdefault(name, []).append(number)
        if condition.globs:
            self._globs.file(number, condition)
            self._patterns += [glob.pattern for glob in condition.globs]

    def find(self, facts: FlowFacts) -> _Places:
        name = facts.host
        if name is None:
            return []
        found = list(self._exact.get(name, ()))
        if self._suffixes:
            suffixes, parent = self._suffixes, name.partition(".")[2]
            while parent:
                if parent in suffixes:
                    found += suffixes[parent]
                parent = parent.partition(".")[2]
        if self._patterns:
            if self._any_glob is None:
                self._any_glob = re.compile("|".join(dict.fromkeys(self._patterns)))
            if self._any_glob.match(name):
                found += self._globs.find(facts)
        return found


class _Prefixes:
    """Anchors on networks."""

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        self._tables: dict[int, dict[int, dict[int, _Places]]] = {4: {}, 6: {}}
        """IP version -> bits after the prefix -> prefix -> rules."""

    def file(self, number: int, condition: Networks) -> None:
        for version, first, last in condition.ranges:
            rest = (last - first).bit_length()
            self._tables[version].setdefault(rest, {}).setdefault(first >> rest, []).append(number)

    def find(self, facts: FlowFacts) -> _Places:
        found: _Places = []
        if facts.version:
            address = facts.address
            for rest, table in self._tables[facts.version].items():
                places = table.get(address >> rest)
                if places is not None:
                    found += places
        return found


class _Lists:
    """Anchors on lists: each list is looked up once."""

    __slots__ = ("_by_list",)

    def __init__(self) -> None:
        self._by_list: dict[int, tuple[Listed, _Places]] = {}

    def file(self, number: int, condition: Listed) -> None:
        for each in condition.lists:
            self._by_list.setdefault(id(each), (Listed((each,)), []))[1].append(number)

    def find(self, facts: FlowFacts) -> _Places:
        found: _Places = []
        for condition, places in self._by_list.values():
            if condition.holds(facts, _ANY_TIME):
                found += places
        return found


_VALUES: dict[type, Callable[[FlowFacts], Any]] = {
    Program: lambda facts: facts.program,
    Parent: lambda facts: facts.process.parents if facts.process else (),
    Arguments: lambda facts: facts.process.arguments if facts.process else None,
    User: lambda facts: facts.uid,
    OneProcess: lambda facts: facts.process[:2] if facts.process else None,
    Interface: lambda facts: facts.interface,
    Ports: lambda facts: facts.port,
    Protocols: lambda facts: facts.protocol,
    Towards: lambda facts: facts.is_outbound,
}
"""What a condition of this kind looks at; everything else about a flow does not matter to it."""
_MOST = {Arguments: 64, Parent: 256}
"""Command lines have up to 64 KiB each: fewer of them are kept."""
_ORDER = (Hosts, OneProcess, Networks, Listed, Program, Parent, Arguments, Ports, User, Interface, Protocols, Towards)
"""Of two anchors that as many rules share, the one that comes first here."""


class _Index:
    """One way of filing rules. With `names` False, conditions on names are no anchors."""

    __slots__ = ("_always", "_probes", "_rules")

    def __init__(self, rules: Sequence[Rule], numbers: Sequence[int], *, names: bool) -> None:
        self._rules = rules
        self._always: _Places = []
        probes: dict[type, Any] = {}
        crowds = Counter(
            element for number in numbers for condition in rules[number].conditions for element in condition.elements()
        )
        for number in numbers:
            anchor = _anchor(rules[number], crowds, names)
            if anchor is None:
                self._always.append(number)
            else:
                kind = type(anchor)
                if kind not in probes:
                    probes[kind] = _probe(kind)
                probes[kind].file(number, anchor)
        self._probes = tuple(probe.find for probe in probes.values())

    def candidates(self, facts: FlowFacts) -> _Places:
        """The numbers of the rules that may match, ascending; some may come twice."""
        found = self._always
        for find in self._probes:
            more = find(facts)
            if more:
                found = found + more if found else more
        return sorted(found) if len(found) > 1 else found


def _probe(kind: type) -> Any:
    special = {Hosts: _Names, Networks: _Prefixes, Listed: _Lists}
    return special[kind]() if kind in special else _Memory(_VALUES[kind], _MOST.get(kind, MOST_REMEMBERED))


def _anchor(rule: Rule, crowds: Counter[object], names: bool) -> Condition | None:
    """The condition that fewest rules share."""
    best, least = None, (0, 0)
    for condition in rule.conditions:
        if type(condition) not in _ORDER or (not names and is_about_names(condition)):
            continue
        crowd = max((crowds[element] for element in condition.elements()), default=0)
        if best is None or (crowd, _ORDER.index(type(condition))) < least:
            best, least = condition, (crowd, _ORDER.index(type(condition)))
    return best


class RuleIndex:
    """A set of rules and a default. Immutable, but for what it remembers."""

    __slots__ = ("_default", "_inspects", "_named", "_nameless", "has_times", "needs_names", "rules")

    def __init__(self, rules: Sequence[Rule], default: Action) -> None:
        self.rules = tuple(rules)
        self._default = Decision(default)
        self.has_times = any(rule.has_times for rule in rules)
        self.needs_names = any(rule.about_names for rule in rules)
        self._inspects = any(rule.action is Action.INSPECT for rule in rules)
        self._named = _Index(self.rules, range(len(rules)), names=True)
        self._nameless = (
            _Index(self.rules, _without_repetitions(self.rules), names=False) if self.needs_names else self._named
        )

    @property
    def default(self) -> Action:
        """What becomes of a flow that no rule matches."""
        return self._default.action

    def decide(self, facts: FlowFacts, now: datetime) -> Decision:
        """The first rule that matches. `now` is aware, and matters only if `has_times`."""
        if facts.may_look and (
            (self.needs_names and facts.host is None) or (self._inspects and not facts.has_own_name)
        ):
            return self._decide_while_a_name_may_come(facts, now)
        rules = self.rules
        for number in self._named.candidates(facts):
            rule = rules[number]
            if rule.action is not Action.INSPECT:
                for condition in rule.conditions:
                    if not condition.holds(facts, now):
                        break
                else:
                    return Decision(rule.action, rule)
        return self._default

    def _decide_while_a_name_may_come(self, facts: FlowFacts, now: datetime) -> Decision:
        index = self._nameless if facts.host is None else self._named
        possible: Action | None = None  # what rules would do that only lack the name
        decision = self._default
        for number in index.candidates(facts):
            rule = self.rules[number]
            holds = rule.holds(facts, now)
            if holds is False:
                continue
            if rule.action is Action.INSPECT or (holds is None and possible not in (None, rule.action)):
                return Decision(Action.INSPECT, rule, True)
            if holds:
                decision = Decision(rule.action, rule)
                break
            possible = rule.action
        if possible not in (None, decision.action):
            return Decision(Action.INSPECT, decision.rule, True)
        return decision


def _without_repetitions(rules: Sequence[Rule]) -> list[int]:
    """The rules less those that can say nothing which one before them has not said already, before the name is known.

    These are rules that do the same on the same conditions but for names. A list that holds networks too may match
    without a name, so rules with one are kept.
    """
    seen: set[object] = set()
    kept: list[int] = []
    for number, rule in enumerate(rules):
        waits = any(isinstance(condition, Hosts) for condition in rule.conditions)
        if waits:
            key = rule.action, frozenset(condition for condition in rule.conditions if not is_about_names(condition))
            if key in seen:
                continue
            seen.add(key)
        kept.append(number)
    return kept
