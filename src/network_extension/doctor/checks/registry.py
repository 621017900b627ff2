"""How a rule is looked for: a small function, registered under the rule's id, at the level that it is about.

A function is handed what it is about, and says what it finds: None for nothing, a text for the evidence, a `Fault`
where the place or the severity is another than usual, or several of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from ..product import App, Claims, Extension, Member, Product
from ..rule import Severity

__all__ = ["CHECKS", "Fault", "Found", "of_app", "of_claims", "of_extension", "of_member", "of_product"]


class Fault(NamedTuple):
    """One finding, before it is tied to its rule."""

    evidence: str
    place: str = ""
    """A path; empty: that of what was looked at."""
    level: Severity | None = None
    """Instead of the rule's severity."""


Found = str | Fault | Iterable["str | Fault"] | None
CHECKS: dict[str, Callable[[Product], Iterator[Fault]]] = {}
"""By rule id: what a product has of it."""
_Subject = TypeVar("_Subject", App, Extension, Member, Claims)


def of_product(rule: str) -> Callable[[Callable[[Product], Found]], Callable[[Product], Found]]:
    """Registers a function that looks at everything at once."""

    def register(look: Callable[[Product], Found]) -> Callable[[Product], Found]:
        return _register(rule, look, lambda product: _faults(look(product), ""))

    return register


def of_app(rule: str) -> Callable[[Callable[[App], Found]], Callable[[App], Found]]:
    """Registers a function that looks at one app."""
    return _of(rule, lambda product: product.apps)


def of_extension(rule: str) -> Callable[[Callable[[Extension], Found]], Callable[[Extension], Found]]:
    """Registers a function that looks at one Network Extension."""
    return _of(rule, lambda product: product.extensions)


def of_member(rule: str) -> Callable[[Callable[[Member], Found]], Callable[[Member], Found]]:
    """Registers a function that looks at one app or one Network Extension."""
    return _of(rule, lambda product: product.members)


def of_claims(rule: str) -> Callable[[Callable[[Claims], Found]], Callable[[Claims], Found]]:
    """Registers a function that looks at what one app, one Network Extension, or one file of the sources claims."""
    return _of(rule, lambda product: [*product.members, *product.entitlement_files])


def _of(
    rule: str, subjects: Callable[[Product], list[_Subject]]
) -> Callable[[Callable[[_Subject], Found]], Callable[[_Subject], Found]]:
    def register(look: Callable[[_Subject], Found]) -> Callable[[_Subject], Found]:
        def search(product: Product) -> Iterator[Fault]:
            for subject in subjects(product):
                yield from _faults(look(subject), subject.path)

        return _register(rule, look, search)

    return register


_Look = TypeVar("_Look")


def _register(rule: str, look: _Look, search: Callable[[Product], Iterator[Fault]]) -> _Look:
    assert rule not in CHECKS, rule
    CHECKS[rule] = search
    return look


def _faults(found: Found, place: str) -> Iterator[Fault]:
    if found is None:
        return
    several = [found] if isinstance(found, (str, Fault)) else found
    for one in several:
        fault = Fault(one) if isinstance(one, str) else one
        yield fault._replace(place=fault.place or place)
