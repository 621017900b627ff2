"""URL parsing by a regular expression, from system 27 on (NEURLFilterManager.setURLParsingRegularExpression).

The named groups that matched become one string, `name=value name=value`; that is the only string which is tested. The
match is case-insensitive. A group that took no part in the match is left out.

An expression is an app's, but URLs are anybody's: with a backtracking matcher an expression such as `(a+)+b` makes a
URL of forty letters take hours. RE2 matches in time that is linear in the URL, and its memory is bounded. What needs
backtracking (references back, look-around, atomic and possessive parts) it refuses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError
from .url_parsing import UnusableURL, parse_url

LONGEST_PATTERN = 1024
LONGEST_SUBJECT = 8192
"""Characters of a URL that are matched; a longer one is refused."""
_MEMORY = 1 << 20
"""Bytes that RE2 may use for an expression and its states."""
_GROUP_NAME = re.compile(r"[A-Za-z0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class ParsingExpression:
    """A regular expression with named groups, `(?<name>…)`, as setURLParsingRegularExpression takes it.

    Raises ConfigurationError for a pattern that is none, has no named group, or needs backtracking.
    """

    pattern: str

    def __post_init__(self) -> None:
        groups = self._compiled().groupindex
        if not groups:
            raise ConfigurationError(
                "regular expression for URL parsing without a named group: only what a group such as (?<host>[^/]+)"
                " takes is tested"
            )
        for name in groups:
            if not _GROUP_NAME.fullmatch(name):
                raise ConfigurationError(
                    f"regular expression for URL parsing with a group named {name}: ASCII letters and digits are"
                    " allowed in a name"
                )

    def _compiled(self) -> Any:
        """Compiled; RE2 keeps what was compiled lately."""
        import re2

        if len(self.pattern) > LONGEST_PATTERN:
            raise ConfigurationError(f"regular expression for URL parsing longer than {LONGEST_PATTERN} characters")
        options = re2.Options()
        options.case_sensitive, options.log_errors, options.max_mem = False, False, _MEMORY
        try:
            return re2.compile(self.pattern, options)
        except (re2.error, UnicodeEncodeError) as error:
            raise ConfigurationError(
                f"regular expression for URL parsing: {_reason(error)}; what needs backtracking, such as look-around"
                " and references back, is not taken"
            ) from error

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
        compiled = self._compiled()
        match = compiled.search(subject)
        if match is None:
            return ()
        names = sorted(compiled.groupindex, key=compiled.groupindex.get)  # in the order of the expression
        return (" ".join(f"{name}={match[name]}" for name in names if match[name] is not None),)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "it cannot be written in UTF-8"
    text = error.args[0] if error.args else b""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
