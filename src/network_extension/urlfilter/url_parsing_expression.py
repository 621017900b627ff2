"""URL parsing by a regular expression, from system 27 on (NEURLFilterManager.setURLParsingRegularExpression).

The named groups that matched become one string, `name=value name=value`; that is the only string which is tested. The
match is case-insensitive. A group that took no part in the match is left out.

An expression is an app's, but URLs are anybody's: with a backtracking matcher an expression such as `(a+)+b` makes a
URL of forty letters take hours. `regular_expression` walks all states side by side instead, so time is the length of
the URL times the size of the expression, whatever either says. What needs backtracking (references back, look-around,
atomic and possessive parts) is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigurationError
from .regular_expression import ExpressionError, Program, compile_expression, search
from .url_parsing import UnusableURL, parse_url

LONGEST_SUBJECT = 8192
"""Characters of a URL that are matched; a longer one is refused."""


@dataclass(frozen=True, slots=True)
class ParsingExpression:
    """A regular expression with named groups, `(?<name>…)`, as setURLParsingRegularExpression takes it.

    Raises ConfigurationError for a pattern that is none, has no named group, or needs backtracking.
    """

    pattern: str
    _program: Program | None = None

    def __post_init__(self) -> None:
        try:
            program = compile_expression(self.pattern)
        except ExpressionError as error:
            raise ConfigurationError(f"regular expression for URL parsing: {error}") from error
        if not program.groups:
            raise ConfigurationError(
                "regular expression for URL parsing without a named group: only what a group such as (?<host>[^/]+)"
                " takes is tested"
            )
        object.__setattr__(self, "_program", program)

    def candidates(self, url: str) -> tuple[str, ...]:
        """The string that a device tests; none where the expression does not match. Raises UnusableURL."""
        parts = parse_url(url)
        # As for the forms, the host is in punycode before anything looks at the URL.
        port = f":{parts.port}" if parts.port else ""
        query = "" if parts.query is None else f"?{parts.query}"
        fragment = "" if parts.fragment is None else f"#{parts.fragment}"
        subject = f"{parts.scheme}://{parts.host}{port}{parts.path}{query}{fragment}"
        if len(subject) > LONGEST_SUBJECT:
            raise UnusableURL(f"it is longer than the {LONGEST_SUBJECT} characters that an expression is matched with")
        assert self._program is not None  # __post_init__ set it
        found = search(self._program, subject)
        if not found:
            return ()
        return (" ".join(f"{name}={value}" for name, value in found.items()),)
