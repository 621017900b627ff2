"""One flow of the host datapath: what is known of it, and where it is on its way.

    WAITING ──open──▶ HELD ──all directions pass──▶ FREE
       │                │                             │ (only while filters want reports)
       └──drop──▶ ENDED ◀──drop, end of the flow──────┘

WAITING: its first packets wait in the kernel, which knows nothing of the flow yet. HELD: the kernel carries it, but for
the directions that are held; their packets come to us. FREE: the kernel carries it alone.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from ..core.packets import TCP, UDP, FlowKey, address_text
from ..metadata import ProcessInfo
from ..rules import Direction

if TYPE_CHECKING:
    from ..core.filter_decision import FlowFilter
    from .host_holds import Hold
    from .host_page import HostPage
    from .host_verdicts import HostVerdicts

TableKey = tuple[int, bytes, int, bytes, int]
_NAMES = {TCP: "tcp", UDP: "udp", 1: "icmp", 58: "icmp6", 132: "sctp"}


class Stage(Enum):
    """Where a flow is on its way."""

    WAITING = "waiting"
    HELD = "held"
    FREE = "free"
    ENDED = "ended"


class Waiting(NamedTuple):
    """A packet without a verdict."""

    id: int
    mark: int
    """Its packet mark, of which all but our bits must stay."""
    payload: bytes


class HostFlow:
    """A `FilteredFlow` (runtime/filter_stage) of the host datapath, which carries its methods out."""

    __slots__ = (
        "by",
        "bytes_in",
        "bytes_out",
        "datapath",
        "direction",
        "filter",
        "holds",
        "host",
        "id",
        "interface",
        "key",
        "mark",
        "name_source",
        "outcome",
        "page",
        "process",
        "protocol_number",
        "reason",
        "sequence",
        "stage",
        "started_at",
        "table_key",
        "url",
        "waiting",
    )

    def __init__(
        self, datapath: HostVerdicts, number: int, table_key: TableKey, direction: Direction, now: float, sequence: int
    ) -> None:
        self.datapath, self.id, self.table_key, self.direction = datapath, number, table_key, direction
        protocol = self.protocol_number = table_key[0]
        self.key: FlowKey = table_key if protocol in (TCP, UDP) else (protocol, table_key[1], 0, table_key[3], 0)
        self.started_at = now
        self.sequence = sequence
        """The initial sequence number of the TCP side that began; -1 where that is not known."""
        self.stage = Stage.WAITING
        self.mark = 0
        self.waiting: list[Waiting] = []
        self.holds: dict[Direction, Hold] = {}
        self.host: str | None = None
        self.name_source: str | None = None
        self.url: str | None = None
        self.interface: str | None = None
        self.process: ProcessInfo | None = None
        self.filter: FlowFilter | None = None
        self.by = self.reason = self.outcome = ""
        self.bytes_in = self.bytes_out = 0
        self.page: HostPage | None = None

    @property
    def protocol(self) -> str:
        """`tcp`, `udp`, `icmp`, or the number of another protocol."""
        return _NAMES.get(self.protocol_number) or f"protocol {self.protocol_number}"

    @property
    def local(self) -> tuple[str, int]:
        """This machine's end."""
        _, source, port, destination, other = self.key
        return (address_text(source), port) if self.direction is Direction.OUTBOUND else (
            address_text(destination), other
        )  # fmt: skip

    @property
    def remote(self) -> tuple[str, int]:
        """The far end."""
        _, source, port, destination, other = self.key
        return (address_text(destination), other) if self.direction is Direction.OUTBOUND else (
            address_text(source), port
        )  # fmt: skip

    def filter_open(self, hold_inbound: bool, hold_outbound: bool) -> None:
        """Let the first packet go."""
        self.datapath.open(self, hold_inbound, hold_outbound)

    def filter_pass(self, direction: Direction, up_to: int) -> None:
        """Let bytes of a direction go."""
        self.datapath.pass_bytes(self, direction, up_to)

    def filter_hold(self, direction: Direction) -> None:
        """Hold a direction that passed."""
        self.datapath.hold(self, direction)

    def filter_drop(self, silent: bool, page: bytes | None) -> None:
        """End the flow."""
        self.datapath.drop(self, silent, page)

    def filter_counts(self) -> tuple[int, int]:
        """Bytes in and out, as the kernel counts them."""
        return self.datapath.counts(self)


def reversed_key(key: TableKey) -> TableKey:
    """The key of the packets that answer."""
    return key[0], key[3], key[4], key[1], key[2]
