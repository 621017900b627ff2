"""The quick way through a block list: lines whose row stands in them letter by letter, found without objects.

Most lines of most lists are a host in lower case, alone, behind 0.0.0.0, or between `||` and `^`, or a URL in lower
case. `scan_lines` finds where the row stands; everything else goes to `block_list_lines.read_line`, which says what a
line means. The two must agree: a test compares them on random lines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..pir.he.compiled import compiled
from .bloom_kernels import Bytes, Offsets

_NEWLINE, _TAB, _RETURN, _SPACE = 10, 9, 13, 32
_BANG, _HASH, _DASH, _DOT, _SLASH, _UNDERSCORE, _HAT, _BAR, _TILDE = 33, 35, 45, 46, 47, 95, 94, 124, 126
_LONGEST_QUICK = 2048
_LONGEST_HOST, _LONGEST_LABEL, _DEEPEST_PATH = 253, 63, 64
_QUIET, _QUICK, _SLOW = 0, 1, 2

_BLACK_HOLE = np.frombuffer(b"0.0.0.0", np.uint8)
_LOOPBACK = np.frombuffer(b"127.0.0.1", np.uint8)
_HTTPS = np.frombuffer(b"https://", np.uint8)
_HTTP = np.frombuffer(b"http://", np.uint8)
_WWW = np.frombuffer(b"www.", np.uint8)
_LOCALHOST = np.frombuffer(b"localhost", np.uint8)


@compiled
def scan_lines(buffer: Bytes, line_count: int) -> tuple[Offsets, Offsets, Offsets, Offsets, Offsets]:
    """Sort the lines of a buffer, each of which ends in a newline.

    Gives where the rows of quick lines begin and end, where the lines that have to be read begin and end, and the
    numbers of those, from 0.
    """
    starts, ends = np.empty(line_count, np.int64), np.empty(line_count, np.int64)
    slow_starts, slow_ends = np.empty(line_count, np.int64), np.empty(line_count, np.int64)
    slow_numbers = np.empty(line_count, np.int64)
    quick, slow, start = 0, 0, 0
    for number in range(line_count):
        end = start
        while buffer[end] != _NEWLINE:
            end += 1
        kind, first, last = _line(buffer, start, end)
        if kind == _QUICK:
            starts[quick], ends[quick] = first, last
            quick += 1
        elif kind == _SLOW:
            slow_starts[slow], slow_ends[slow], slow_numbers[slow] = start, end, number
            slow += 1
        start = end + 1
    return starts[:quick], ends[:quick], slow_starts[:slow], slow_ends[:slow], slow_numbers[:slow]


@compiled
def _line(buffer: Bytes, start: int, end: int) -> tuple[int, int, int]:
    """What kind of line this is, and where its row begins and ends."""
    while end > start and _is_blank(buffer[end - 1]):
        end -= 1
    while start < end and _is_blank(buffer[start]):
        start += 1
    if start == end or buffer[start] == _BANG or (buffer[start] == _HASH and _is_plain_comment(buffer, start, end)):
        return _QUIET, 0, 0
    if end - start > _LONGEST_QUICK:
        return _SLOW, 0, 0
    if end - start > 3 and buffer[start] == _BAR and buffer[start + 1] == _BAR and buffer[end - 1] == _HAT:
        return _row(buffer, start + 2, end - 1, True)
    after = max(_past_word(buffer, start, end, _BLACK_HOLE), _past_word(buffer, start, end, _LOOPBACK))
    if after > start:
        return _SLOW if _begins_with(buffer, after, end, _LOCALHOST) else _row(buffer, after, end, True)[0], after, end
    if _begins_with(buffer, start, end, _HTTPS):
        return _row(buffer, start + 8, end, False)
    if _begins_with(buffer, start, end, _HTTP):
        return _row(buffer, start + 7, end, False)
    return _row(buffer, start, end, False)


@compiled
def _is_blank(letter: int) -> bool:
    return letter == _SPACE or letter == _TAB or letter == _RETURN


@compiled
def _is_plain_comment(buffer: Bytes, start: int, end: int) -> bool:
    return end == start + 1 or _is_blank(buffer[start + 1])


@compiled
def _begins_with(buffer: Bytes, start: int, end: int, prefix: Bytes) -> bool:
    if end - start < prefix.size:
        return False
    for at in range(prefix.size):  # noqa: SIM110  # all() over a generator is not compiled
        if buffer[start + at] != prefix[at]:
            return False
    return True


@compiled
def _past_word(buffer: Bytes, start: int, end: int, word: Bytes) -> int:
    """Where what follows a word and blanks begins; `start` if the word is not there."""
    if not _begins_with(buffer, start, end, word):
        return start
    at = start + word.size
    if at >= end or not _is_blank(buffer[at]):
        return start
    while at < end and _is_blank(buffer[at]):
        at += 1
    return at


@compiled
def _row(buffer: Bytes, start: int, end: int, is_host_only: bool) -> tuple[int, int, int]:
    """Whether what stands there is a row in its final form, as it is."""
    host_end = _host_end(buffer, start, end)
    if host_end < 0 or (host_end < end and is_host_only):
        return _SLOW, 0, 0
    slashes = 0
    for at in range(host_end, end):
        letter, previous = buffer[at], buffer[at - 1]
        if letter == _SLASH:
            slashes += 1
            if previous == _SLASH or at == end - 1 or slashes > _DEEPEST_PATH:
                return _SLOW, 0, 0
        elif letter == _DOT:
            if previous == _SLASH:
                return _SLOW, 0, 0
        elif not (_is_name(letter) or letter == _DASH or letter == _TILDE):
            return _SLOW, 0, 0
    return _QUICK, start, end


@compiled
def _host_end(buffer: Bytes, start: int, end: int) -> int:
    """Where the host that begins at `start` ends; -1 where it is none of two labels and more, or not in final form."""
    if _begins_with(buffer, start, end, _WWW):
        return -1
    label, dots, at = start, 0, start
    while at <= end:
        if at == end or buffer[at] == _SLASH or buffer[at] == _DOT:
            if at == label or at - label > _LONGEST_LABEL or buffer[label] == _DASH or buffer[at - 1] == _DASH:
                return -1
            if at < end and buffer[at] == _DOT:
                dots += 1
                label = at + 1
            else:
                break
        elif buffer[at] == _DASH:
            if at > label and buffer[at - 1] == _DASH:  # two hyphens: punycode, which has to be checked
                return -1
        elif not _is_name(buffer[at]):
            return -1
        at += 1
    is_number = buffer[label] < 97  # a top-level domain that begins with a digit: perhaps an address
    return -1 if dots == 0 or is_number or at - start > _LONGEST_HOST else at


@compiled
def _is_name(letter: int) -> bool:
    return (97 <= letter <= 122) or (48 <= letter <= 57) or letter == _UNDERSCORE


@compiled
def scatter(buffer: Bytes, starts: Offsets, ends: Offsets, parts: int) -> tuple[Bytes, NDArray[np.int64]]:
    """Put strings into `parts` by their hash, each with a newline behind: the bytes, and where each part begins."""
    rows = starts.size
    part_of = np.empty(rows, np.int64)
    offsets = np.zeros(parts + 1, np.int64)
    for row in range(rows):
        value = np.uint64(0xCBF29CE484222325)
        for at in range(starts[row], ends[row]):
            value = (value ^ np.uint64(buffer[at])) * np.uint64(0x100000001B3)
        part_of[row] = np.int64((value ^ (value >> np.uint64(29))) % np.uint64(parts))
        offsets[part_of[row] + 1] += ends[row] - starts[row] + 1
    for part in range(parts):
        offsets[part + 1] += offsets[part]
    place = offsets.copy()
    scattered = np.empty(offsets[parts], np.uint8)
    for row in range(rows):
        to = place[part_of[row]]
        for at in range(starts[row], ends[row]):
            scattered[to] = buffer[at]
            to += 1
        scattered[to] = _NEWLINE
        place[part_of[row]] = to + 1
    return scattered, offsets
