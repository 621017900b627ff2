"""What one line of a block list says: rows for the filter, an exception, nothing, or something that it cannot do.

Four kinds of lists are told apart line by line, because lists mix them: hosts files (`0.0.0.0 ads.example`), plain
domains, plain URLs, and the network rules of Adblock syntax that name a host (`||ads.example^`, `||ads.example/path`).
The URL filter knows no wildcards, no pages and no exceptions (documentation of NEURLFilterManager); a rule that needs
them is refused, because a row that blocks more than its rule would be worse than none.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum

from .url_forms import row_of
from .url_parsing import UnusableURL

LONGEST_LINE = 16384
"""Bytes."""


class PathCase(StrEnum):
    """How a path with capitals becomes rows. Systems 26 test paths as they are, system 27 in lower case."""

    BOTH = "both"
    KEEP = "keep"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Line:
    """What one line says. All empty: a comment, or nothing at all."""

    rows: tuple[str, ...] = ()
    exceptions: tuple[str, ...] = ()
    """Rows that must not be blocked, nor anything beneath them."""
    refused: str = ""
    """The reason, the same for all lines that are refused for it."""


_NOTHING = Line()
_SINKS = frozenset({"0.0.0.0", "127.0.0.1", "127.0.1.1", "::", "::1", "0", "255.255.255.255", "fe80::1%lo0", "ff02::1"})
_OWN_NAMES = re.compile(
    r"localhost[0-9]?(\.localdomain[0-9]?)?|local|broadcasthost|0\.0\.0\.0|ip6-[a-z]+", re.IGNORECASE | re.ASCII
)
_COSMETIC = re.compile(r"#@?[?$%]{0,2}@?#|\$\$")
_COMMENT = re.compile(r"!|#+(?:$|\s)|#(?![@?$%]{0,3}#)|\[Adblock|\[uBlock", re.IGNORECASE)
_OPTIONS = re.compile(r"\$(~?[a-z0-9_-]+(=[^,]*)?(,~?[a-z0-9_-]+(=[^,]*)?)*)$", re.IGNORECASE | re.ASCII)
_HARMLESS_OPTIONS = frozenset({"all", "important"})
_TRAILING_COMMENT = re.compile(r"\s+#.*")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")

WILDCARD = "a wildcard: the filter compares whole strings; a domain covers what lies beneath it without one"
COSMETIC = "hides parts of pages, which the filter never sees"
EXPRESSION = "a regular expression, which the filter does not take in a list"
ANYWHERE = "matches part of a URL wherever it stands; rows begin with a host"
END_ANCHOR = "ends in | and so means one URL exactly; a row covers what lies beneath it as well"
SINGLE_LABEL = "a name without a dot, which systems 26.0 to 26.3 take for all names that end in it"
MAPPING = "gives a name an address of its own instead of blocking it"
TOO_LONG = f"longer than {LONGEST_LINE} bytes"
NOT_UTF_8 = "not UTF-8"
CONTROL = "control characters: no text"


def read_line(data: bytes, case: PathCase = PathCase.BOTH) -> Line:
    """What a line says. Never raises: what cannot be read is refused."""
    if len(data) > LONGEST_LINE:
        return Line(refused=TOO_LONG)
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return Line(refused=NOT_UTF_8)
    if not text or _COMMENT.match(text):
        return _NOTHING
    if _CONTROL.search(text):
        return Line(refused=CONTROL)
    try:
        return _read(text, case)
    except UnusableURL as error:
        return Line(refused=error.reason)


def _read(text: str, case: PathCase) -> Line:
    is_exception = text.startswith("@@")
    text = text.removeprefix("@@")
    if text.startswith("|"):
        line = _anchored(text, case)
    elif _COSMETIC.search(text) and "://" not in text.partition("#")[0]:
        return Line(refused=COSMETIC)
    elif text.startswith("/") and not text.startswith("//"):
        return Line(refused=EXPRESSION if text.rstrip().endswith("/") and len(text) > 1 else ANYWHERE)
    elif is_exception:
        return Line(refused=ANYWHERE)
    else:
        return _plain(_TRAILING_COMMENT.sub("", text), case)
    return Line(exceptions=line.rows, refused=line.refused) if is_exception else line


def _plain(text: str, case: PathCase) -> Line:
    words = text.split()
    if len(words) > 1:
        return _hosts_line(words, case)
    if "*" in text.partition("?")[0]:
        return Line(refused=WILDCARD)
    if "://" not in text and (text[0] in "&?=-~^:;,+" or "^" in text or _OPTIONS.search(text)):
        return Line(refused=ANYWHERE)
    return Line(_rows(text.removeprefix("."), case))


def _hosts_line(words: list[str], case: PathCase) -> Line:
    if words[0].lower() not in _SINKS:
        return Line(refused=MAPPING if _is_address(words[0]) else "there is a space in it, and no address before that")
    rows: list[str] = []
    for name in words[1:]:
        if not _OWN_NAMES.fullmatch(name):
            rows += _rows(name, case)
    return Line(tuple(rows))


def _is_address(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


def _anchored(text: str, case: PathCase) -> Line:
    """`||host…` and `|https://host…`, with options behind."""
    if match := _OPTIONS.search(text):
        refused = [option for option in match[1].split(",") if option.lower() not in _HARMLESS_OPTIONS]
        if refused:
            name = refused[0].partition("=")[0].lower()
            return Line(refused=f"the option {name[:40]}: the filter knows a URL only, not what asked for it")
        text = text[: match.start()]
    is_url = not text.startswith("||")
    body = text.lstrip("|")
    if "*" in body:
        return Line(refused=WILDCARD)
    if body.endswith("|"):
        return Line(refused=END_ANCHOR)
    body = body.removesuffix("^")
    if "^" in body:
        return Line(refused=WILDCARD)
    if is_url and "://" not in body:
        return Line(refused=ANYWHERE)
    return Line(_rows(body.removeprefix("."), case))


def _rows(text: str, case: PathCase) -> tuple[str, ...]:
    row = row_of(text)
    if "." not in row.partition("/")[0].partition("?")[0] and not row.startswith("["):
        raise UnusableURL(SINGLE_LABEL)
    lowered = row.lower()
    if lowered == row or case is PathCase.KEEP:
        return (row,)
    return (lowered,) if case is PathCase.LOWER else (row, lowered)
