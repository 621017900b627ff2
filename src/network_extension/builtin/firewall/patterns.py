"""Wildcards in rules: what `*`, `**`, `?` and `[…]` stand for in names, paths and command lines."""

from __future__ import annotations

import re
from typing import NamedTuple

_WILD = frozenset("*?[")
MOST_STARS_IN_A_PATH = 8  # a path is searched in a time that grows with its length to this power, at worst


def is_wild(text: str) -> bool:
    """Whether a text has wildcards in it."""
    return not _WILD.isdisjoint(text)


def text_pattern(glob: str) -> re.Pattern[str]:
    """A pattern over plain text: `*` is anything at all, `?` one character, `[ab]` one of these."""
    # Each star takes as little as it can and never comes back for more ((?>…)): where every star stands for anything,
    # that finds all there is to find, in a time that grows with the text and not with its square.
    first, *rest = [_tokens(part, "[\\s\\S]") for part in re.split(r"\*+", glob)]
    if not rest:
        return re.compile(first + r"\Z")
    middle = "".join(f"(?>[\\s\\S]*?{part})" for part in rest[:-1])
    return re.compile(f"{first}{middle}[\\s\\S]*{rest[-1]}\\Z")


def path_pattern(glob: str) -> re.Pattern[str]:
    """A pattern over a path: `*` stays within one part of it, `**` does not. Raises ValueError for too many stars."""
    parts = re.split(r"(\*+)", glob)
    if len(parts) // 2 > MOST_STARS_IN_A_PATH:
        raise ValueError(f"more than {MOST_STARS_IN_A_PATH} stars")
    stars = {0: "", 1: "[^/]*"}
    return re.compile(
        "".join(
            stars.get(len(part), "[\\s\\S]*") if index % 2 else _tokens(part, "[^/]")
            for index, part in enumerate(parts)
        )
        + r"\Z"
    )


def _tokens(text: str, one: str) -> str:
    """A regular expression for text without stars. A bracket that is never closed is a bracket."""
    out, at = [], 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "?":
            out.append(one)
        elif char == "[" and (end := text.find("]", at + (2 if text[at : at + 1] in ("!", "^") else 1))) > 0:
            inside, at = text[at:end], end + 1
            negated = inside[:1] in ("!", "^")
            out.append(f"[{'^' if negated else ''}{_class(inside[1:] if negated else inside)}]")
        else:
            out.append(re.escape(char))
    return "".join(out)


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
