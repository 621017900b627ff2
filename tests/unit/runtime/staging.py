"""Flows without packets: an interceptor that writes down what it is asked to do, and flows to hand to the pipeline."""

from __future__ import annotations

import os
from typing import Any

from network_extension.core.flow_decision import FlowState, ProviderKind, ProviderSlot, ProviderState
from network_extension.rules import Direction
from network_extension.runtime.filtered_view import FilteredView
from network_extension.runtime.intercepted import TCP, InterceptedFlow, Pipeline

PROGRAM, SERVER = b"\xc0\0\0\2", b"\xc0\0\2\1"


class Recorder:
    """Stands in for the TCP or UDP side of the datapath. `told` is the trace: what was asked, and with what."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.told: list[tuple[Any, ...]] = []
        self.fails_with: Exception | None = None

    def _note(self, what: str, flow: InterceptedFlow, *details: Any) -> None:
        self.told.append((what, flow.id, *details))
        if self.fails_with is not None:
            raise self.fails_with

    def pass_through(self, flow: InterceptedFlow) -> None:
        self._note("pass_through", flow)

    def open(self, flow: InterceptedFlow) -> None:
        flow.state = FlowState.OPENING
        self._note("open", flow)

    def opened(self, flow: InterceptedFlow) -> None:
        """The program's connect() has completed."""
        flow.state = FlowState.OPEN
        if flow.link is not None:
            flow.link.opened(flow)

    def attach(self, flow: InterceptedFlow) -> None:
        self._note("attach", flow)

    def relay(self, flow: InterceptedFlow, descriptor: int) -> None:
        os.close(descriptor)
        self._note("relay", flow)

    def close(self, flow: InterceptedFlow, error: int, direction: str) -> None:
        self._note("close", flow, error, direction)

    def request_peer(self, flow: InterceptedFlow, address: tuple[str, int]) -> None:
        self._note("request_peer", flow, address)

    def refuse(self, flow: InterceptedFlow, error: int) -> None:
        self._note("refuse", flow, error)
        self.pipeline.finish(flow, error)

    def orphan(self, flow: InterceptedFlow) -> None:
        self._note("orphan", flow)

    def admitted(self, view: FilteredView, hold_inbound: bool, hold_outbound: bool) -> None:
        self.pipeline.offer(view.flow)

    def let(self, view: FilteredView, direction: Direction, up_to: int) -> None:
        self._note("let", view.flow, direction, up_to)

    def hold(self, view: FilteredView, direction: Direction) -> None:
        self._note("hold", view.flow, direction)

    def drop(self, view: FilteredView, silent: bool, page: bytes | None) -> None:
        self._note("drop", view.flow, silent, page)
        self.pipeline.finish(view.flow, 0)

    def counts(self, view: FilteredView) -> tuple[int, int]:
        return view.flow.bytes_in, view.flow.bytes_out


def tcp_flow(number: int, recorder: Recorder, server: bytes = SERVER, port: int = 80) -> InterceptedFlow:
    return InterceptedFlow(number, (TCP, PROGRAM, 40000 + number, server, port), b"SYN", recorder, 1000.0)


def slot(
    index: int, kind: ProviderKind = ProviderKind.TRANSPARENT_PROXY, state: ProviderState = ProviderState.RUNNING
) -> ProviderSlot:
    made = ProviderSlot(index, f"p{index}", kind)
    made.state = state
    return made
