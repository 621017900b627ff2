"""Where in a TOML file does a value stand? `tomllib` tells the values, and keeps the places to itself.

This reads only as much of TOML as the question needs, in a file that `tomllib` has accepted: table headers, keys, and
where strings, arrays and inline tables end. What a place is looked up by is the way to the value in the data:
`("rule", 0, "port", 2)` is the third item of `port` in the first `[[rule]]`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

Way = tuple[str | int, ...]
_SPACE = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_BASIC = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(["\\bfnrtes]))')
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "e": "\x1b", '"': '"', "\\": "\\", "s": " "}
MOST_NESTED = 100


class Spot(NamedTuple):
    """A place in a text, counted from 1, columns in characters."""

    line: int
    column: int


def find_places(text: str) -> dict[Way, Spot]:
    """The place of each key and of each item of an array, in TOML that `tomllib` has accepted."""
    reader = _Reader(text)
    reader.read()
    return reader.places()


class _Reader:
    __slots__ = ("_arrays", "_at", "_offsets", "_text")

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._offsets: dict[Way, int] = {}
        self._arrays: dict[Way, int] = {}  # how many [[tables]] there are by now

    def places(self) -> dict[Way, Spot]:
        """All offsets as lines and columns, in one pass over the text."""
        spots: dict[Way, Spot] = {}
        line, start = 1, 0
        for way, offset in sorted(self._offsets.items(), key=lambda item: item[1]):
            line += self._text.count("\n", start, offset)
            start = offset
            spots[way] = Spot(line, offset - self._text.rfind("\n", 0, offset))
        return spots

    def read(self) -> None:
        table: Way = ()
        while self._skip(_SPACE) < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table, 0)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at

    def _header(self) -> Way:
        start = self._at
        is_array = self._text.startswith("[[", start)
        self._at += 2 if is_array else 1
        names = self._key()
        self._at += 2 if is_array else 1
        way: Way = ()
        for depth, (name, _) in enumerate(names):
            way += (name,)
            if way in self._arrays and not (is_array and depth == len(names) - 1):
                way += (self._arrays[way] - 1,)
        if is_array:
            number = self._arrays.get(way, 0)
            self._arrays[way] = number + 1
            self._offsets.setdefault(way, start)
            way += (number,)
        self._offsets.setdefault(way, start)
        return way

    def _key(self) -> list[tuple[str, int]]:
        """The names of a dotted key with their offsets; the text goes on after the key."""
        names = []
        while True:
            start = self._skip(_BLANK)
            names.append((self._name(), start))
            self._skip(_BLANK)
            if self._text[self._at : self._at + 1] != ".":
                return names
            self._at += 1

    def _name(self) -> str:
        char = self._text[self._at : self._at + 1]
        if char in ('"', "'"):
            return self._string()
        start = self._at
        self._skip(_BARE)
        self._at = max(self._at, start + 1)  # whatever this is, it must not hold us up
        return self._text[start : self._at]

    def _pair(self, table: Way, depth: int) -> None:
        way = table
        for name, offset in self._key():
            way += (name,)
            self._offsets.setdefault(way, offset)
        self._at += 1  # the equals sign
        self._value(way, depth)

    def _value(self, way: Way, depth: int) -> None:
        self._skip(_BLANK)
        char = self._text[self._at : self._at + 1]
        if depth > MOST_NESTED:
            self._at = len(self._text)
        elif char in ('"', "'"):
            self._string()
        elif char == "[":
            self._items(way, depth)
        elif char == "{":
            self._inline_table(way, depth)
        else:
            self._skip(_SCALAR)

    def _items(self, way: Way, depth: int) -> None:
        self._at += 1
        number = 0
        while self._skip(_SPACE) < len(self._text) and self._text[self._at] != "]":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            start = self._at
            self._offsets.setdefault((*way, number), start)
            self._value((*way, number), depth + 1)
            self._at = max(self._at, start + 1)
            number += 1
        self._at += 1

    def _inline_table(self, way: Way, depth: int) -> None:
        self._at += 1
        while self._skip(_SPACE) < len(self._text) and self._text[self._at] != "}":
            if self._text[self._at] == ",":
                self._at += 1
            else:
                self._pair(way, depth + 1)
        self._at += 1

    def _string(self) -> str:
        """The content of the string that begins here (of one that spans lines, only its end matters)."""
        text, start = self._text, self._at
        quote = text[start]
        if text.startswith(quote * 3, start):
            self._at = self._end_of_long_string(start + 3, quote)
            return ""
        if quote == "'":
            end = text.find("'", start + 1)
            self._at = end + 1 if end >= 0 else len(text)
            return text[start + 1 : self._at - 1]
        match = _BASIC.match(text, start)
        self._at = match.end() if match else len(text)
        return _ESCAPE.sub(_unescaped, text[start + 1 : self._at - 1])

    def _end_of_long_string(self, at: int, quote: str) -> int:
        text = self._text
        while at < len(text):
            if quote == '"' and text[at] == "\\":
                at += 2
            elif text.startswith(quote * 3, at):
                at += 3  # up to two quotes may stand before the closing three
                while text.startswith(quote, at):
                    at += 1
                return at
            else:
                at += 1
        return len(text)


def _unescaped(match: re.Match[str]) -> str:
    short, long, one = match.groups()
    return chr(int(short or long, 16)) if short or long else _SHORT[one]
