"""All rules of the doctor, by id."""

from __future__ import annotations

import difflib

from ..errors import ConfigurationError
from . import (
    catalogue_deployment,
    catalogue_entitlements,
    catalogue_info,
    catalogue_packaging,
    catalogue_profile,
    catalogue_signature,
)
from .rule import Rule

_PARTS = (
    catalogue_packaging,
    catalogue_signature,
    catalogue_entitlements,
    catalogue_profile,
    catalogue_info,
    catalogue_deployment,
)
RULES: dict[str, Rule] = {rule.id: rule for part in _PARTS for rule in part.RULES}
"""In the order of the catalogue."""


def rule_named(name: str) -> Rule:
    """The rule with this id, in either case. Raises ConfigurationError with those that look like it."""
    found = RULES.get(name.upper())
    if found is None:
        near = difflib.get_close_matches(name.upper(), RULES, 3)
        meant = f"did you mean {', '.join(near)}?" if near else "see netext doctor rules"
        raise ConfigurationError(f"no rule {name!r}; {meant}")
    return found
