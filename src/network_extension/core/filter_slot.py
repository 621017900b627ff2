"""A content filter's place in the order, the bounds of a flow under filters, and the error of an answer out of turn."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import NetworkExtensionError
from ..filter_verdicts import FilterGrade
from .filter_rule_matching import FilterRuleMatcher
from .filter_steps import AskNewFlow
from .flow_decision import Policy, ProviderState


class FilterMisuse(NetworkExtensionError):
    """A verdict at a time when none can be given; the text says what the flow's state is."""


class FilterLimits(NamedTuple):
    """Bounds of a flow under filters; times in seconds."""

    deadline: float = 10.0
    """For each question."""
    most_held: int = 65536
    """Bytes of a direction that are waited for before what is there is shown. A sender's window ends sooner."""
    quiet: float = 0.05
    """How long nothing may come before what is there is shown."""
    datagram_pause: float = 10.0
    """How long a UDP flow may be paused (Apple's figure)."""


DEFAULT_LIMITS = FilterLimits()


class FilterSlot:
    """One filter's place in the order, and what is known about it."""

    __slots__ = ("_policy", "ask", "grade", "index", "kind", "matcher", "name", "state")

    def __init__(
        self, index: int, name: str, grade: FilterGrade = FilterGrade.FIREWALL, policy: Policy | None = None
    ) -> None:
        self.index, self.name, self.grade, self._policy = index, name, grade, policy
        self.kind = "filter-data"
        self.state = ProviderState.STARTING
        self.matcher: FilterRuleMatcher | None = None
        """The rules in force; None: no rules, every flow is asked about."""
        self.ask = AskNewFlow(index)
        """The same step for every flow: made once."""

    @property
    def policy(self) -> Policy:
        """The explicit policy; without one, open."""
        return self._policy or Policy.OPEN
