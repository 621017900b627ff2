"""What the TCP side of the datapath does for content filters; without them none of it runs.

A flow whose bytes filters want to see gets gates in its relay (`runtime/inspected_stream`). Where its provider reads
and writes in Python, the engine stands between: the provider has one end of a socket pair, and a relay with the gates
joins the other end and the program. A flow that a filter drops is refused, reset, answered by a page, or left in
silence.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import TYPE_CHECKING

from ..core.flow_decision import FlowState
from ..errors import FlowErrorCode
from ..linux.reactor import Reactor
from ..linux.sockets import reset_on_close
from ..linux.splice import Relay, read_now
from ..rules import Direction
from .intercepted import Pipeline

if TYPE_CHECKING:
    from .filter_stage import FilterStage
    from .filtered_view import FilteredView
    from .inspected_stream import InspectedStream
    from .last_answer import LastAnswer
    from .tcp_interceptor import TCPInterceptedFlow

_TCP_INFO_SENT = struct.Struct("=QQ")
MOST_ENDINGS = 256
"""Programs' sockets that are kept for a page or for silence after a filter has dropped their flows."""


class TCPFiltering:
    """A part of `TCPInterceptor`."""

    _reactor: Reactor
    _pipeline: Pipeline
    _attached: set[TCPInterceptedFlow]

    def __init__(self) -> None:
        self.stage: FilterStage | None = None
        """Who is shown bytes; None without filters."""
        self._endings: set[LastAnswer] = set()

    def refuse(self, flow: TCPInterceptedFlow, error: int) -> None:
        """Give the program its errno."""
        raise NotImplementedError

    def close(self, flow: TCPInterceptedFlow, error: int, direction: str) -> None:
        """End the flow for its provider."""
        raise NotImplementedError

    def _start_relay(self, flow: TCPInterceptedFlow, remote_registered: bool) -> None:
        raise NotImplementedError

    def _finish(self, flow: TCPInterceptedFlow, error: int) -> None:
        raise NotImplementedError

    def admitted(self, view: FilteredView, hold_inbound: bool, hold_outbound: bool) -> None:
        """The filters let it begin; where they want to see bytes, these are held once it is open."""
        flow: TCPInterceptedFlow = view.flow
        if flow.state is not FlowState.HELD:
            return
        if hold_inbound or hold_outbound:
            self._inspect(view, hold_inbound, hold_outbound)
        self._pipeline.offer(flow)

    def _inspect(self, view: FilteredView, hold_inbound: bool, hold_outbound: bool) -> InspectedStream:
        from .inspected_stream import InspectedStream

        assert self.stage is not None
        view.flow.inspection = made = InspectedStream(self.stage, view, hold_inbound, hold_outbound)
        return made

    def let(self, view: FilteredView, direction: Direction, up_to: int) -> None:
        """Filters have passed bytes."""
        inspection: InspectedStream | None = view.flow.inspection
        if inspection is not None:
            inspection.let(direction, up_to)

    def hold(self, view: FilteredView, direction: Direction) -> None:
        """Filters want to see bytes that went freely: not possible where a provider has the program's own socket."""
        flow: TCPInterceptedFlow = view.flow
        if flow.state is FlowState.CLOSED:
            return
        if flow.attached and flow.provider_end is None:
            view.cannot_be_shown()
            return
        if flow.inspection is None:
            inspection = self._inspect(view, False, False)
            if flow.relay is not None:
                inspection.join(flow.relay)
        assert flow.inspection is not None
        flow.inspection.hold(direction)

    def counts(self, view: FilteredView) -> tuple[int, int]:
        """Bytes to and from the program."""
        flow: TCPInterceptedFlow = view.flow
        if flow.relay is not None:
            return flow.relay.received, flow.relay.sent
        if flow.program is not None:
            sent, received = byte_counts(flow.program)
            return received, sent
        return flow.bytes_in, flow.bytes_out

    def drop(self, view: FilteredView, silent: bool, page: bytes | None) -> None:
        """A filter ends the flow: by a refusal while it is not open, else by a reset, a page, or by silence."""
        flow: TCPInterceptedFlow = view.flow
        if flow.state is FlowState.CLOSED:
            return
        flow.outcome, flow.by, flow.reason = "remediated" if page else "dropped", view.by, view.reason
        opened = flow.state is FlowState.OPEN
        if opened or flow.state is FlowState.OPENING:
            flow.ending = silent, page
            if opened:
                self._end_connected(flow, silent, page)
            return
        self._pipeline.take_back(flow)
        self.refuse(flow, FlowErrorCode.TIMED_OUT if silent else FlowErrorCode.REFUSED)

    def _end_connected(self, flow: TCPInterceptedFlow, silent: bool, page: bytes | None) -> None:
        """The far end is reset, and so is the program, unless it gets a page or shall hear nothing."""
        program, remote, relay = flow.program, flow.remote_socket, flow.relay
        assert program is not None
        if relay is None and remote is not None:
            self._reactor.unregister(remote.fileno())
            reset_on_close(remote)
        if page is None and not silent:
            if relay is not None:
                relay.abort()
            else:
                reset_on_close(program)
        else:
            from .last_answer import LastAnswer

            if len(self._endings) >= MOST_ENDINGS:
                next(iter(self._endings)).close()
            kept = program.dup()
            if relay is not None:
                relay.abort_remote()
            self._endings.add(LastAnswer(self._reactor, kept, page, self._endings.discard))
            if page is not None:
                flow.bytes_in += len(page)
        self._finish(flow, FlowErrorCode.ABORTED)

    def _interpose(self, flow: TCPInterceptedFlow, inspection: InspectedStream) -> None:
        """Hand out one end of a socket pair; between the other end and the program, filters look."""
        assert flow.link is not None
        try:
            ours, flow.provider_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            flow.reason = f"{os.strerror(error.errno or 0)}; raise it: ulimit -n"
            self.close(flow, FlowErrorCode.INTERNAL, "both")
            return
        ours.setblocking(False)
        flow.provider_end.setblocking(False)
        flow.remote_socket = ours
        self._start_relay(flow, False)
        if flow.relay is not None:
            flow.relay.far_end = flow.provider_end
        self._attached.add(flow)
        flow.link.attached(flow, flow.provider_end.fileno())

    def _relay_after_interposing(
        self, flow: TCPInterceptedFlow, relay: Relay, given: socket.socket, remote: socket.socket
    ) -> None:
        """The provider has read what it wanted; what it has not read comes first."""
        unread = b"".join(iter(lambda: read_now(given), b""))
        given.close()
        remote.setblocking(False)
        relay.replace_remote(remote, unread)
        flow.remote_socket, flow.provider_end, flow.attached = remote, None, False
        self._attached.discard(flow)

    def _close_interposed(self, flow: TCPInterceptedFlow, relay: Relay, error: int, direction: str) -> None:
        """What the provider has written still goes through the filters, unless it ends the flow with an error."""
        if error:
            relay.abort()
            self._finish(flow, error)
            return
        try:
            if direction != "read" and flow.remote_socket is not None:
                flow.remote_socket.shutdown(socket.SHUT_RD)
            if direction != "write" and flow.program is not None:
                flow.program.shutdown(socket.SHUT_RD)
        except OSError:
            pass
        if direction == "both":
            flow.is_closing = True
            if relay.is_over:
                self._finish(flow, 0)
            else:
                relay.discard_outbound()


_AFTER_FIN = (6, 7, 8, 9, 11)  # TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, CLOSING: the FIN was counted as a byte


def byte_counts(program: socket.socket) -> tuple[int, int]:
    """Bytes from and to the program by TCP_INFO (linux/tcp.h: bytes_received at 128, bytes_sent at 200, Linux 4.19)."""
    try:
        info = program.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except OSError:
        return 0, 0
    if len(info) < 216:
        return 0, 0
    sent, again = _TCP_INFO_SENT.unpack_from(info, 200)
    received = int.from_bytes(info[128:136], sys.byteorder)
    return max(0, received - (info[0] in _AFTER_FIN)), sent - again
