"""Allows each flow, wants no report of it, and drops it half a second later."""

from __future__ import annotations

import asyncio

from network_extension import FilterDataProvider, FilterDataVerdict, FilterFlow, FilterNewFlowVerdict


class Recalling(FilterDataProvider):
    """Keeps the flow, as an author may for as long as he likes."""

    def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
        asyncio.get_running_loop().call_later(0.5, self.update_flow, flow, FilterDataVerdict.drop())
        return FilterNewFlowVerdict.allow()
