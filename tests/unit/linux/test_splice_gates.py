"""Relays whose directions are held by gates: what is shown, what moves, and that nothing is lost on the way.

program ──TCP── [inner  Relay  outer] ──TCP── remote
"""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterator

import pytest

from network_extension.linux.pipes import PipePool
from network_extension.linux.sockets import reset_on_close
from network_extension.linux.splice import Relay

from .driving import Driver, driving
from .test_splice import connection, content


class Gate:
    """A gate of the test's own: keeps everything until `credit` bytes may go."""

    def __init__(self, relay: list[Relay], most: int = 65536) -> None:
        self._relay, self._most = relay, most
        self.kept, self.seen = bytearray(), bytearray()
        self.credit, self.ended, self.free = 0, False, False

    @property
    def room(self) -> int:
        return max(0, self._most - len(self.kept))

    @property
    def is_open(self) -> bool:
        return self.free and not self.kept

    def give(self, data: bytes) -> None:
        self.kept += data
        self.seen += data

    def end(self) -> None:
        self.ended = True

    def take(self) -> bytes:
        count = len(self.kept) if self.free else min(self.credit, len(self.kept))
        data = bytes(self.kept[:count])
        del self.kept[:count]
        self.credit -= count
        return data

    def let(self, count: int | None) -> None:
        """Let bytes go; None: all, now and later."""
        self.free = count is None
        self.credit += count or 0
        self._relay[0].proceed()


