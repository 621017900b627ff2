"""A flow as the filter stage has it: what a datapath gives, and what the stage keeps beside."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

from ..metadata import ProcessInfo
from ..rules import Direction
from .intercepted import FlowKey

if TYPE_CHECKING:
    from ..core.filter_decision import FlowFilter
    from ..core.name_sniffing import NameSniffer
    from .filter_link import FilterLink
    from .filter_remediation import StandIn

NEVER = float("inf")


class FilteredFlow(Protocol):
    """One flow, as a datapath gives it. All attributes can be set; ends are as seen from this machine's program."""

    id: int
    key: FlowKey
    """(protocol, source, port, destination, port), as the first packet has them: from who began the flow."""
    protocol_number: int
    direction: Direction
    """OUTBOUND: a program of this machine began it."""
    host: str | None
    name_source: str | None
    url: str | None
    interface: str | None
    process: ProcessInfo | None
    filter: FlowFilter | None
    """The stage's; None before `admit`, and again when the stage has forgotten the flow."""
    by: str
    reason: str

    @property
    def local(self) -> tuple[str, int]:
        """The program's end."""

    @property
    def remote(self) -> tuple[str, int]:
        """The far end."""

    def filter_open(self, hold_inbound: bool, hold_outbound: bool) -> None:
        """Let the first packet go. A direction that is held gives its bytes to `FilterStage.received`, and keeps
        them; (False, False) is final unless `filter_hold` or `filter_drop` comes later."""

    def filter_pass(self, direction: Direction, up_to: int) -> None:
        """Bytes [0, up_to) of the direction may move; from FLOW_BYTES_MAX on it is not held any more."""

    def filter_hold(self, direction: Direction) -> None:
        """A direction that passed freely is held from now on."""

    def filter_drop(self, silent: bool, page: bytes | None) -> None:
        """End the flow: refuse it to the program, or say nothing. `page` is an HTTP response for the program."""

    def filter_counts(self) -> tuple[int, int]:
        """Bytes in and out so far."""


class Access(Enum):
    """How far a request for access has come."""

    NONE = "none"
    ASKED = "handle_remediation is asked"
    NEEDS_RULES = "the control provider is asked"
    ANSWERED = "answered"


class FlowWatch:
    """What the stage keeps of a flow beside its FlowFilter."""

    __slots__ = (
        "access",
        "armed",
        "control",
        "decided",
        "flow",
        "host",
        "key",
        "page",
        "reporter",
        "sniffed",
        "sniffer",
        "stand_in",
        "statistics",
    )

    def __init__(self, flow: FilteredFlow) -> None:
        self.flow = flow
        self.key, self.host = flow.key, flow.host
        """As the filters know them."""
        self.armed = NEVER
        """The earliest time at which the stage looks at this flow."""
        self.decided = False
        self.control: int | None = None
        """The index of the filter that needs rules, while a control provider is asked."""
        self.sniffer: NameSniffer | None = None
        self.sniffed = False
        """Nothing more can be learned of its name."""
        self.stand_in: StandIn | None = None
        self.page: bytes | None = None
        self.access = Access.NONE
        self.reporter: tuple[int, FilterLink] | None = None
        """A control provider that wants reports, and the filter in whose place it answered."""
        self.statistics: dict[int, float] | None = None
        """When the next byte counts are due, by filter."""
