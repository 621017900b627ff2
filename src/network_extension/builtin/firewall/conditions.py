"""What a rule can ask of the source and the time of a flow: one small immutable class for each key.

Each says whether it `holds` (None: that depends on a name which is not known yet), and in words what it asks for and
what it found instead. `elements` are the pieces by which the index tells crowded conditions from rare ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple, Protocol

from .facts import FlowFacts
from .patterns import ProgramPatterns
from .times import TimeLimits


class Condition(Protocol):
    """One condition of a rule."""

    def holds(self, facts: FlowFacts, now: datetime) -> bool | None:
        """Whether the flow fulfils it; None when that is not known before its name is."""

    def elements(self) -> tuple[object, ...]:
        """What it is about, in pieces that are equal where conditions overlap."""

    def found(self, facts: FlowFacts, now: datetime) -> str:
        """What the flow has where this condition does not hold."""


class Program(NamedTuple):
    """The program that made the flow."""

    patterns: ProgramPatterns

    def holds(self, facts: FlowFacts, now: datetime) -> bool:
        """By path, name or wildcards."""
        return self.patterns.fits(facts.program)

    def elements(self) -> tuple[object, ...]:
        """The patterns."""
        return tuple(("program", text) for text in self.patterns.texts)

    def found(self, facts: FlowFacts, now: datetime) -> str:
        """The program."""
        return f"program is {facts.program or 'not known'}"

    def __str__(self) -> str:
        return f"program {any_of(self.patterns.texts)}"


class Parent(NamedTuple):
    """Any process above the one that made the flow."""

    patterns: ProgramPatterns

    def holds(self, facts: FlowFacts, now: datetime) -> bool:
        """One of the ancestors will do."""
        return facts.process is not None and any(self.patterns.fits(step.executable) for step in facts.process.parents)

    def elements(self) -> tuple[object, ...]:
        """The patterns."""
        return tuple(("parent", text) for text in self.patterns.texts)

    def found(self, facts: FlowFacts, now: datetime) -> str:
        """The chain of parents."""
        parents = facts.process.parents if facts.process else ()
        return f"parents are {' ← '.join(step.executable for step in parents) or 'not known'}"

    def __str__(self) -> str:
        return f"parent {any_of(self.patterns.texts)}"


class Arguments(NamedTuple):
    """The command line, joined by spaces."""

    texts: tuple[str, ...]
    patterns: tuple[re.Pattern[str], ...]

    def holds(self, facts: FlowFacts, now: datetime) -> bool:
        """The whole line fits one of the patterns."""
        if facts.process is None:
            return False
        line = facts.arguments
        return any(pattern.match(line) for pattern in self.patterns)

    def elements(self) -> tuple[object, ...]:
        """The patterns."""
        return tuple(("arguments", text) for text in self.texts)

    def found(self, facts: FlowFacts, now: datetime) -> str:
        """The line."""
        return f"arguments are {facts.arguments!r}" if facts.process else "arguments are not known"

    def __str__(self) -> str:
        return f"arguments {any_of(self.texts)}"


class User(NamedTuple):
    """The user that the program runs as."""

    uids: tuple[int, ...]
    texts: tuple[str, ...]

    def holds(self, facts: FlowFacts, now: datetime) -> bool:
        """By number; names were looked up when the rules were read."""
        return facts.uid in self.uids

    def elements(self) -> tuple[object, ...]:
        """The numbers."""
        return tuple(("user", uid) for uid in self.uids)

    def found(self, facts: FlowFacts, now: datetime) -> str:
        """The number."""
        return f"user is {facts.uid if facts.uid >= 0 else 'not known'}"

    def __str__(self) -> str:
        return f"user {any_of(self.texts)}"


class OneProcess(NamedTuple):
    """One process: a number that is given again to another process later does not count."""

    pid: int
    start_time: int

    def holds(self, facts: FlowFacts, now: datetime) -> bool:
        """Both numbers must fit."""
        process = facts.process
        return process is not None and process.pid == self.pid and process.start_time == self.start_time

    def elements(self) -> tuple[object, ...]:
        """The number."""
        return (("pid", self.pid),)

    def found(self, facts: FlowFacts, now: datetime) -> str:
        """The number."""
        return f"process is {facts.process.pid}" if facts.process and facts.process.pid else "process is not known"

    def __str__(self) -> str:
        return f"process {self.pid}"


class Interface(NamedTuple):
    """The network interface."""

    texts: tuple[str, ...]
    patterns: tuple[re.Pattern[str], ...]

    def holds(self, facts: FlowFacts, now: datetime) -> bool:
        """By name or wildcards."""
        return bool(facts.interface) and any(pattern.match(facts.interface) for pattern in self.patterns)

    def elements(self) -> tuple[object, ...]:
        """The patterns."""
        return tuple(("interface", text) for text in self.texts)

    def found(self, facts: FlowFacts, now: datetime) -> str:
        """The interface."""
        return f"interface is {facts.interface or 'not known'}"

    def __str__(self) -> str:
        return f"interface {any_of(self.texts)}"


class During(NamedTuple):
    """Limits in time."""

    limits: TimeLimits

    def holds(self, facts: FlowFacts, now: datetime) -> bool:
        """By the clock."""
        return self.limits.holds(now)

    def elements(self) -> tuple[object, ...]:
        """Nothing that tells flows apart."""
        return ()

    def found(self, facts: FlowFacts, now: datetime) -> str:
        """The time."""
        return f"it is {now:%a %Y-%m-%d %H:%M}"

    def __str__(self) -> str:
        return f"time {self.limits}"


def any_of(texts: Iterable[str]) -> str:
    """Alternatives in words."""
    return " or ".join(texts)
