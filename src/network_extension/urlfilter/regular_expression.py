"""Regular expressions matched in time that is linear in the text: states walked side by side (Thompson, Pike).

The subset: characters, `.`, classes `[a-z]` and `[^…]`, escapes `\\d \\w \\s` and their opposites, groups plain, silent
`(?:…)` and named `(?<name>…)`, alternatives, `* + ? {n} {n,} {n,m}` greedy and lazy, `^ $ \\b \\B`. Matching ignores
case. An expression becomes a program of few instructions; a thread of the machine is a place in the program with the
ends of its groups, and threads are kept in order of preference, so that what matches is what a backtracking matcher
would have found first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

LONGEST_PATTERN = 1024
LARGEST_PROGRAM = 4096
"""Instructions; counted repetition multiplies."""
_MOST_REPEATS = 1000
_DEEPEST = 50
_GROUP_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*", re.ASCII)
_COUNT = re.compile(r"\{([0-9]{1,4})(,([0-9]{0,4}))?\}", re.ASCII)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_DIGITS = frozenset("0123456789")
_WORD = frozenset("abcdefghijklmnopqrstuvwxyz_") | _DIGITS
_SPACE = frozenset(" \t\n\r\f\v")
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": _SPACE}


class ExpressionError(ValueError):
    """A pattern that is no regular expression, or needs what a linear matcher cannot do; the message says where."""


class Op(Enum):
    """What an instruction of the program does."""

    TAKE = 0
    """Go on if the next character is one of a set."""
    SPLIT = 1
    """Go on at two places, the first preferred."""
    SAVE = 2
    """Note this place of the text as an end of a group."""
    ASSERT = 3
    """Go on if a place between two characters is what it must be."""
    MATCH = 4


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """Characters in lower case, or all but those."""

    members: frozenset[str] = frozenset()
    ranges: tuple[tuple[str, str], ...] = ()
    is_negated: bool = False

    def __contains__(self, letter: str) -> bool:
        is_member = letter in self.members or any(low <= letter <= high for low, high in self.ranges)
        return is_member is not self.is_negated


@dataclass(frozen=True, slots=True)
class Instruction:
    """One step: what is used of it depends on `op`."""

    op: Op
    characters: CharacterSet = field(default_factory=CharacterSet)
    first: int = 0
    """Where to go on, of SPLIT the preferred place; of SAVE the slot."""
    second: int = 0
    place: str = ""
    """Of ASSERT: `^`, `$`, `b` or `B`."""


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled expression; `groups` gives the slot of each named group's beginning, its end is the next."""

    instructions: tuple[Instruction, ...]
    groups: dict[str, int]


def compile_expression(pattern: str) -> Program:
    """The program of a pattern. Raises ExpressionError."""
    if len(pattern) > LONGEST_PATTERN:
        raise ExpressionError(f"longer than {LONGEST_PATTERN} characters")
    compiler = _Compiler(pattern)
    compiler.alternatives(0)
    if compiler.at < len(pattern):
        raise ExpressionError(f"a parenthesis is closed at {compiler.at} that was not opened")
    compiler.emit(Instruction(Op.MATCH))
    return Program(tuple(compiler.code), compiler.groups)


