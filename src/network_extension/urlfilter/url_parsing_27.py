"""What an app may set from system 27 on: which parts of a URL are tested (NEURLFilterManager.ParsingConfiguration).

The documentation's rules: a part that is excluded and was there is replaced by `%*`; the scheme and `www.` go without a
trace; domains and paths are walked upwards unless that is turned off; query items can be picked and are then given in
the order in which they were named. What the documentation leaves open, and how it is read here:
`exclude_intermediates` keeps only the strings that hold every part of the URL; a part that is not in the URL leaves no
`%*`; what is picked from a query without any of the named items is no query.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from .url_forms import domains_above, path_beginnings, without_www
from .url_parsing import URLParts, parse_url

EXCLUDED = "%*"
"""Stands for a part that was there and is not looked at."""


@dataclass(frozen=True, slots=True)
class DomainOptions:
    """ParsingConfiguration.DomainOptions."""

    excluded: bool = False
    """Whatever the host: all other options of the domain are ignored."""
    strip_www: bool = True
    levels: int = 0
    """How many labels are kept, from the right: 2 makes example.com of sub.example.com. 0 keeps all."""
    enumerate_hierarchy: bool = True
    """Whether the domains above the host are tested as well."""


@dataclass(frozen=True, slots=True)
class PathOptions:
    """ParsingConfiguration.PathOptions."""

    excluded: bool = False
    segments: int = 0
    """How many segments are kept, from the left: 2 makes /a/b of /a/b/c. 0 keeps all."""
    enumerate_hierarchy: bool = True
    """Whether the beginnings of the path are tested as well."""


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """ParsingConfiguration.QueryOptions."""

    excluded: bool = False
    parameters: tuple[str, ...] | None = None
    """Names of the items that are kept, in the order in which they are to stand; None keeps the query as it is."""


@dataclass(frozen=True, slots=True)
class ParsingConfiguration:
    """Which parts of a URL devices of system 27 test. The defaults are its own: the forms of 26.4 in lower case."""

    exclude_scheme: bool = True
    domain: DomainOptions = field(default_factory=DomainOptions)
    path: PathOptions = field(default_factory=PathOptions)
    query: QueryOptions = field(default_factory=QueryOptions)
    exclude_fragment: bool = False
    exclude_intermediates: bool = False
    case_sensitive: bool = False

    def candidates(self, url: str) -> tuple[str, ...]:
        """The strings that a device with this configuration tests, each once. Raises UnusableURL."""
        parts = parse_url(url)
        scheme = "" if self.exclude_scheme else f"{parts.scheme}://"
        behind = list(self._behind(parts))
        forms = (f"{scheme}{place}{form}" for place in self._places(parts) for form in behind)
        return tuple(dict.fromkeys(form if self.case_sensitive else form.lower() for form in forms))

    def _places(self, parts: URLParts) -> Iterator[str]:
        """Hosts, and each with its port."""
        if self.domain.excluded:
            yield EXCLUDED
            return
        host = without_www(parts.host) if self.domain.strip_www else parts.host
        if self.domain.levels and not parts.is_address:
            host = ".".join(host.split(".")[-self.domain.levels :])
        is_walked = self.domain.enumerate_hierarchy and not parts.is_address
        for domain in domains_above(host) if is_walked else (host,):
            yield domain
            yield f"{domain}:{parts.effective_port}"

    def _behind(self, parts: URLParts) -> Iterator[str]:
        """What follows a host: the beginnings of the path, and the whole of it with query and fragment."""
        *beginnings, whole = self._paths(parts.path)
        query, fragment = self._query(parts.query), self._fragment(parts.fragment)
        tails = [tail for tail in dict.fromkeys((query, query + fragment)) if tail]
        if not self.exclude_intermediates:
            for beginning in (*beginnings, whole):
                yield from (beginning, f"{beginning}/")
        elif not tails:
            yield from (whole, f"{whole}/")
        for slash in ("/", ""):
            for tail in tails[-1:] if self.exclude_intermediates else tails:
                yield f"{whole}{slash}{tail}"

    def _paths(self, path: str) -> list[str]:
        """The beginnings to test without a slash behind them, the whole path last; the first is empty."""
        if self.path.excluded:
            return ["", f"/{EXCLUDED}"] if path.rstrip("/") else [""]
        kept = list(islice(path_beginnings(path), self.path.segments or None))
        return ["", *kept] if self.path.enumerate_hierarchy else kept[-1:] or [""]

    def _query(self, query: str | None) -> str:
        if query is None:
            return ""
        if self.query.excluded:
            return f"?{EXCLUDED}"
        if self.query.parameters is None:
            return f"?{query}"
        items = query.split("&")
        kept = [item for name in self.query.parameters for item in items if self._has_name(item, name)]
        return f"?{'&'.join(kept)}" if kept else ""

    def _has_name(self, item: str, name: str) -> bool:
        given = item.partition("=")[0]
        return given == name or (not self.case_sensitive and given.lower() == name.lower())

    def _fragment(self, fragment: str | None) -> str:
        if fragment is None:
            return ""
        return f"#{EXCLUDED}" if self.exclude_fragment else f"#{fragment}"
