"""TCP segments that wait in the kernel become a stream of bytes, and bytes that may move become segments to release.

Every packet of a held direction comes here with a token that names it. What becomes of it at once:

    nothing for a filter to see: no data, sent again after it was released, keep-alive          ACCEPT
    new bytes, or bytes ahead of a gap, or the end                                              HOLD
    a copy of what is held, other bytes in the place of held ones, more than there is room for  DROP

A dropped packet is not lost: its sender gets no acknowledgement and sends it again, so of several copies the first one
held is enough. Bytes that differ from what was shown in the same place never get through: a filter must have seen what
the receiver gets.

A segment is released when its last byte is: packets are not cut. A FIN is released when nothing of the direction is
held any more, so that the end of the stream waits for a filter's last word. Sequence numbers are 32 bits and wrap (RFC
9293 §3.4).

How much is held? A sender's initial window, ten segments (RFC 6928), is the natural limit: held bytes are not
acknowledged. Windows grow when a filter lets bytes pass bit by bit, and segmentation offload makes packets of 64 KiB,
so `most_bytes` and `most_packets` bound it. A quarter of both is kept for what continues the stream: packets behind a
gap cannot take the place of the one that closes it.
"""

from __future__ import annotations

from enum import Enum
from typing import Generic, NamedTuple, TypeVar

from ..filter_verdicts import FLOW_BYTES_MAX

T = TypeVar("T")
_HALF, _MASK = 1 << 31, 0xFFFFFFFF
REMEMBERED = 65536
"""Bytes before the held ones that what is sent again is compared with."""


class Now(Enum):
    """What to do with a packet at once."""

    ACCEPT = "accept"
    HOLD = "hold"
    DROP = "drop"


class Added(NamedTuple):
    """What a packet brought."""

    now: Now
    new: bytes
    """The bytes that have become contiguous with it."""


class _Segment(Generic[T]):
    __slots__ = ("data", "end", "fin", "start", "token")

    def __init__(self, token: T, start: int, data: bytes, fin: bool) -> None:
        self.token, self.start, self.data, self.fin = token, start, data, fin
        self.end = start + len(data)


_ACCEPT, _DROP, _HOLD = Added(Now.ACCEPT, b""), Added(Now.DROP, b""), Added(Now.HOLD, b"")


