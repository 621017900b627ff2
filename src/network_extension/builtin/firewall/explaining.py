"""Why a flow is decided as it is: the rule that decides, what of it fits, and why the rules before it do not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from .facts import FlowFacts
from .rules import Action, Decision, Rule, decide_plainly


class Looked(NamedTuple):
    """A rule that was looked at and did not decide."""

    rule: Rule
    why: str


class Explanation(NamedTuple):
    """What the rules say of a flow, and how they come to it."""

    facts: FlowFacts
    decision: Decision
    looked_at: tuple[Looked, ...]
    then: str = ""
    """What happens next, where the decision is not the end."""

    def __str__(self) -> str:
        """One line."""
        decision = self.decision
        if decision.needs_name:
            text = "the first bytes are looked at for a name"
        elif decision.rule is None:
            count = len(self.looked_at)
            text = f"{decision.action} by the default" + (f"; none of {count} rules matches" if count else "")
        else:
            fits = ", ".join(map(str, decision.rule.conditions)) or "it matches everything"
            text = f"{decision.action} by rule {decision.rule}: {fits}"
        return f"{text}; {self.then}" if self.then else text

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        rule = self.decision.rule
        return {
            "flow": str(self.facts),
            "action": str(self.decision.action),
            "rule": rule.name if rule else None,
            "place": str(rule.place) if rule else None,
            "needs_name": self.decision.needs_name,
            "then": self.then,
            "looked_at": [{"rule": rule.name, "place": str(rule.place), "why": why} for rule, why in self.looked_at],
        }


def explain(rules: Sequence[Rule], default: Action, facts: FlowFacts, now: datetime) -> Explanation:
    """The decision of `rules`, with its reasons."""
    decision = decide_plainly(rules, default, facts, now)
    looked_at = []
    for rule in rules:
        if rule is decision.rule and not decision.needs_name:
            break
        looked_at.append(Looked(rule, _why_not(rule, facts, now)))
    return Explanation(facts, decision, tuple(looked_at), _then(rules, default, facts, now, decision))


def _why_not(rule: Rule, facts: FlowFacts, now: datetime) -> str:
    for condition in rule.conditions:
        if condition.holds(facts, now) is False:
            return f"{condition} does not fit: {condition.found(facts, now)}"
    if rule.holds(facts, now) is None:
        return f"would {rule.action} if the name fits, which is not known yet"
    if rule.action is Action.INSPECT:
        return "the name is known from the flow's own bytes" if facts.has_own_name else "looks at the first bytes"
    return f"would {rule.action} if no name comes"


def _then(rules: Sequence[Rule], default: Action, facts: FlowFacts, now: datetime, decision: Decision) -> str:
    if not decision.needs_name:
        return ""
    without = decide_plainly(rules, default, facts._replace(may_look=False), now)
    return f"without one in them, {without.action} by {without}"
