"""What is known of a flow that filters decide about: the part of a `FilteredFlow` that no datapath does otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.packets import address_text, protocol_name
from ..metadata import ProcessInfo
from ..rules import Direction

if TYPE_CHECKING:
    from ..core.filter_decision import FlowFilter
    from .intercepted import FlowKey


class DescribedFlow:
    """A flow by its key, and what has been learned of it. See `FilteredFlow` for the attributes."""

    __slots__ = (
        "by",
        "direction",
        "filter",
        "host",
        "id",
        "interface",
        "key",
        "name_source",
        "process",
        "protocol_number",
        "reason",
        "url",
    )

    def __init__(self, number: int, key: FlowKey, direction: Direction) -> None:
        self.id, self.key, self.direction, self.protocol_number = number, key, direction, key[0]
        self.host: str | None = None
        self.name_source: str | None = None
        self.url: str | None = None
        self.interface: str | None = None
        self.process: ProcessInfo | None = None
        self.filter: FlowFilter | None = None
        self.by = self.reason = ""

    @property
    def protocol(self) -> str:
        """`tcp`, `udp`, `icmp`, or the number of another protocol."""
        return protocol_name(self.protocol_number)

    @property
    def local(self) -> tuple[str, int]:
        """This machine's, or the program's, end."""
        _, source, port, destination, other = self.key
        if self.direction is Direction.OUTBOUND:
            return address_text(source), port
        return address_text(destination), other

    @property
    def remote(self) -> tuple[str, int]:
        """The far end."""
        _, source, port, destination, other = self.key
        if self.direction is Direction.OUTBOUND:
            return address_text(destination), other
        return address_text(source), port
