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

from ..core.packets import TCP, UDP
from ..rules import Direction
from .described_flow import DescribedFlow

if TYPE_CHECKING:
    from ..linux.nfqueue import HeldPacket
    from .host_holds import Hold
    from .host_page import HostPage
    from .host_verdicts import HostVerdicts

TableKey = tuple[int, bytes, int, bytes, int]


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


class HostFlow(DescribedFlow):
    """A `FilteredFlow` (runtime/filter_stage) of the host datapath, which carries its methods out."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "datapath",
        "holds",
        "mark",
        "outcome",
        "page",
        "sequence",
        "stage",
        "started_at",
        "table_key",
        "waiting",
    )

    def __init__(
        self, datapath: HostVerdicts, number: int, table_key: TableKey, direction: Direction, now: float, sequence: int
    ) -> None:
        protocol = table_key[0]
        key = table_key if protocol in (TCP, UDP) else (protocol, table_key[1], 0, table_key[3], 0)
        super().__init__(number, key, direction)
        self.datapath, self.table_key = datapath, table_key
        self.started_at = now
        self.sequence = sequence
        """The initial sequence number of the TCP side that began; -1 where that is not known."""
        self.stage = Stage.WAITING
        self.mark = 0
        self.waiting: list[Waiting | HeldPacket] = []
        self.holds: dict[Direction, Hold] = {}
        self.outcome = ""
        self.bytes_in = self.bytes_out = 0
        self.page: HostPage | None = None

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
