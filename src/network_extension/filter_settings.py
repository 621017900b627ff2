"""The rules that decide flows before a content filter is asked (NEFilterSettings, NEFilterRule).

Reference §2.16, §3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

from .errors import ConfigurationError
from .filter_verdicts import FilterAction
from .rules import NetworkRule

MAX_RULES = 1000
_RULE_ACTIONS = (FilterAction.ALLOW, FilterAction.DROP, FilterAction.FILTER_DATA)


class FilterRule:
    """A network rule and what becomes of the flows that match it. Immutable."""

    __slots__ = ("action", "network_rule")

    network_rule: NetworkRule
    action: FilterAction

    def __init__(self, network_rule: NetworkRule, action: FilterAction) -> None:
        """Raises ConfigurationError when `action` is not allow, drop or filter data."""
        if not isinstance(network_rule, NetworkRule):
            raise ConfigurationError(f"FilterRule: a NetworkRule is needed, not {type(network_rule).__name__}")
        if action not in _RULE_ACTIONS:
            raise ConfigurationError(
                f"FilterRule: action {action!r} cannot be a rule's; allow, drop and filter data can"
            )
        object.__setattr__(self, "network_rule", network_rule)
        object.__setattr__(self, "action", FilterAction(action))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"FilterRule is immutable: {name} cannot be set")

    def __repr__(self) -> str:
        return f"<FilterRule {self.action.name.lower()} {self.network_rule}>"


class FilterSettings:
    """Ordered rules, of which the first that matches decides, and the action for all other flows. Immutable.

    Loopback flows pass without being asked for, whatever the default, unless a rule for loopback matches them.
    """

    __slots__ = ("default_action", "rules")

    rules: tuple[FilterRule, ...]
    default_action: FilterAction

    def __init__(
        self, rules: Sequence[FilterRule] = (), default_action: FilterAction = FilterAction.FILTER_DATA
    ) -> None:
        """Raises ConfigurationError: over 1000 rules, or a default of allow or drop without any rule."""
        rules = tuple(rules)
        if len(rules) > MAX_RULES:
            raise ConfigurationError(
                f"FilterSettings: {len(rules)} rules; at most {MAX_RULES} are allowed. Merge networks into larger"
                " prefixes, or decide in handle_new_flow"
            )
        for index, rule in enumerate(rules):
            if not isinstance(rule, FilterRule):
                raise ConfigurationError(f"FilterSettings: rules[{index}] is a {type(rule).__name__}, not a FilterRule")
        if default_action not in _RULE_ACTIONS:
            raise ConfigurationError(f"FilterSettings: default action {default_action!r}; allow, drop or filter data")
        if default_action is not FilterAction.FILTER_DATA and not rules:
            raise ConfigurationError(
                f"FilterSettings: default action {FilterAction(default_action).name.lower()} needs at least one rule"
            )
        object.__setattr__(self, "rules", rules)
        object.__setattr__(self, "default_action", FilterAction(default_action))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"FilterSettings is immutable: {name} cannot be set")

    def __repr__(self) -> str:
        return f"<FilterSettings: {len(self.rules)} rules, default {self.default_action.name.lower()}>"
