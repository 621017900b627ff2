"""Wildcards in rules: what `*`, `**`, `?` and `[…]` stand for in names, paths and command lines."""

from __future__ import annotations

import re
from typing import NamedTuple

_WILD = frozenset("*?[")
MOST_STARS_IN_A_PATH = 8  # a path is searched in a time that grows with its length to this power, at worst


def is_wild(text: str) -> bool:
    """Whether a text has wildcards in it."""
    return not _WILD.isdisjoint(text)


def literal(text: str) -> str:
    """A pattern that fits this text and nothing else."""
    return re.sub(r"[*?\[]", r"[\g<0>]", text)


def text_pattern(glob: str) -> re.Pattern[str]:
    """A pattern over plain text: `*` is anything at all, `?` one character, `[ab]` one of these."""
    # Each star takes as little as it can and never comes back for more ((?>…)): where every star stands for anything,
    # that finds all there is to find, in a time that grows with the text and not with its square.
    first, *rest = "".join(_tokens(glob, "[\\s\\S]", {1: "\0", 2: "\0"})).split("\0")
    if not rest:
        return re.compile(first + r"\Z")
    middle = "".join(f"(?>[\\s\\S]*?{part})" for part in rest[:-1])
    return re.compile(f"{first}{middle}[\\s\\S]*{rest[-1]}\\Z")


def path_pattern(glob: str) -> re.Pattern[str]:
    """A pattern over a path: `*` stays within one part of it, `**` does not. Raises ValueError for too many stars."""
    if len(re.findall(r"\*+", glob)) > MOST_STARS_IN_A_PATH:
        raise ValueError(f"more than {MOST_STARS_IN_A_PATH} stars")
    return re.compile("".join(_tokens(glob, "[^/]", {1: "[^/]*", 2: "[\\s\\S]*"})) + r"\Z")


_TOKEN = re.compile(r"\*+|\?|\[[!^]?[^\]]+\]|[\s\S]")


def _tokens(glob: str, one: str, stars: dict[int, str]) -> list[str]:
    """The pieces of a regular expression. A bracket that is never closed is a bracket."""
    pieces = []
    for token in _TOKEN.findall(glob):
        if token[0] == "*":
            pieces.append(stars[min(len(token), 2)])
        elif token == "?":
            pieces.append(one)
        elif token[0] == "[" and len(token) > 2:
            negated = token[1] in "!^" and len(token) > 3
            pieces.append(f"[{'^' if negated else ''}{_class(token[2 if negated else 1 : -1])}]")
        else:
            pieces.append(re.escape(token))
    return pieces


def _class(text: str) -> str:
    """The inside of a character class; a range that runs backwards is its three characters."""
    parts, at = [], 0
    while at < len(text):
        if text[at + 1 : at + 2] == "-" and at + 2 < len(text) and text[at] <= text[at + 2]:
            parts.append(f"{re.escape(text[at])}-{re.escape(text[at + 2])}")
            at += 3
        else:
            parts.append(re.escape(text[at]))
            at += 1
    return "".join(parts)


class ProgramPatterns(NamedTuple):
    """Programs by full path, by name, and by wildcards over either."""

    texts: tuple[str, ...]
    paths: frozenset[str]
    names: frozenset[str]
    path_globs: tuple[re.Pattern[str], ...]
    name_globs: tuple[re.Pattern[str], ...]

    @classmethod
    def of(cls, texts: tuple[str, ...]) -> ProgramPatterns:
        """A text with a slash is about the path, one without about the name. Raises ValueError."""
        plain = [text for text in texts if not is_wild(text)]
        wild = [text for text in texts if is_wild(text)]
        return cls(
            texts,
            frozenset(text for text in plain if "/" in text),
            frozenset(text for text in plain if "/" not in text),
            tuple(path_pattern(text) for text in wild if "/" in text),
            tuple(path_pattern(text) for text in wild if "/" not in text),
        )

    def fits(self, executable: str) -> bool:
        """Whether an executable's path is one of these."""
        if not executable:
            return False
        name = executable.rpartition("/")[2]
        return (
            executable in self.paths
            or name in self.names
            or any(glob.match(executable) for glob in self.path_globs)
            or any(glob.match(name) for glob in self.name_globs)
        )
