"""What `netext filter` tells: one line for each flow that is decided, states of providers, a summary. Or JSON Lines."""

from __future__ import annotations

from typing import Any

from ..core.packets import TCP, UDP
from ..rules import Direction
from .flow_log import JSON, LINES, FlowLog, filter_record, size_text
from .host_flow import HostFlow


class HostFilterLog(FlowLog):
    """A `FlowLog` of decisions: the kernel carries the flows, so their ends are seen of few."""

    @property
    def is_quiet(self) -> bool:
        """Whether nobody reads it: then flows need not be described."""
        return self.mode not in (LINES, JSON)

    def decided(self, flow: HostFlow) -> None:
        """What becomes of a flow is final."""
        outcome = flow.outcome = flow.outcome or (flow.filter.outcome if flow.filter is not None else "") or "allowed"
        self.totals[outcome] = self.totals.get(outcome, 0) + 1
        if self.mode == LINES:
            self._line(decision_words(flow, outcome))
        elif self.mode == JSON:
            self._json("decision", **decision_record(flow, outcome))

    def session(self, seconds: float, own: int, overflows: int) -> None:
        """The end of the run."""
        count = sum(self.totals.values())
        if self.mode == JSON:
            self._json("summary", flows=count, outcomes=self.totals, own=own, overflows=overflows)
        elif self.mode == LINES:
            parts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(self.totals.items()))
            flows = f"{count} flow{'s' if count != 1 else ''}"
            self._line(f"{flows}{f' ({parts})' if parts else ''} in {seconds:.1f} s; the rules are taken away")


def decision_words(flow: HostFlow, outcome: str) -> str:
    """A decision for people: program, direction, far side, verdict, by whom, why."""
    process = f"{flow.process.name}[{flow.process.pid}]" if flow.process else "?"
    arrow = "→" if flow.direction is Direction.OUTBOUND else "←"
    there = _outbound_text(flow) if flow.direction is Direction.OUTBOUND else _inbound_text(flow)
    decided = f"{outcome} by {flow.by}" if flow.by else outcome
    source = f" [{flow.name_source}]" if flow.host and flow.name_source not in (None, "dns") else ""
    reason = f"  ({flow.reason})" if flow.reason and flow.by != flow.reason else ""
    shown = (
        f"  ↑{size_text(flow.bytes_out)} ↓{size_text(flow.bytes_in)} shown" if flow.bytes_in + flow.bytes_out else ""
    )
    return f"{process} {arrow} {there} {flow.protocol}{source}  {decided}{shown}{reason}"


def _outbound_text(flow: HostFlow) -> str:
    """The far side by name where it is known, with its port where it has one."""
    return f"{_far_side(flow)}:{flow.remote[1]}" if flow.protocol_number in (TCP, UDP) else _far_side(flow)


def _inbound_text(flow: HostFlow) -> str:
    """The far side, and the port of ours that it comes to."""
    far = _outbound_text(flow)
    return f"{far} to port {flow.local[1]}" if flow.protocol_number in (TCP, UDP) else far


def _far_side(flow: HostFlow) -> str:
    host = flow.remote[0]
    return flow.host or (f"[{host}]" if ":" in host else host)


def decision_record(flow: HostFlow, outcome: str) -> dict[str, Any]:
    """A decision as plain data: the JSON line."""
    return filter_record(flow, outcome) | {
        "shown_out": flow.bytes_out,
        "shown_in": flow.bytes_in,
    }
