"""Exceptions of Adblock lists (`@@||example.com^`), as far as a filter without exceptions can honour them.

It can leave rows out: those that are excepted, and all beneath. It cannot open a hole in a row that lies above: where
example.com is blocked, good.example.com is as well, whatever a list says.
"""

from __future__ import annotations

from collections.abc import Iterator

from .url_forms import domains_above, path_beginnings

MOST_EXCEPTIONS = 1_000_000
"""They are held in memory; lists have some thousands."""


class Exceptions:
    """The exceptions of lists, asked about each row once all are known."""

    def __init__(self) -> None:
        self._origins: dict[str, tuple[str, int]] = {}
        self._above: dict[str, list[str]] | None = None
        self._blocked: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._origins)

    def add(self, row: str, path: str, line: int) -> None:
        """Note an exception and where it stands. Beyond MOST_EXCEPTIONS they are ignored, which blocks more."""
        if len(self._origins) < MOST_EXCEPTIONS:
            self._origins.setdefault(row, (path, line))

    def leaves(self, row: str) -> bool:
        """Whether a row stays on the list. One that stays and lies above an exception makes that inexpressible."""
        if any(above in self._origins for above in covering_rows(row)):
            return False
        if self._above is None:
            self._above = {}
            for exception in self._origins:
                for above in covering_rows(exception):
                    self._above.setdefault(above, []).append(exception)
        for exception in self._above.get(row, ()):
            self._blocked[exception] = row
        return True

    def inexpressible(self) -> Iterator[tuple[str, int, str, str]]:
        """Of each exception that a row above defeats: list, line, the exception, that row."""
        for exception, above in self._blocked.items():
            yield *self._origins[exception], exception, above


def covering_rows(row: str) -> Iterator[str]:
    """Every row that blocks what `row` blocks: its domains, with each beginning of its path, and itself."""
    host, slash, path = row.partition("/")
    host, mark, query = host.partition("?")
    is_name = not host.startswith("[") and not host.replace(".", "").isdigit()
    beginnings = list(path_beginnings(slash + path.partition("?")[0])) if slash else []
    for domain in domains_above(host) if is_name else (host,):
        yield domain
        for beginning in beginnings:
            yield domain + beginning
        if mark or "?" in path:
            yield domain + mark + query + slash + path
