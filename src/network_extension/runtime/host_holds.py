"""What waits of one direction of a flow, and the memory of verdicts that packets ask for again."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple, Protocol

from ..core.stream_reassembly import Now, StreamReassembler
from .host_flow import TableKey, Waiting

MOST_BYTES, MOST_PACKETS = 1 << 20, 64
"""Of one direction. A sender's initial window is ten segments; more comes only to who lets bytes pass."""


class Hold(Protocol):
    """A direction that is held."""

    @property
    def ended(self) -> bool:
        """Whether the direction's end has come."""

    def release(self, up_to: int) -> list[Waiting]:
        """The packets that lie wholly before that byte."""

    def close(self) -> list[Waiting]:
        """All packets that wait."""


class DatagramHold:
    """Datagrams, one after the other: each is a unit of as many bytes as it has."""

    __slots__ = ("_end", "_packets", "ended")

    def __init__(self, start: int = 0) -> None:
        """`start` is the place of the next datagram in what filters have been shown of the direction."""
        self._packets: deque[tuple[int, Waiting]] = deque()
        self._end = start
        self.ended = False

    def add(self, packet: Waiting, data: bytes) -> bool:
        """Whether there is room for it."""
        if len(self._packets) >= MOST_PACKETS:
            return False
        self._end += len(data)
        self._packets.append((self._end, packet))
        return True

    def release(self, up_to: int) -> list[Waiting]:
        """The datagrams that lie wholly before that byte."""
        gone = []
        while self._packets and self._packets[0][0] <= up_to:
            gone.append(self._packets.popleft()[1])
        return gone

    def close(self) -> list[Waiting]:
        """All that wait."""
        gone = [packet for _, packet in self._packets]
        self._packets.clear()
        return gone


def stream_hold(initial_sequence: int | None, start: int = 0) -> StreamReassembler[Waiting]:
    """A direction of TCP; `initial_sequence` is that of its SYN, `start` the place of its first byte."""
    return StreamReassembler(initial_sequence, MOST_BYTES, MOST_PACKETS, start)


class Unsynchronized:
    """In place of a hold: the direction's next segment begins it, at the place `start`."""

    ended = False

    def __init__(self, start: int = 0) -> None:
        self.start = start

    def release(self, up_to: int) -> list[Waiting]:
        """Nothing waits."""
        return []

    def close(self) -> list[Waiting]:
        """Nothing waits."""
        return []


class Remembered(NamedTuple):
    """A verdict that is given again without asking."""

    sequence: int
    state: int
    """The FlowMark of it; DROPPED drops the packet itself."""
    until: float


class VerdictMemory:
    """Verdicts by flow: SYNs are sent again for two minutes, and datagrams come whatever was said.

    At most `most` of them; the oldest go first.
    """

    def __init__(self, most: int = 65536) -> None:
        self._most = most
        self._entries: OrderedDict[TableKey, Remembered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: TableKey, sequence: int, state: int, until: float) -> None:
        """Give that verdict again, until that time, to packets of the flow with the same initial sequence number."""
        entries = self._entries
        entries.pop(key, None)
        entries[key] = Remembered(sequence, state, until)
        if len(entries) > self._most:
            entries.popitem(last=False)

    def look_up(self, key: TableKey, sequence: int, now: float) -> int | None:
        """The state to give again, or None. A `sequence` of -1 is of a packet that begins no flow: it fits any."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now > entry.until or (sequence >= 0 and entry.sequence != sequence):
            del self._entries[key]
            return None
        return entry.state

    def clear(self) -> None:
        """Forget all, when rules have changed."""
        self._entries.clear()

    def expire(self, now: float) -> None:
        """Forget what is over, as far as it is the oldest."""
        while self._entries:
            key = next(iter(self._entries))
            if self._entries[key].until > now:
                return
            del self._entries[key]


__all__ = ["DatagramHold", "Hold", "Now", "StreamReassembler", "Unsynchronized", "VerdictMemory", "stream_hold"]
