"""What a datapath has to do next with a flow under filters: the output of `core/filter_decision`, as values.

`slot` is the index of the filter that is asked or told (`FilterSlot.index`).
"""

from __future__ import annotations

from typing import NamedTuple

from ..filter_verdicts import FilterAction, FilterReportEvent
from ..rules import Direction


class AskNewFlow(NamedTuple):
    """Show the new flow to a filter."""

    slot: int


class AskData(NamedTuple):
    """Show bytes to a filter: `data` begins `offset` bytes from the start of the direction's stream."""

    slot: int
    direction: Direction
    offset: int
    data: bytes


class AskComplete(NamedTuple):
    """Tell a filter that a direction has ended, and get its last verdict."""

    slot: int
    direction: Direction


class AskControl(NamedTuple):
    """The filter has no rules for this: ask the control provider in its place."""

    slot: int


class Open(NamedTuple):
    """All filters have answered the new flow: let it begin. With neither direction held it is finally allowed."""

    hold_inbound: bool
    hold_outbound: bool


class Pass(NamedTuple):
    """Bytes [0, up_to) of a direction may move; FLOW_BYTES_MAX: the direction is not held any more.

    `up_to` never falls, but may be repeated, when bytes have come that were passed before they came.
    """

    direction: Direction
    up_to: int


class Hold(NamedTuple):
    """A direction that passed freely is held from now on."""

    direction: Direction


class Drop(NamedTuple):
    """End the whole flow."""

    silent: bool
    by: str
    reason: str


class Remediate(NamedTuple):
    """Answer the program's request with a block page, and end the flow."""

    slot: int
    by: str
    url_map_key: str
    button_text_map_key: str


class AppendString(NamedTuple):
    """Answer the program's request with a redirect to its URL and a string, and end the flow."""

    slot: int
    by: str
    map_key: str


class Report(NamedTuple):
    """Tell a filter what became of the flow; byte counts are the datapath's to add."""

    slot: int
    action: FilterAction
    event: FilterReportEvent


Step = AskNewFlow | AskData | AskComplete | AskControl | Open | Pass | Hold | Drop | Remediate | AppendString | Report