class Setting:
    """A relay with both ends in the test's hands."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.program, inner = connection()
        outer, self.remote = connection()
        self.ended: list[OSError | None] = []
        self._made: list[Relay] = []
        self.relay = Relay(driver.reactor, PipePool(), inner, outer, lambda relay, error: self.ended.append(error))
        self._made.append(self.relay)
        self.got = bytearray()

    def gate(self, most: int = 65536) -> Gate:
        return Gate(self._made, most)

    def read(self, sock: socket.socket) -> bytes | None:
        """What can be read now; None at the end."""
        try:
            return sock.recv(1 << 20) or None
        except BlockingIOError:
            return b""

    def has(self, count: int) -> bool:
        """Whether that much has arrived at the remote end."""
        self.got += self.read(self.remote) or b""
        return len(self.got) >= count

    def close(self) -> None:
        self.relay.close()
        self.program.close()
        self.remote.close()


@pytest.fixture
def setting() -> Iterator[Setting]:
    with driving() as driver:
        setting = Setting(driver)
        yield setting
        setting.close()


def test_nothing_moves_before_it_is_let(setting: Setting) -> None:
    gate = setting.gate()
    setting.relay.hold(True, gate)
    setting.relay.start()
    setting.program.send(b"0123456789")
    setting.driver.until(lambda: gate.seen == b"0123456789")
    assert setting.read(setting.remote) == b"" and setting.relay.sent == 0 and setting.relay.is_held
    gate.let(4)
    setting.driver.until(lambda: setting.has(4))
    assert setting.got == b"0123" and setting.relay.sent == 4
    gate.let(None)
    setting.driver.until(lambda: setting.has(10))
    assert setting.got == b"0123456789" and not setting.relay.is_held


def test_the_other_direction_is_free(setting: Setting) -> None:
    setting.relay.hold(True, setting.gate())
    setting.relay.start()
    setting.program.send(b"held")
    setting.remote.send(b"free")
    setting.driver.until(lambda: setting.read(setting.program) == b"free")


def test_a_full_gate_stops_the_sender(setting: Setting) -> None:
    """No more than its room is read; the rest comes when it is let."""
    gate, data = setting.gate(1000), content(5000)
    setting.relay.hold(True, gate)
    setting.relay.start()
    setting.program.send(data)
    setting.driver.until(lambda: len(gate.seen) == 1000)
    setting.driver.quiet()
    assert len(gate.seen) == 1000
    gate.let(None)
    setting.driver.until(lambda: setting.has(5000))
    assert setting.got == data


def test_an_end_waits_behind_its_bytes(setting: Setting) -> None:
    gate = setting.gate()
    setting.relay.hold(True, gate)
    setting.relay.start()
    setting.program.send(b"the last words")
    setting.program.shutdown(socket.SHUT_WR)
    setting.driver.until(lambda: gate.ended)
    setting.driver.quiet()
    assert setting.read(setting.remote) == b""
    gate.let(None)
    setting.driver.until(lambda: setting.has(14))
    setting.driver.until(lambda: setting.read(setting.remote) is None)


def test_bulk_before_a_hold_still_goes(setting: Setting) -> None:
    """A direction that is being spliced is held: what is in the pipe is not shown and not lost, the rest is shown."""
    setting.relay.start()
    data, sent, got = content(3_000_000), 0, bytearray()
    gate = setting.gate()

    def pump() -> bool:
        nonlocal sent
        try:
            sent += setting.program.send(data[sent : sent + 200_000])
        except BlockingIOError:
            pass
        if sent > 1_000_000 and not setting.relay.is_held and not gate.seen:
            setting.relay.hold(True, gate)
        elif gate.seen:
            gate.let(len(gate.kept))
        got.extend(setting.read(setting.remote) or b"")
        return len(got) == len(data)

    setting.driver.until(pump, 20)
    assert got == data
    assert data.endswith(bytes(gate.seen)) and 0 < len(gate.seen) < len(data)


def test_random_portions_both_ways(setting: Setting) -> None:
    """A megabyte both ways, let through in random portions, one direction freed in the middle."""
    chance = random.Random(7)
    out, into = setting.gate(30000), setting.gate(5000)
    setting.relay.hold(True, out)
    setting.relay.hold(False, into)
    setting.relay.start()
    up, down = content(1_000_000), content(999_999)[::-1]
    sent, got_up, got_down = [0, 0], bytearray(), bytearray()

    def pump() -> bool:
        for at, (sock, data) in enumerate(((setting.program, up), (setting.remote, down))):
            try:
                sent[at] += sock.send(data[sent[at] : sent[at] + chance.randint(1, 50000)])
            except BlockingIOError:
                pass
        for gate in (out, into):
            if gate.kept:
                gate.let(chance.randint(1, 2 * len(gate.kept)))
        if len(got_up) > 500_000:
            out.let(None)
        got_up.extend(setting.read(setting.remote) or b"")
        got_down.extend(setting.read(setting.program) or b"")
        return len(got_up) == len(up) and len(got_down) == len(down)

    setting.driver.until(pump, 30)
    assert got_up == up and got_down == down
    assert setting.relay.sent == len(up) and setting.relay.received == len(down)


def test_a_reset_is_seen_while_a_gate_is_full(setting: Setting) -> None:
    gate = setting.gate(10)
    setting.relay.hold(True, gate)
    setting.relay.start()
    setting.program.send(b"more than it takes")
    setting.driver.until(lambda: len(gate.seen) == 10)
    reset_on_close(setting.program)
    setting.program.close()
    setting.driver.until(lambda: setting.ended)
    assert setting.ended[0] is not None and setting.ended[0].errno == errno.ECONNRESET
    with pytest.raises(ConnectionResetError):
        setting.remote.recv(10)


def test_a_gate_that_ends_the_relay(setting: Setting) -> None:
    """Whoever is shown bytes may abort the relay then and there: nothing is sent, `done` is not called."""
    gate = setting.gate()
    gate.give = lambda data: setting.relay.abort()  # type: ignore[method-assign]
    setting.relay.hold(True, gate)
    setting.relay.start()
    setting.program.send(b"forbidden")
    setting.driver.until(lambda: setting.relay.is_over)
    setting.driver.quiet()
    assert not setting.ended
    with pytest.raises(ConnectionResetError):
        setting.remote.recv(10)


def test_another_remote_end(setting: Setting) -> None:
    """What the first one has not read goes to the second; what it has sent comes first."""
    setting.relay.start()
    setting.program.send(b"unread ")
    setting.remote.send(b"early ")
    setting.driver.until(lambda: setting.relay.sent == 7)
    unread = setting.read(setting.remote)
    assert unread == b"unread "
    outer, second = connection()
    setting.relay.replace_remote(outer, unread)
    setting.program.send(b"and more")
    second.send(b"late")
    seen, heard = bytearray(), bytearray()

    def whole() -> bool:
        seen.extend(setting.read(second) or b"")
        heard.extend(setting.read(setting.program) or b"")
        return len(seen) == 15 and len(heard) == 10

    setting.driver.until(whole)
    assert bytes(seen) == b"unread and more" and bytes(heard) == b"early late"
    assert setting.relay.sent == 15
    assert setting.read(setting.remote) is None  # closed
    second.close()


def test_another_remote_end_after_the_programs_end(setting: Setting) -> None:
    setting.relay.start()
    setting.program.send(b"question")
    setting.program.shutdown(socket.SHUT_WR)
    setting.driver.until(lambda: setting.relay.drained)
    outer, second = connection()
    setting.relay.replace_remote(outer, setting.read(setting.remote) or b"")
    setting.driver.until(lambda: setting.read(second) == b"question")
    setting.driver.until(lambda: setting.read(second) is None)
    second.close()


def test_nobody_reads_what_the_program_sends(setting: Setting) -> None:
    """The other direction goes on to its end; then it is over."""
    setting.relay.start()
    setting.relay.discard_outbound()
    setting.remote.send(b"last")
    setting.remote.shutdown(socket.SHUT_WR)
    setting.driver.until(lambda: setting.ended)
    assert setting.ended == [None] and setting.read(setting.program) == b"last"


def test_a_reset_is_one_at_the_end_of_a_socket_pair_too() -> None:
    with driving() as driver:
        program, inner = connection()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for end in (ours, theirs):
            end.setblocking(False)
        ended: list[OSError | None] = []
        relay = Relay(driver.reactor, PipePool(), inner, ours, lambda relay, error: ended.append(error))
        relay.far_end = theirs
        relay.start()
        reset_on_close(program)
        program.close()
        driver.until(lambda: ended)
        with pytest.raises(ConnectionResetError):
            theirs.recv(1)
        theirs.close()