class StreamReassembler(Generic[T]):
    """One direction of a TCP connection.

    `initial_sequence` is the SYN's, data begins behind it; None: the flow is joined in the middle, and its first packet
    with data, or a FIN, begins the stream. (What was sent before that is none of the stream, and is accepted.) `start`
    is the offset of the first byte that comes, for a stream that was not held for a while.
    """

    __slots__ = (
        "_ahead",
        "_base",
        "_bytes",
        "_end_at",
        "_held",
        "_most_bytes",
        "_most_packets",
        "_seen",
        "_seen_from",
        "next",
        "released",
    )

    def __init__(
        self, initial_sequence: int | None, most_bytes: int = 1 << 18, most_packets: int = 256, start: int = 0
    ) -> None:
        self._base = None if initial_sequence is None else initial_sequence + 1 - start & _MASK
        """The sequence number of the stream's byte 0."""
        self._most_bytes, self._most_packets = most_bytes, most_packets
        self._held: list[_Segment[T]] = []
        """Contiguous, in order of the stream."""
        self._ahead: list[_Segment[T]] = []
        """Behind a gap, in order of the stream; they do not overlap."""
        self._bytes = 0
        self._seen = bytearray()
        """The stream's last bytes, which what is sent again must agree with: all that is held, and some before."""
        self._seen_from = start
        self._end_at: int | None = None
        self.next = start
        """Offset of the first byte that has not come."""
        self.released = start
        """Offset up to which bytes may move."""

    @property
    def ended(self) -> bool:
        """Whether the FIN has come, and all before it."""
        return self._end_at is not None and self.next >= self._end_at

    @property
    def held_tokens(self) -> list[T]:
        """The packets that wait."""
        return [segment.token for segment in (*self._held, *self._ahead)]

    def add(self, token: T, sequence: int, payload: bytes, fin: bool = False) -> Added:
        """A packet with data, or a FIN, or neither."""
        if not payload and not fin:
            return _ACCEPT  # acknowledgements, window probes, keep-alives: nothing of the stream
        if self._base is None:
            self._base = sequence - self.next & _MASK
        segment = _Segment(token, self._offset(sequence), payload, fin)
        if segment.end <= self.next and not (fin and segment.end == self.next and self._end_at is None):
            return self._known(segment)
        if not self._agrees(segment) or (self._end_at is not None and segment.end > self._end_at):
            return _DROP
        if segment.start > self.next:
            return self._add_ahead(segment)
        return self._add_next(segment) if self._has_room(segment, 4) else _DROP

    def _known(self, segment: _Segment[T]) -> Added:
        """Nothing of it is new: it is sent again, or it is a keep-alive."""
        if segment.fin and segment.end != self._end_at:
            return _DROP  # an end in the middle of what has come
        if segment.end == self.next == segment.start + 1 <= self.released and not segment.fin:
            return _ACCEPT  # one byte of no meaning that the receiver has already: RFC 1122 §4.2.3.6
        if not self._agrees(segment):
            return _DROP
        is_out = segment.end <= self.released and (not segment.fin or self.released >= FLOW_BYTES_MAX)
        return _ACCEPT if is_out else _DROP

    def _has_room(self, segment: _Segment[T], quarters: int) -> bool:
        packets, count = len(self._held) + len(self._ahead) + 1, self._bytes + len(segment.data)
        return 4 * packets <= quarters * self._most_packets and 4 * count <= quarters * self._most_bytes

    def _offset(self, sequence: int) -> int:
        """The place of a sequence number in the stream, next to where the stream is; negative before its start."""
        assert self._base is not None
        difference = (sequence - self._base - self.next) & _MASK
        return self.next + (difference - (1 << 32) if difference >= _HALF else difference)

    def _agrees(self, segment: _Segment[T]) -> bool:
        """Whether it says the same as what came before for the same places, as far as that is remembered."""
        if not _same(segment, self._seen_from, self._seen):
            return False
        return all(_same(segment, other.start, other.data) for other in self._ahead)

    def _add_ahead(self, segment: _Segment[T]) -> Added:
        if any(segment.start < other.end and other.start < segment.end for other in self._ahead):
            return _DROP  # it overlaps: the sender fills the gap first
        if any(segment.start == other.start and segment.end == other.end for other in self._ahead):
            return _DROP  # a FIN without data, sent again
        if not self._has_room(segment, 3):
            return _DROP
        self._ahead.append(segment)
        self._ahead.sort(key=_start)
        self._bytes += len(segment.data)
        return _HOLD

    def _add_next(self, segment: _Segment[T]) -> Added:
        """It continues the stream, and may close a gap."""
        before = self.next
        self._take(segment)
        while self._ahead and self._ahead[0].start <= self.next:
            ahead = self._ahead.pop(0)
            self._bytes -= len(ahead.data)
            self._take(ahead)
        new = bytes(self._seen[before - self._seen_from :])
        self._trim()
        return Added(Now.HOLD, new)

    def _take(self, segment: _Segment[T]) -> None:
        self._seen += segment.data[self.next - segment.start :]
        self._held.append(segment)
        self._bytes += len(segment.data)
        self.next = max(self.next, segment.end)
        if segment.fin:
            self._end_at = segment.end

    def _trim(self) -> None:
        """Remember what is held, and `REMEMBERED` bytes before it."""
        first = self._held[0].start if self._held else self.next
        drop = first - REMEMBERED - self._seen_from
        if drop > 0:
            del self._seen[:drop]
            self._seen_from += drop

    def release(self, up_to: int) -> list[T]:
        """Bytes before `up_to` may move: the packets that lie wholly before it, in order."""
        self.released = max(self.released, up_to)
        held, tokens = self._held, list[T]()
        while held and held[0].end <= self.released and (not held[0].fin or self.released >= FLOW_BYTES_MAX):
            segment = held.pop(0)
            self._bytes -= len(segment.data)
            tokens.append(segment.token)
        self._trim()
        return tokens

    def close(self) -> list[T]:
        """The packets that still wait; nothing is held any more."""
        tokens = self.held_tokens
        self._held, self._ahead, self._bytes = [], [], 0
        return tokens


def _start(segment: _Segment[T]) -> int:
    return segment.start


def _same(segment: _Segment[T], start: int, data: bytes | bytearray) -> bool:
    """Whether a segment has the bytes `data`, which begin at `start`, where both overlap."""
    low, high = max(segment.start, start), min(segment.end, start + len(data))
    return low >= high or segment.data[low - segment.start : high - segment.start] == data[low - start : high - start]
