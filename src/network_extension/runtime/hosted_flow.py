"""One flow of a filter, in the filter's own process: what the author sees of it, and what the filter has said."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Any, NamedTuple, Protocol

from ..endpoint import Endpoint
from ..filter_flow import FilterSocketFlow
from ..filter_verdicts import (
    FilterControlVerdict,
    FilterDataVerdict,
    FilterNewFlowVerdict,
    FilterRemediationVerdict,
    FilterVerdict,
    VerdictKind,
)
from ..metadata import FlowMetadata, ProcessInfo
from ..rules import Direction
from . import filter_wire

_TYPES = {socket.IPPROTO_TCP: socket.SOCK_STREAM, socket.IPPROTO_UDP: socket.SOCK_DGRAM}
DECIDING, SHOWN, ENDED = "is being decided", "is being filtered", "has ended"
ALLOWED, DROPPED, ANSWERED = "was allowed for good", "was dropped", "was answered"
FAILED = "was left to the policy after an error"
GOES_ON = (ALLOWED, FAILED)
"""What may live still, though nobody keeps it."""


class Call(NamedTuple):
    """What answers a question: the provider's method, and the type of its verdict."""

    method: str
    verdict: type[FilterVerdict]


CALLS = {
    filter_wire.NEW: Call("handle_new_flow", FilterNewFlowVerdict),
    filter_wire.DATA_OUT: Call("handle_outbound_data", FilterDataVerdict),
    filter_wire.DATA_IN: Call("handle_inbound_data", FilterDataVerdict),
    filter_wire.COMPLETE_OUT: Call("handle_outbound_data_complete", FilterDataVerdict),
    filter_wire.COMPLETE_IN: Call("handle_inbound_data_complete", FilterDataVerdict),
    filter_wire.REMEDIATION: Call("handle_remediation", FilterRemediationVerdict),
    filter_wire.CONTROL: Call("handle_new_flow", FilterControlVerdict),
    filter_wire.CONTROL_REMEDIATION: Call("handle_remediation", FilterControlVerdict),
}


class HostedFlow(FilterSocketFlow):
    """A flow of this process's filter, and what the filter has said about it."""

    __slots__ = ("answered", "number", "paused", "state", "task", "waiting")

    def __init__(self, event: tuple[Any, ...], process: ProcessInfo | None) -> None:
        # Not FilterFlow.__init__: its keywords would cost as much as the rest of a verdict.
        (
            _, self.number, protocol, direction, self.socket_family, local, local_port, remote, remote_port,
            self.remote_hostname, source, self.url, self.interface, _,
        ) = event  # fmt: skip
        self.local_endpoint: Endpoint | None = Endpoint(local, local_port)
        self.remote_endpoint: Endpoint | None = Endpoint(remote, remote_port) if remote else None
        self.direction = _DIRECTIONS[direction]
        self.socket_protocol = protocol
        self.socket_type = _TYPES.get(protocol, socket.SOCK_RAW)
        self.metadata = FlowMetadata(process, source)
        self._identifier = None
        self.state = DECIDING
        self.answered = False
        """handle_new_flow has been answered, with what is neither a pause nor a call for rules."""
        self.paused = 0
        """The question that was answered with a pause."""
        self.task: asyncio.Task[Any] | None = None
        self.waiting: deque[tuple[Any, ...]] | None = None


_DIRECTIONS = {int(direction): direction for direction in Direction}


class FlowsOwner(Protocol):
    """What hosted flows need of the host that they are in."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that callbacks run in."""

    def answer(self, record: bytes) -> None:
        """Send a record to the engine, with others of this turn of the event loop."""

    def log(self, level: str, text: str, error: BaseException | None = None) -> None:
        """One line for the log."""


def kind_text(verdict: FilterVerdict) -> str:
    """What a verdict says, whatever an author has put there."""
    return verdict.kind.value if isinstance(verdict.kind, VerdictKind) else repr(verdict.kind)[:60]


def type_text(value: object) -> str:
    """What a value is, for a message."""
    return "None" if value is None else type(value).__name__
