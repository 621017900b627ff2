"""Segments become a stream: cut, swapped, sent again, overlapping, wrapping."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.core.stream_reassembly import REMEMBERED, Now, StreamReassembler

ALL = 2**64 - 1
ISN = 0xFFFFFFF0  # the stream wraps after 15 bytes


def stream(**options: int) -> StreamReassembler[str]:
    return StreamReassembler(ISN, **options)


def at(offset: int) -> int:
    return (ISN + 1 + offset) & 0xFFFFFFFF


def test_segments_in_order_over_the_wrap_of_sequence_numbers() -> None:
    s = stream()
    assert s.add("a", at(0), b"x" * 12) == (Now.HOLD, b"x" * 12)
    assert s.add("b", at(12), b"y" * 12) == (Now.HOLD, b"y" * 12)
    assert s.release(11) == []
    assert s.release(12) == ["a"]
    assert s.release(30) == ["b"]


def test_a_gap_is_filled() -> None:
    s = stream()
    assert s.add("late", at(3), b"def") == (Now.HOLD, b"")
    assert s.add("later", at(6), b"ghi") == (Now.HOLD, b"")
    assert s.add("first", at(0), b"abc") == (Now.HOLD, b"abcdefghi")
    assert s.release(ALL) == ["first", "late", "later"]


def test_a_copy_of_what_waits_is_dropped_and_of_what_was_released_accepted() -> None:
    s = stream()
    s.add("a", at(0), b"abc")
    assert s.add("a2", at(0), b"abc").now is Now.DROP
    s.release(3)
    assert s.add("a3", at(0), b"abc").now is Now.ACCEPT


def test_other_bytes_in_the_same_place_never_pass() -> None:
    s = stream()
    s.add("a", at(0), b"GET /good")
    assert s.add("evil", at(0), b"GET /evil").now is Now.DROP
    s.release(ALL)
    assert s.add("evil", at(0), b"GET /evil").now is Now.DROP
    assert s.add("evil and more", at(0), b"GET /evil HTTP").now is Now.DROP
    assert s.add("good and more", at(0), b"GET /good HTTP") == (Now.HOLD, b" HTTP")


def test_what_closes_a_gap_must_agree_with_what_lies_behind_it() -> None:
    s = stream()
    s.add("ahead", at(3), b"def")
    assert s.add("evil", at(0), b"abcDEF").now is Now.DROP
    assert s.add("good", at(0), b"abcd") == (Now.HOLD, b"abcdef")


def test_pure_acknowledgements_and_keep_alives_pass() -> None:
    s = stream()
    assert s.add("ack", at(0), b"").now is Now.ACCEPT
    assert s.add("keep-alive", at(-1), b"\0").now is Now.ACCEPT
    s.add("a", at(0), b"abc")
    assert s.add("ack", at(3), b"").now is Now.ACCEPT


def test_a_fin_waits_for_the_last_word() -> None:
    s = stream()
    assert s.add("a", at(0), b"abc", fin=True) == (Now.HOLD, b"abc")
    assert s.ended
    assert s.release(3) == []
    assert s.release(ALL) == ["a"]


def test_a_fin_ahead_of_a_gap() -> None:
    s = stream()
    s.add("fin", at(3), b"", fin=True)
    assert not s.ended
    assert s.add("fin again", at(3), b"", fin=True).now is Now.DROP
    s.add("a", at(0), b"abc")
    assert s.ended
    assert s.add("behind the end", at(3), b"x").now is Now.DROP


def test_joined_in_the_middle() -> None:
    s: StreamReassembler[str] = StreamReassembler(None)
    assert s.add("a", 1000, b"abc") == (Now.HOLD, b"abc")
    assert s.add("before", 997, b"xyz").now is Now.ACCEPT or s.held_tokens == ["a"]


@pytest.mark.parametrize("options", [{"most_bytes": 10}, {"most_packets": 2}])
def test_it_is_bounded(options: dict[str, int]) -> None:
    s = stream(**options)
    assert [s.add(str(n), at(4 * n), b"abcd").now for n in range(3)] == [Now.HOLD, Now.HOLD, Now.DROP]
    assert s.close() == ["0", "1"]
    assert s.held_tokens == []


def test_memory_is_bounded_over_a_long_stream() -> None:
    s = stream()
    for n in range(100):
        s.add(str(n), at(10_000 * n), bytes(10_000))
        assert s.release(10_000 * (n + 1)) == [str(n)]
    assert len(s._seen) <= REMEMBERED + 20_000


def test_a_stream_that_was_not_held_for_a_while_goes_on_counting() -> None:
    s: StreamReassembler[str] = StreamReassembler(None, start=1000)
    assert s.add("a", 7, b"abc") == (Now.HOLD, b"abc")
    assert s.release(1002) == []
    assert s.release(1003) == ["a"]


def test_a_keep_alive_does_not_begin_a_stream() -> None:
    """Ours would be one byte before the next one: a gap that nobody fills."""
    s: StreamReassembler[str] = StreamReassembler(None)
    assert s.add("keep-alive", 999, b"").now is Now.ACCEPT
    assert s.add("a", 1000, b"abc") == (Now.HOLD, b"abc")


def test_a_keep_alive_with_a_byte_of_no_meaning() -> None:
    s = stream()
    s.add("a", at(0), b"abc")
    assert s.add("too early", at(2), b"\0").now is Now.DROP
    s.release(3)
    assert s.add("keep-alive", at(2), b"\0").now is Now.ACCEPT


def test_a_passed_fin_waits_for_the_last_word_all_the_same() -> None:
    s = stream()
    s.add("a", at(0), b"abc", fin=True)
    assert s.release(1000) == []  # a filter passed more than there is
    assert s.add("again", at(0), b"abc", fin=True).now is Now.DROP
    assert s.release(ALL) == ["a"]
    assert s.add("and again", at(0), b"abc", fin=True).now is Now.ACCEPT


def test_an_end_in_the_middle_is_none() -> None:
    s = stream()
    s.add("a", at(0), b"abcdef")
    assert s.add("fin", at(3), b"", fin=True).now is Now.DROP
    s.release(ALL)
    assert s.add("fin", at(3), b"", fin=True).now is Now.DROP
    assert not s.ended


def test_packets_behind_a_gap_leave_room_for_the_one_that_closes_it() -> None:
    s = stream(most_packets=8)
    assert [s.add(str(n), at(n), b"x").now for n in range(1, 9)] == [Now.HOLD] * 6 + [Now.DROP] * 2
    assert s.add("0", at(0), b"x") == (Now.HOLD, b"x" * 7)


def test_large_packets() -> None:
    s = stream()
    assert [s.add(str(n), at(65_000 * n), bytes(65_000)).now for n in range(5)] == [Now.HOLD] * 4 + [Now.DROP]
    assert s.release(65_000) == ["0"]
    assert s.add("4", at(260_000), bytes(65_000)).now is Now.HOLD


@settings(max_examples=400)
@given(st.data())
def test_any_cut_order_and_repetition_gives_the_stream(data: st.DataObject) -> None:
    content = data.draw(st.binary(min_size=1, max_size=200))
    cuts = sorted({0, len(content), *data.draw(st.lists(st.integers(0, len(content)), max_size=8))})
    pieces = list(itertools.pairwise(cuts))
    extra = data.draw(st.lists(st.tuples(st.integers(0, len(content)), st.integers(0, len(content))), max_size=5))
    pieces += [(min(pair), max(pair)) for pair in extra]
    isn = data.draw(st.integers(0, 2**32 - 1))
    s: StreamReassembler[int] = StreamReassembler(isn)
    seen, packets, out = b"", {}, 0
    waiting = list(enumerate(data.draw(st.permutations(pieces))))
    for _ in range(60):  # what was dropped is sent again
        if not waiting:
            break
        number, (low, high) = waiting.pop(0)
        added = s.add(number, (isn + 1 + low) & 0xFFFFFFFF, content[low:high])
        seen += added.new
        if added.now is Now.HOLD:
            packets[number] = high
        elif added.now is Now.DROP:
            waiting.append((number, (low, high)))
        up_to = data.draw(st.integers(0, len(seen)))
        for token in s.release(up_to):
            assert packets[token] <= max(up_to, out)  # no byte leaks
        out = max(out, up_to)
    assert content.startswith(seen)
    s.release(ALL)
    assert seen == content or waiting


class Receiver:
    """Whoever gets what is accepted and released. The first bytes in a place count, as in Linux."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}

    def take(self, low: int, data: bytes) -> None:
        for at, byte in enumerate(data, low):
            self.bytes.setdefault(at, byte)


SEGMENTS = st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=12), st.booleans()), max_size=25)


@settings(max_examples=600)
@given(st.binary(min_size=52, max_size=52), st.integers(0, 2**32 - 1), SEGMENTS, st.data())
def test_the_receiver_gets_what_was_shown_and_no_more_than_may_move(
    content: bytes, isn: int, segments: list[tuple[int, bytes, bool]], data: st.DataObject
) -> None:
    """A third of the segments lie about what the stream is; some of them come first."""
    s: StreamReassembler[tuple[int, bytes]] = StreamReassembler(isn, most_packets=12)
    receiver, shown, up_to = Receiver(), b"", 0
    for low, other, is_true in segments:
        payload = content[low : low + len(other)] if is_true else other
        added = s.add((low, payload), isn + 1 + low & 0xFFFFFFFF, payload)
        shown += added.new
        if added.now is Now.ACCEPT:
            assert low + len(payload) <= up_to
            receiver.take(low, payload)
        up_to = max(up_to, data.draw(st.integers(0, len(shown))))
        for start, released in s.release(up_to):
            assert start + len(released) <= up_to
            receiver.take(start, released)
        assert all(shown[at] == byte for at, byte in receiver.bytes.items())
    assert len(s.held_tokens) <= 12
