"""The provider under test: it claims each flow and lets the engine relay it."""

from network_extension import AppProxyFlow, TransparentProxyProvider


class PassThrough(TransparentProxyProvider):
    """What a proxy is that decides in Python and leaves the bytes to the kernel."""

    async def handle_new_flow(self, flow: AppProxyFlow) -> bool:
        """Reach the far side, then hand both over; `relay` opens the flow."""
        await flow.relay(await flow.connect())
        return True
