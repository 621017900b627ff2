"""One TOML file of rules: read within bounds, and able to say of each value where it stands."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from typing import Any, NamedTuple

from ...errors import ConfigurationError
from .places import Spot, Way, find_places

MOST_BYTES = 1 << 20
MOST_ERRORS = 20
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_NO_SPOT = Spot(0, 0)


class RuleError(NamedTuple):
    """One thing that is wrong, and where; line and column are 0 where there is no telling."""

    file: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        place = f":{self.line}:{self.column}" if self.line else ""
        return f"{self.file}{place}: {self.text}"


class RuleFileError(ConfigurationError):
    """Rules that cannot be used; `errors` are all that were found, the message is the first."""

    def __init__(self, errors: Iterable[RuleError]) -> None:
        self.errors = tuple(errors)
        more = len(self.errors) - 1
        super().__init__(f"{self.errors[0]}{f' (and {more} more)' if more else ''}")


class Misfit(Exception):
    """A value that does not fit, by its way in the data."""

    def __init__(self, way: Way, text: str) -> None:
        super().__init__(text)
        self.way, self.text = way, text


class Document:
    """The data of a file, and the places of its values. `name` is how the file is called in messages."""

    def __init__(self, name: str, data: dict[str, Any], places: dict[Way, Spot], directory: str = "") -> None:
        self.name, self.data, self._places, self.directory = name, data, places, directory
        self.errors: list[RuleError] = []

    @classmethod
    def read(cls, path: str) -> Document:
        """The file at `path`. Raises RuleFileError for what is no TOML, or cannot be read."""
        return cls.parse(path, read_bounded(path, MOST_BYTES))

    @classmethod
    def parse(cls, path: str, content: bytes) -> Document:
        """The same from what is in it."""
        import tomllib

        text = _text(path, content)
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RuleFileError([_toml_error(path, text, str(error))]) from None
        except RecursionError:
            raise RuleFileError([RuleError(path, 0, 0, "arrays or tables are nested too deeply")]) from None
        except ValueError as error:  # a number of thousands of digits
            raise RuleFileError([RuleError(path, 0, 0, str(error))]) from None
        return cls(path, data, find_places(text), os.path.dirname(os.path.abspath(path)))

    def spot(self, way: Way) -> Spot:
        """Where a value stands, or else what it is part of."""
        while way and way not in self._places:
            way = way[:-1]
        return self._places.get(way, _NO_SPOT)

    def complain(self, way: Way, text: str) -> None:
        """Note an error; all of them are told at the end."""
        spot = self.spot(way)
        shown = text if spot.line else f"{shown_way(way)}: {text}" if way else text
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(RuleError(self.name, spot.line, spot.column, shown))

    def path(self, text: str) -> str:
        """A file that this one names: relative to it; `~` is the home directory."""
        return os.path.join(self.directory, os.path.expanduser(text))


def shown_way(way: Way) -> str:
    """`rule[0].port[2]`."""
    text = ""
    for step in way:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def check_keys(table: dict[str, Any], known: Iterable[str], way: Way, what: str) -> list[Misfit]:
    """A complaint for each key that is not known, with the nearest one that is."""
    known = tuple(known)
    return [Misfit((*way, key), _unknown(key, known, what)) for key in table if key not in known]


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean X?", if there is one like it."""
    from difflib import get_close_matches

    found = get_close_matches(word.lower(), list(known), 1, 0.6)
    return f"; did you mean {str(found[0])!r}?" if found else ""


def _unknown(key: str, known: tuple[str, ...], what: str) -> str:
    offer = nearest(key, known) or f"; keys are {', '.join(known)}"
    return f"{key[:60]!r} is not a key of {what}{offer}"


def read_bounded(path: str, most: int) -> bytes:
    """The content of an ordinary file. Raises RuleFileError; never waits, as opening a FIFO would."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "not an ordinary file"
            raise _unreadable(path, f"it is {what}")
        if status.st_size > most:
            raise _unreadable(path, f"it has {status.st_size} bytes, more than {most}")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(most + 1)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    finally:
        os.close(descriptor)
    if len(content) > most:
        raise _unreadable(path, f"it has more than {most} bytes")
    return content


def _unreadable(path: str, why: str) -> RuleFileError:
    return RuleFileError([RuleError(path.replace("\0", "\\0"), 0, 0, f"cannot be read: {why}")])


def _text(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        text = f"byte {content[error.start]:#04x} is not UTF-8; a file of rules is text"
        raise RuleFileError([RuleError(path, line, column, text)]) from None


def _toml_error(path: str, text: str, message: str) -> RuleError:
    match = _TOML_PLACE.search(message)
    what = message[: match.start()] if match else message
    if match is None:
        return RuleError(path, 0, 0, f"not TOML: {what}")
    if match[1]:
        return RuleError(path, int(match[1]), int(match[2]), f"not TOML: {what}")
    last = text.rfind("\n") + 1
    return RuleError(path, text.count("\n") + 1, len(text) - last + 1, f"not TOML: {what}, and the file ends here")
