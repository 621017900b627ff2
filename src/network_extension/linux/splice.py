"""Moves the bytes of an established TCP flow between two sockets, both ways, until both ends are done.

A relay does what the two programs would see without it: half-close travels as half-close, reset as reset, urgent data
as urgent data, and a receiver that does not read stops the sender through the TCP windows.

Each direction takes the cheaper of two ways, for each wake-up anew. Little data (requests, answers, keystrokes) is
received and sent: two system calls. As soon as one read fills its buffer, the kernel moves the rest by splice(2)
through a pipe, without copying it to user space. Pipes belong to the pool, not to the flow: an idle flow has none, so
10,000 idle flows cost 20,000 descriptors and not 60,000, and the per-user limit on pipe memory
(fs.pipe-user-pages-soft, Linux 4.5) is met by the few flows that move.

Descriptors are registered once, edge-triggered; `_Direction.ready_*` remember what epoll said.

A direction may be *held* by a gate (`Relay.hold`): its bytes are read in portions, shown, and written as far as the
gate lets them. As soon as the gate is open for good they go the cheaper ways again; the other direction always does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from .pipes import Pipe, PipePool
from .reactor import EDGE, ERROR, HANGUP, PEER_CLOSED, READ, URGENT, WRITE, Reactor
from .sockets import reset_on_close

SMALL = 32768
TURN = 4 << 20  # bytes that one direction may move before the other flows get their turn
SPLICE_F_MOVE, SPLICE_F_NONBLOCK, SPLICE_F_MORE = 1, 2, 4
SIOCATMARK = 0x8905
RELAY_EVENTS = READ | WRITE | URGENT | PEER_CLOSED | EDGE


if TYPE_CHECKING:
    from typing import Protocol

    class Gate(Protocol):
        """What holds a direction. It keeps the bytes that it was given until it lets them through."""

        @property
        def room(self) -> int:
            """How many bytes it can take now; 0: the source waits."""

        @property
        def is_open(self) -> bool:
            """Nothing will be held any more, and nothing is kept: the relay needs the gate no longer."""

        def give(self, data: bytes) -> None:
            """The next bytes of the direction."""

        def end(self) -> None:
            """There are no more."""

        def take(self) -> bytes:
            """Bytes that may go on, each once."""


class _Direction:
    """One way through a relay: from `source` to `sink`."""

    __slots__ = (
        "gate",
        "has_marks",
        "source",
        "sink",
        "source_fd",
        "sink_fd",
        "readable",
        "writable",
        "at_end",
        "ended",
        "urgent",
        "hung_up",
        "pipe",
        "rest",
        "moved",
    )

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.source_fd, self.sink_fd = source.fileno(), sink.fileno()
        self.has_marks = source.family != socket.AF_UNIX
        self.readable = self.writable = True
        self.at_end = self.ended = self.urgent = self.hung_up = False
        self.pipe: Pipe | None = None
        self.rest: memoryview | bytes = b""
        self.gate: Gate | None = None
        self.moved = 0

    def take_pipe(self, pool: PipePool) -> None:
        """Have what is in the pipe in our own hands, and give the pipe back."""
        if (pipe := self.pipe) is None:
            return
        self.pipe, parts = None, [bytes(self.rest)]
        while pipe.held:
            parts.append(os.read(pipe.read_end, pipe.held))
            pipe.held -= len(parts[-1])
        self.rest = b"".join(parts)
        pool.give(pipe)


Tap = Callable[[bool, bytes], None]


class Relay:
    """Joins `program` (the socket in the sandbox) and `remote`; calls `done(relay, error)` once, when both are closed.

    `error` is None, or the OSError of the side that failed. `sent` and `received` count the bytes from and to the
    program. `tap(outbound, data)`, when given, sees every byte, at the price of splice.
    """

    __slots__ = ("far_end", "_reactor", "_pool", "_done", "_out", "_in", "_tap", "_queued", "_released", "__weakref__")
    _buffer = bytearray(SMALL)
    _view = memoryview(_buffer)

    def __init__(
        self,
        reactor: Reactor,
        pool: PipePool,
        program: socket.socket,
        remote: socket.socket,
        done: Callable[[Relay, OSError | None], None],
        tap: Tap | None = None,
    ) -> None:
        self._reactor, self._pool, self._done, self._tap = reactor, pool, done, tap
        self._out, self._in = _Direction(program, remote), _Direction(remote, program)
        self._queued = self._released = False
        self.far_end: socket.socket | None = None
        """The other end of `remote`, where that is one of a pair (AF_UNIX): who has it must see a reset as one."""

    def start(self, program_registered: bool = False, remote_registered: bool = False) -> None:
        """Register both sockets (or take over their registrations) and move what is there.

        From now on both are reset when they are closed, but by an orderly end: should this process be killed, its
        kernel closes them, and neither side may take what it got so far for all there is.
        """
        for sock in (self._out.source, self._in.source):
            _reset(sock)
        for sock, registered, handler in (
            (self._out.source, program_registered, self._program_event),
            (self._in.source, remote_registered, self._remote_event),
        ):
            (self._reactor.replace if registered else self._reactor.register)(sock.fileno(), RELAY_EVENTS, handler)

    @property
    def sent(self) -> int:
        """Bytes from the program to the remote end."""
        return self._out.moved

    @property
    def received(self) -> int:
        """Bytes from the remote end to the program."""
        return self._in.moved

    @property
    def drained(self) -> bool:
        """Whether all that the program sent, its end included, has been handed to the remote socket."""
        return self._out.ended

    @property
    def is_over(self) -> bool:
        """Whether both sockets are closed."""
        return self._released

    @property
    def is_held(self) -> bool:
        """Whether a gate keeps bytes of the program, or their end, from going on."""
        return self._out.gate is not None

    def hold(self, outbound: bool, gate: Gate) -> None:
        """Hold a direction from now on: what has been read already still goes through.

        An urgent byte keeps its place among the others meanwhile and loses its urgency, as RFC 6093 section 6 advises.
        """
        way = self._out if outbound else self._in
        if not way.ended:
            way.gate = gate
            _set_inline(way.source, True)

    def proceed(self) -> None:
        """A gate lets more through, or takes more."""
        if not self._queued and not self._released:
            self._queued = True
            self._reactor.call_soon(self._resume)

    def replace_remote(self, remote: socket.socket, unread: bytes) -> None:
        """Go on with another remote socket in place of the present one, which is closed.

        `unread` is what was written to the present one and never read; what it has sent still comes first.
        """
        out, into = self._out, self._in
        self._reactor.unregister(into.source_fd)
        for way in (out, into):
            way.take_pipe(self._pool)
        out.rest, out.moved = unread + bytes(out.rest), out.moved - len(unread)
        while not into.ended and (early := read_now(into.source)):
            if into.gate is not None:
                into.gate.give(early)
            else:
                into.rest = bytes(into.rest) + early
        if self._released:  # by a filter that was shown bytes just now
            remote.close()
            return
        _reset(into.source, False)
        into.source.close()
        self.far_end = None
        out.sink, out.sink_fd = remote, remote.fileno()
        into.source, into.source_fd = remote, remote.fileno()
        into.has_marks = remote.family != socket.AF_UNIX
        out.ended, out.at_end, out.readable, out.writable = False, False, True, True
        into.readable, into.hung_up = True, False
        _reset(remote)
        self._reactor.register(into.source_fd, RELAY_EVENTS, self._remote_event)
        self.proceed()

    def discard_outbound(self) -> None:
        """Nobody reads what the program still sends; the other direction goes on to its end."""
        self._out.take_pipe(self._pool)
        self._out.gate, self._out.rest, self._out.ended = None, b"", True
        self.proceed()

    def abort_remote(self) -> None:
        """Reset the remote end, close both, and forget them without calling `done`.

        Who has another descriptor of the program's socket goes on with it, and ends it in order.
        """
        if self._in.source.fileno() >= 0:
            self._reset_remote()
            _reset(self._out.source, False)
        self._release()

    def close(self) -> None:
        """Close both ends in order and forget them, without calling `done`; what was sent is still delivered."""
        self._end_in_order()

    def abort(self) -> None:
        """Reset both ends and forget them, without calling `done`."""
        if not self._released:
            _reset(self._out.source)
            self._reset_remote()
        self._release()

    def _reset_remote(self) -> None:
        """A socket pair knows no SO_LINGER; what is closed with something unread in it, is reset (unix(7))."""
        _reset(self._in.source)
        if self.far_end is not None:
            try:
                self.far_end.send(b"!", socket.MSG_DONTWAIT)
            except OSError:
                pass  # its buffer is full, which does as well; or it has said that it sends no more

    def _program_event(self, events: int) -> None:
        self._event(events, self._out, self._in)

    def _remote_event(self, events: int) -> None:
        self._event(events, self._in, self._out)

    def _event(self, events: int, outgoing: _Direction, incoming: _Direction) -> None:
        """Something happened on `outgoing.source`, which is `incoming.sink` too."""
        if events & URGENT:
            outgoing.urgent = True
        if events & (READ | PEER_CLOSED | HANGUP | ERROR | URGENT):
            outgoing.readable = True
        if events & (PEER_CLOSED | HANGUP | ERROR):
            outgoing.hung_up = True
        if events & (WRITE | HANGUP | ERROR):
            incoming.writable = True
        if events & ERROR and outgoing.gate is not None and (number := _pending_error(outgoing.source)):
            self._fail(OSError(number, os.strerror(number)))  # a held direction may not be read for long
            return
        self._turn()

    def _turn(self) -> None:
        """Move what can be moved in both directions, then see whether the flow is over."""
        self._queued = False
        try:
            again = self._move(self._out) | self._move(self._in)
        except OSError as error:
            if not self._released:
                self._fail(error)
            return
        if self._released:  # by a filter that was shown bytes
            return
        if self._out.ended and self._in.ended:
            self._end_in_order()
            self._done(self, None)
        elif again and not self._queued:
            self._queued = True
            self._reactor.call_soon(self._resume)

    def _resume(self) -> None:
        if self._queued:
            self._turn()

    def _move(self, way: _Direction) -> bool:
        """Move bytes one way; True when the turn was used up and more may wait."""
        if way.pipe is not None:
            return self._splice(way)
        if way.rest and not self._send_rest(way):
            return False
        return self._copy(way) if way.gate is None else self._inspect(way, way.gate)

    def _copy(self, way: _Direction) -> bool:
        """Receive and send, until there is so much that splicing is cheaper."""
        while way.readable and not way.ended:
            if way.has_marks and self._at_mark(way):
                if way.rest:
                    return False
                continue
            try:
                count = way.source.recv_into(self._view)
            except BlockingIOError:
                way.readable = False
                return False
            if not count:
                self._end(way)
                return False
            if self._tap is not None:
                self._tap(way is self._out, bytes(self._view[:count]))
            if count < SMALL and not way.urgent and not way.hung_up:
                # The buffer was not filled: the socket is empty, and the next edge tells of more. Not so after the
                # peer's FIN: its edge may have come together with the data, and only reading to the end shows it.
                way.readable = False
            if not self._send(way, self._view[:count]):
                return False
            if count == SMALL and self._tap is None and not way.urgent and (pipe := self._pool.take()):
                way.pipe = pipe
                return self._splice(way)
        return False

    def _inspect(self, way: _Direction, gate: Gate) -> bool:
        """Give the gate what there is, send what it lets through; True when it is open and the rest is as ever."""
        while not way.ended:
            if (data := gate.take()) and not self._send(way, memoryview(data)):
                return False
            if gate.is_open:
                way.gate = None
                _set_inline(way.source, False)
                if way.at_end:
                    self._end(way)
                return not way.ended
            if not way.readable or way.at_end or not gate.room:
                return False
            self._read_for(way, gate)
        return False

    def _read_for(self, way: _Direction, gate: Gate) -> None:
        asked = gate.room
        try:
            data = way.source.recv(asked)
        except BlockingIOError:
            way.readable = way.urgent = False
            return
        if not data:
            way.at_end, way.readable = True, False
            gate.end()
            return
        if len(data) < asked and not way.urgent and not way.hung_up:  # a read ends before an urgent byte
            way.readable = False
        gate.give(data)

    def _send(self, way: _Direction, data: memoryview) -> bool:
        """Send `data`; what does not fit is kept for the next writable edge."""
        try:
            count = way.sink.send(data)
        except BlockingIOError:
            count = 0
        way.moved += count
        if count == len(data):
            return True
        way.rest, way.writable = bytes(data[count:]), False
        return False

    def _send_rest(self, way: _Direction) -> bool:
        return way.writable and self._send_and_clear(way)

    def _send_and_clear(self, way: _Direction) -> bool:
        data, way.rest = memoryview(way.rest), b""
        return self._send(way, data)

    def _splice(self, way: _Direction) -> bool:
        """Move bulk data through the direction's pipe; gives the pipe back when both it and the source are empty."""
        pipe, budget, splice = way.pipe, TURN, os.splice
        assert pipe is not None
        while True:
            if pipe.held < pipe.size and way.readable and budget > 0 and not way.urgent and way.gate is None:
                try:
                    count = splice(
                        way.source_fd, pipe.write_end, pipe.size - pipe.held, flags=SPLICE_F_MOVE | SPLICE_F_NONBLOCK
                    )
                except BlockingIOError:
                    if not pipe.held:
                        way.readable = False
                    count = -1
                if count == 0:  # it has ended for the sink as well only when the pipe is empty
                    way.at_end = True
                    way.readable = False
                elif count > 0:
                    pipe.held += count
                    budget -= count
            if not pipe.held:
                break
            try:
                count = splice(pipe.read_end, way.sink_fd, pipe.held, flags=SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
            except BlockingIOError:
                way.writable = False
                return False
            pipe.held -= count
            way.moved += count
        if way.readable and not way.urgent:
            return True
        way.pipe = None
        self._pool.give(pipe)
        if way.at_end:
            if way.gate is None:
                self._end(way)
                return False
            way.gate.end()  # it was put in place while the last bytes were in the pipe
        return way.urgent or way.gate is not None

    def _end(self, way: _Direction) -> None:
        """The source has ended: pass the half-close on."""
        way.ended, way.readable = True, False
        try:
            way.sink.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise

    def _at_mark(self, way: _Direction) -> bool:
        """Pass an urgent byte on when the reader has come to it (RFC 6093); True when it was passed, or is to come.

        splice(2) stops in front of the mark and would stay there; a plain receive goes over it, and the byte is lost.
        So this is asked before each of those, and not only after an urgent event: tcp_poll looks at urgent data first
        and at the rest later, without the socket's lock, and may tell of a byte as ordinary that came in between.
        """
        mark = int.from_bytes(fcntl.ioctl(way.source_fd, SIOCATMARK, b"\0\0\0\0"), "little")
        if not mark:
            return False
        way.urgent = False
        try:
            byte = way.source.recv(1, socket.MSG_OOB)
        except BlockingIOError:  # announced, and still on its way: its coming is an edge
            way.readable = False
            return True
        except OSError:  # the program reads urgent data in line, or it has gone by
            return False
        try:
            way.moved += way.sink.send(byte, socket.MSG_OOB)
        except BlockingIOError:  # no room: the byte keeps its place and loses its urgency
            way.rest, way.writable = byte, False
        return True

    def _fail(self, error: OSError) -> None:
        """One side broke: reset both, so that neither takes the end for an orderly one."""
        _reset(self._out.source)
        self._reset_remote()
        self._release()
        self._done(self, error)

    def _end_in_order(self) -> None:
        if not self._released:
            for sock in (self._out.source, self._in.source):
                _reset(sock, False)
        self._release()

    def _release(self) -> None:
        self._released = True
        for direction in (self._out, self._in):
            self._reactor.unregister(direction.source_fd)
            if direction.pipe is not None:
                self._pool.give(direction.pipe)
                direction.pipe = None
            direction.source.close()
            direction.ended, direction.rest, direction.gate = True, b"", None
        self._queued = False


def _reset(sock: socket.socket, wanted: bool = True) -> None:
    """Whether the last close of a socket is a reset; nothing where it is closed already."""
    try:
        reset_on_close(sock, wanted)
    except OSError:
        pass


def _set_inline(sock: socket.socket, inline: bool) -> None:
    """Whether an urgent byte is read in its place (a socket that is no TCP socket knows none)."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, inline)
    except OSError:
        pass


def _pending_error(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def read_now(sock: socket.socket) -> bytes:
    """What can be read at once; b"" when there is nothing, or no more."""
    try:
        return sock.recv(1 << 16)
    except OSError:
        return b""
