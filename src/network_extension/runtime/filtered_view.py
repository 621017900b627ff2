"""A sandbox's flow as filters see it, beside what the proxies after them make of it.

A TCP flow has one view. A UDP flow has one for each far end that its program talks to: filters decide about ends of
conversations, and a program may use one socket for many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..rules import Direction
from .described_flow import DescribedFlow

if TYPE_CHECKING:
    from .datagram_gate import DatagramGates
    from .intercepted import FlowKey


class FilteredView(DescribedFlow):
    """A `FilteredFlow` (`runtime/filtered_flow`); its interceptor carries the methods out."""

    __slots__ = (
        "counted",
        "flow",
        "gates",
        "is_admitted",
        "is_strict",
        "silent",
    )

    def __init__(self, flow: Any, number: int, key: FlowKey, direction: Direction = Direction.OUTBOUND) -> None:
        super().__init__(number, key, direction)
        self.flow = flow
        """A TCPInterceptedFlow or a UDPInterceptedFlow."""
        self.is_admitted = self.is_strict = False
        """Strict: what should be shown and cannot be ends the flow (policy closed)."""
        self.silent: bool | None = None
        """How it was dropped; None: it was not."""
        self.gates: DatagramGates | None = None
        """Where its datagrams wait (UDP)."""
        self.counted = (0, 0)
        """Bytes to and from the program when its sockets were closed (UDP)."""

    def filter_open(self, hold_inbound: bool, hold_outbound: bool) -> None:
        """All filters let it begin."""
        self.is_admitted = True
        self._tell_flow()
        self.flow.interceptor.admitted(self, hold_inbound, hold_outbound)

    def filter_pass(self, direction: Direction, up_to: int) -> None:
        """All filters have passed bytes [0, up_to) of a direction."""
        self.flow.interceptor.let(self, direction, up_to)

    def filter_hold(self, direction: Direction) -> None:
        """A filter wants to see what a direction carries from now on."""
        self.flow.interceptor.hold(self, direction)

    def filter_drop(self, silent: bool, page: bytes | None) -> None:
        """A filter ends the flow."""
        self.silent = silent
        self._tell_flow()
        self.flow.interceptor.drop(self, silent, page)

    def filter_counts(self) -> tuple[int, int]:
        """Bytes to and from the program so far."""
        counts: tuple[int, int] = self.flow.interceptor.counts(self)
        return counts

    def cannot_be_shown(self) -> None:
        """A filter wants to see what goes between the program and a provider that has the program's own socket."""
        if self.is_strict:
            self.by, self.reason = (
                "policy",
                "its provider has the program's socket: bytes cannot be shown; policy closed",
            )
            self.filter_drop(False, None)

    def decided(self) -> None:
        """What becomes of it is final."""
        self._tell_flow()

    def _tell_flow(self) -> None:
        """What the log says of the flow: the name that was learned, and who let it begin."""
        flow = self.flow
        if flow.view is self:
            flow.host, flow.name_source = self.host, self.name_source
            flow.admitted_by = f"{self.by}: {self.reason}" if self.reason else self.by
