"""Datagrams that are held, and remembered verdicts."""

from __future__ import annotations

from network_extension.runtime.host_flow import Waiting
from network_extension.runtime.host_holds import MOST_PACKETS, DatagramHold, VerdictMemory

KEY = (17, b"\1\1\1\1", 1, b"\2\2\2\2", 2)


def packet(number: int) -> Waiting:
    return Waiting(number, 0, b"")


class TestDatagramHold:
    def test_units(self) -> None:
        hold = DatagramHold()
        for number, data in enumerate((b"one", b"", b"three")):
            assert hold.add(packet(number), data)
        assert [held.id for held in hold.release(2)] == []
        assert [held.id for held in hold.release(3)] == [0, 1]  # an empty one goes with those before it
        assert [held.id for held in hold.close()] == [2]

    def test_no_more_than_there_is_room_for(self) -> None:
        hold = DatagramHold()
        assert all(hold.add(packet(number), b"x") for number in range(MOST_PACKETS))
        assert not hold.add(packet(MOST_PACKETS), b"x")
        hold.release(1)
        assert hold.add(packet(MOST_PACKETS), b"x")


class TestVerdictMemory:
    def test_the_same_flow_gets_the_same_verdict(self) -> None:
        memory = VerdictMemory()
        memory.add(KEY, 7, 5, until=10)
        assert memory.look_up(KEY, 7, 10) == 5
        assert memory.look_up(KEY, -1, 10) == 5  # a packet from the midst of it
        assert memory.look_up(KEY, 7, 10.1) is None
        assert not len(memory)

    def test_another_initial_sequence_number_is_another_flow(self) -> None:
        memory = VerdictMemory()
        memory.add(KEY, 7, 5, until=10)
        assert memory.look_up(KEY, 8, 0) is None

    def test_the_oldest_go_first(self) -> None:
        memory = VerdictMemory(most=2)
        keys = [(17, b"\1\1\1\1", number, b"\2\2\2\2", 2) for number in range(3)]
        for key in keys:
            memory.add(key, 0, 1, until=10)
        assert [memory.look_up(key, 0, 0) for key in keys] == [None, 1, 1]
        memory.expire(11)
        assert not len(memory)
        memory.add(KEY, 0, 1, until=99)
        memory.clear()
        assert memory.look_up(KEY, 0, 0) is None
