"""Rules, and the plain way in which they decide: the first that matches. `index` gives the same answers quickly."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from .conditions import Condition, During
from .destinations import is_about_names
from .facts import FlowFacts


class Action(StrEnum):
    """What becomes of a flow."""

    ALLOW = "allow"
    DENY = "deny"
    """The program is told at once."""
    DROP = "drop"
    """Nobody is told; it times out."""
    ASK = "ask"
    INSPECT = "inspect"
    """Look at the first bytes for a name, then go on with the next rule."""


class Place(NamedTuple):
    """Where a rule stands."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Rule(NamedTuple):
    """One rule: all of its conditions must hold. Without any, it matches every flow."""

    name: str
    action: Action
    conditions: tuple[Condition, ...] = ()
    place: Place = Place("")
    until_restart: bool = False
    """Holds in the session in which it was added only."""

    @property
    def has_times(self) -> bool:
        """Whether the clock matters."""
        return any(isinstance(condition, During) for condition in self.conditions)

    @property
    def about_names(self) -> bool:
        """Whether the host's name matters."""
        return self.action is Action.INSPECT or any(map(is_about_names, self.conditions))

    def holds(self, facts: FlowFacts, now: datetime) -> bool | None:
        """Whether all conditions hold; None if only the name, which may still come, is missing."""
        answer: bool | None = True
        for condition in self.conditions:
            each = condition.holds(facts, now)
            if each is None:
                answer = None
            elif not each:
                return False
        return answer

    def __str__(self) -> str:
        return f"{self.name!r} ({self.place})" if self.place.file else repr(self.name)


class Decision(NamedTuple):
    """What the rules say. `rule` is None for the default."""

    action: Action
    rule: Rule | None = None
    needs_name: bool = False
    """The first bytes have to be looked at before anything can be said."""

    def __str__(self) -> str:
        return f"rule {self.rule}" if self.rule else "the default"


def decide_plainly(rules: Sequence[Rule], default: Action, facts: FlowFacts, now: datetime) -> Decision:
    """The definition of what rules decide: the first that matches, or the default.

    Where the name may still come, rules that it could make match are looked past, as long as all of them would do the
    same as the rule that does match. If they would not, the name is needed.
    """
    possible: set[Action] = set()
    for rule in rules:
        holds = rule.holds(facts, now)
        if holds is False:
            continue
        if rule.action is Action.INSPECT:
            if facts.may_look and not facts.has_own_name:
                return Decision(Action.INSPECT, rule, True)
        elif holds is None:
            possible.add(rule.action)
        else:
            return _unless_the_name_matters(Decision(rule.action, rule), possible)
    return _unless_the_name_matters(Decision(default), possible)


def _unless_the_name_matters(decision: Decision, possible: set[Action]) -> Decision:
    return decision if possible <= {decision.action} else Decision(Action.INSPECT, decision.rule, True)
