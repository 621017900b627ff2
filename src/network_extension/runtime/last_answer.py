"""The end of a connected program's flow that a filter dropped: a page and an orderly close, or silence.

A page (an HTTP response) is the answer to the request that the filter has seen. What the program sent behind it is read
and thrown away: a close with unread bytes would be a reset, and take the page with it (RFC 9112 section 9.6).

Silence leaves the connection as it is and answers nothing, until the program closes it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from ..linux.reactor import EDGE, PEER_CLOSED, READ, WRITE, Reactor
from ..linux.sockets import reset_on_close

LONGEST_PAGE, LONGEST_SILENCE = 5.0, 150.0
"""Seconds until the program's socket is closed, whatever it does."""


class LastAnswer:
    """Owns the program's socket from now on; `done(self)` when it is closed. `page` None: silence."""

    __slots__ = ("_done", "_left", "_program", "_reactor", "_timer", "page")

    def __init__(
        self, reactor: Reactor, program: socket.socket, page: bytes | None, done: Callable[[LastAnswer], None]
    ) -> None:
        self._reactor, self._program, self.page, self._done = reactor, program, page, done
        self._left = memoryview(page or b"")
        self._timer = reactor.call_later(LONGEST_SILENCE if page is None else LONGEST_PAGE, self._give_up)
        events = PEER_CLOSED if page is None else READ | WRITE | PEER_CLOSED
        reactor.register(program.fileno(), events | EDGE, self._event)

    def _event(self, events: int) -> None:
        try:
            if self._left:
                self._left = self._left[self._program.send(self._left) :]
                if not self._left:
                    self._program.shutdown(socket.SHUT_WR)
            while self.page is not None and self._program.recv(65536):
                pass
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not self._left:  # the program has closed
            self.close()

    def _give_up(self) -> None:
        reset_on_close(self._program)
        self.close()

    def close(self) -> None:
        """Close the program's socket."""
        self._timer.cancel()
        self._reactor.unregister(self._program.fileno())
        self._program.close()
        self._done(self)