class _Compiler:
    """Recursive descent over the pattern; code is emitted as it is read, and moved where a choice goes before it."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.at = pattern, 0
        self.code: list[Instruction] = []
        self.groups: dict[str, int] = {}

    def emit(self, instruction: Instruction) -> None:
        """Add one, within the bound."""
        if len(self.code) >= LARGEST_PROGRAM:
            raise ExpressionError(f"its repetitions make more than {LARGEST_PROGRAM} steps")
        self.code.append(instruction)

    def _insert(self, at: int, instruction: Instruction) -> None:
        """Put an instruction before what was emitted from `at` on, whose jumps move with it."""
        moved = [_moved(each, at, 1) for each in self.code[at:]]
        del self.code[at:]
        self.emit(instruction)
        for each in moved:
            self.emit(each)

    def _peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def alternatives(self, depth: int) -> None:
        """One alternative or several, up to a closing parenthesis or the end."""
        if depth > _DEEPEST:
            raise ExpressionError(f"groups are nested deeper than {_DEEPEST}")
        start = len(self.code)
        self._sequence(depth)
        if self._peek() != "|":
            return
        self.at += 1
        self._insert(start, Instruction(Op.SPLIT, first=start + 1, second=len(self.code) + 2))
        leave = len(self.code)
        self.emit(Instruction(Op.SPLIT))
        self.alternatives(depth + 1)
        self.code[leave] = Instruction(Op.SPLIT, first=len(self.code), second=len(self.code))

    def _sequence(self, depth: int) -> None:
        while (letter := self._peek()) and letter not in "|)":
            start = len(self.code)
            is_repeatable = self._atom(depth)
            self._repetition(start, is_repeatable)

    def _atom(self, depth: int) -> bool:
        """One thing that can be repeated, or a place (False)."""
        letter = self._peek()
        self.at += 1
        if letter == "(":
            self._group(depth)
        elif letter == "[":
            self._take(self._class())
        elif letter == ".":
            self._take(CharacterSet(frozenset("\n"), is_negated=True))
        elif letter in "^$":
            self.emit(Instruction(Op.ASSERT, place=letter))
            return False
        elif letter == "\\":
            return self._escape()
        elif letter in "*+?":
            raise ExpressionError(f"nothing stands before the {letter} at {self.at - 1}")
        else:
            self._take(CharacterSet(frozenset(letter.lower())))
        return True

    def _take(self, characters: CharacterSet) -> None:
        self.emit(Instruction(Op.TAKE, characters))

    def _escape(self) -> bool:
        letter = self._peek()
        self.at += 1
        if letter in ("b", "B"):
            self.emit(Instruction(Op.ASSERT, place=letter))
            return False
        self._take(self._escaped(letter))
        return True

    def _escaped(self, letter: str) -> CharacterSet:
        if letter.lower() in _CLASSES:
            return CharacterSet(_CLASSES[letter.lower()], is_negated=letter.isupper())
        if not letter or (letter.isalnum() and letter not in _ESCAPED):
            raise ExpressionError(f"\\{letter} at {self.at - 1} is not known to a matcher without backtracking")
        return CharacterSet(frozenset(_ESCAPED.get(letter, letter)))

    def _group(self, depth: int) -> None:
        slot = -1
        if self.pattern.startswith("?:", self.at):
            self.at += 2
        elif self._peek() == "?":
            slot = self._named_group()
        if slot >= 0:
            self.emit(Instruction(Op.SAVE, first=slot))
        self.alternatives(depth + 1)
        if self._peek() != ")":
            raise ExpressionError("a parenthesis is not closed")
        self.at += 1
        if slot >= 0:
            self.emit(Instruction(Op.SAVE, first=slot + 1))

    def _named_group(self) -> int:
        opened = self.pattern[self.at : self.at + 2]
        match = _GROUP_NAME.match(self.pattern, self.at + 2) if opened == "?<" else None
        if not match or self.pattern[match.end() : match.end() + 1] != ">":
            raise ExpressionError(
                f"(?{self.pattern[self.at + 1 : self.at + 3]} at {self.at - 1} is no group: (…), (?:…) and (?<name>…)"
                " with a name of ASCII letters and digits are; look-around needs backtracking"
            )
        if match[0] in self.groups:
            raise ExpressionError(f"two groups are named {match[0]}")
        self.at = match.end() + 1
        return self.groups.setdefault(match[0], 2 * len(self.groups))

    def _class(self) -> CharacterSet:
        is_negated = self._peek() == "^"
        self.at += is_negated
        members: set[str] = set()
        ranges: list[tuple[str, str]] = []
        is_first = True
        while (letter := self._peek()) != "]" or is_first:
            if not letter:
                raise ExpressionError("a class [ is not closed")
            is_first = False
            self.at += 1
            low = self._class_member(letter, members)
            if low and self._peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 2
                high = self._class_member(self.pattern[self.at - 1], set())
                if not high or high < low:
                    raise ExpressionError(f"the range before {self.at} goes backwards, or to no character")
                ranges += [(low, high), *_lowered_ranges(low, high)]
            elif low:
                members.add(low.lower())
        self.at += 1
        return CharacterSet(frozenset(members), tuple(ranges), is_negated)

    def _class_member(self, letter: str, members: set[str]) -> str:
        """A single character, or empty where an escape added several to `members`."""
        if letter != "\\":
            return letter
        escaped = self._escaped(self._peek())
        self.at += 1
        if escaped.is_negated:
            raise ExpressionError(f"a negated class inside a class at {self.at - 2}; write it as [^…]")
        if len(escaped.members) == 1:
            return next(iter(escaped.members))
        members |= escaped.members
        return ""

    def _repetition(self, start: int, is_repeatable: bool) -> None:
        counts = self._counts()
        if counts is None:
            return
        if not is_repeatable:
            raise ExpressionError(f"a place between characters is repeated at {self.at - 1}")
        is_lazy = self._peek() == "?"
        self.at += is_lazy
        if self._peek() in ("+", "*", "?", "{") and self._peek():
            raise ExpressionError(f"a repetition is repeated, or is possessive, at {self.at}")
        self._repeat(start, *counts, is_lazy)

    def _counts(self) -> tuple[int, int | None] | None:
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if self._peek() in simple:
            self.at += 1
            return simple[self.pattern[self.at - 1]]
        match = _COUNT.match(self.pattern, self.at)
        if not match:
            return None
        self.at = match.end()
        low = int(match[1])
        high = low if not match[2] else int(match[3]) if match[3] else None
        if max(low, high or 0) > _MOST_REPEATS or (high is not None and high < low):
            raise ExpressionError(f"the counts {match[0]} go backwards, or beyond {_MOST_REPEATS}")
        return low, high

    def _repeat(self, start: int, low: int, high: int | None, is_lazy: bool) -> None:
        body = self.code[start:]
        del self.code[start:]
        for _ in range(low):
            self._copy(body, start)
        if high is None:
            again = len(self.code)
            self.emit(Instruction(Op.SPLIT))
            self._copy(body, start)
            self.emit(Instruction(Op.SPLIT, first=again, second=again))
            self.code[again] = _choice(again + 1, len(self.code), is_lazy)
            return
        choices = []
        for _ in range(high - low):
            choices.append(len(self.code))
            self.emit(Instruction(Op.SPLIT))
            self._copy(body, start)
        for choice in choices:
            self.code[choice] = _choice(choice + 1, len(self.code), is_lazy)

    def _copy(self, body: list[Instruction], start: int) -> None:
        offset = len(self.code) - start
        for instruction in body:
            self.emit(_moved(instruction, start, offset))


def _choice(into: int, past: int, is_lazy: bool) -> Instruction:
    return Instruction(Op.SPLIT, first=past if is_lazy else into, second=into if is_lazy else past)


def _moved(instruction: Instruction, start: int, offset: int) -> Instruction:
    """The same with its jumps to `start` and beyond moved on."""
    if instruction.op is not Op.SPLIT:
        return instruction
    first, second = (place + offset if place >= start else place for place in (instruction.first, instruction.second))
    return Instruction(Op.SPLIT, first=first, second=second)


def _lowered_ranges(low: str, high: str) -> list[tuple[str, str]]:
    """What the capitals of a range are in lower case."""
    first, last = max(low, "A"), min(high, "Z")
    return [(first.lower(), last.lower())] if first <= last else []


def search(program: Program, text: str) -> dict[str, str] | None:
    """The named groups of the first match anywhere in `text`, those that took part; None without a match."""
    lowered = text.lower() if len(text.lower()) == len(text) else text
    threads: list[tuple[int, tuple[int, ...]]] = []
    best: tuple[int, ...] | None = None
    nothing = (-1,) * (2 * len(program.groups))
    for at in range(len(lowered) + 1):
        if best is None:
            threads.append((0, nothing))  # a match may begin here, after all that began before
        ready, best_here = _followed(program.instructions, threads, lowered, at)
        best = best_here if best_here is not None else best
        if at == len(lowered) or (not ready and best is not None):
            break
        letter = lowered[at]
        threads = [(place + 1, ends) for place, ends in ready if letter in program.instructions[place].characters]
    if best is None:
        return None
    return {name: text[best[slot] : best[slot + 1]] for name, slot in program.groups.items() if best[slot + 1] >= 0}


_Threads = list[tuple[int, tuple[int, ...]]]


def _followed(
    code: tuple[Instruction, ...], threads: _Threads, text: str, at: int
) -> tuple[_Threads, tuple[int, ...] | None]:
    """Threads that wait for a character, in order of preference, each place once; and the ends of a match, which cuts
    off all that is less preferred.
    """
    ready: _Threads = []
    seen: set[int] = set()
    stack = threads[::-1]
    while stack:
        place, ends = stack.pop()
        if place in seen:
            continue
        seen.add(place)
        instruction = code[place]
        if instruction.op is Op.MATCH:
            return ready, ends
        if instruction.op is Op.TAKE:
            ready.append((place, ends))
        elif instruction.op is Op.SPLIT:
            stack += [(instruction.second, ends), (instruction.first, ends)]
        elif instruction.op is Op.SAVE:
            slot = instruction.first
            stack.append((place + 1, ends[:slot] + (at,) + ends[slot + 1 :]))
        elif _holds(instruction.place, text, at):
            stack.append((place + 1, ends))
    return ready, None


def _holds(place: str, text: str, at: int) -> bool:
    if place == "^":
        return at == 0
    if place == "$":
        return at == len(text)
    is_boundary = (at > 0 and text[at - 1] in _WORD) is not (at < len(text) and text[at] in _WORD)
    return is_boundary is (place == "b")
