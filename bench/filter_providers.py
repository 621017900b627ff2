"""The content filters under test: each decides every flow in Python."""

from network_extension import (
    FLOW_BYTES_MAX,
    FilterAction,
    FilterDataProvider,
    FilterDataVerdict,
    FilterFlow,
    FilterNewFlowVerdict,
    FilterRule,
    FilterSettings,
    NetworkRule,
    NotTLSError,
    read_client_hello,
)

PAUSED_PORT = 9999


class AllowAll(FilterDataProvider):
    """One verdict for each flow; flows to `PAUSED_PORT` wait for ten seconds."""

    def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
        """Allow, and be done with it."""
        if flow.remote_endpoint is not None and flow.remote_endpoint.port == PAUSED_PORT:
            self.resuming = self.spawn(self._resume_later(flow))
            return FilterNewFlowVerdict.pause()
        return FilterNewFlowVerdict.allow()

    async def _resume_later(self, flow: FilterFlow) -> None:
        import asyncio

        await asyncio.sleep(10)
        self.resume_flow(flow, FilterNewFlowVerdict.allow())


class ReadsHello(FilterDataProvider):
    """Opens each flow, reads the ClientHello, and allows what has a server name."""

    def handle_new_flow(self, flow: FilterFlow) -> FilterNewFlowVerdict:
        """Ask for the first bytes that the program sends."""
        return FilterNewFlowVerdict.filter_data(filter_outbound=True, peek_outbound=FLOW_BYTES_MAX)

    def handle_outbound_data(self, flow: FilterFlow, offset: int, data: bytes) -> FilterDataVerdict:
        """Decide by the name in it."""
        try:
            hello = read_client_hello(data)
        except NotTLSError:
            return FilterDataVerdict.drop()
        if hello is None:
            return FilterDataVerdict.data(0, len(data) + 1)
        return FilterDataVerdict.allow() if hello.server_name else FilterDataVerdict.drop()


class ThousandRules(AllowAll):
    """As `AllowAll`, after a thousand rules of which none matches."""

    async def start_filter(self) -> None:
        """Put them into force."""
        rules = [
            FilterRule(NetworkRule.destination_network(f"10.{n >> 8}.{n & 255}.0/24", port=1000 + n), FilterAction.DROP)
            for n in range(1000)
        ]
        await self.apply_settings(FilterSettings(rules))
