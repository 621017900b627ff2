"""Before and after for every rule, by its id."""

from __future__ import annotations

from . import (
    examples_deployment,
    examples_entitlements,
    examples_info,
    examples_packaging,
    examples_profile,
    examples_signature,
)
from .example import Example

__all__ = ["EXAMPLES"]

_PARTS = (
    examples_packaging,
    examples_signature,
    examples_entitlements,
    examples_profile,
    examples_info,
    examples_deployment,
)
EXAMPLES: dict[str, Example] = {name: example for part in _PARTS for name, example in part.EXAMPLES.items()}
