"""The app proxy provider (NEAppProxyProvider, reference §2.12): it is handed flows, not packets."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, ClassVar, final

from .endpoint import Endpoint
from .errors import NetworkSettingsError, NetworkSettingsErrorCode
from .flow import AppProxyFlow
from .network_settings import TransparentProxyNetworkSettings, TunnelNetworkSettings
from .provider import Provider, StopReason
from .udp_flow import UDPFlow


class AppProxyProvider(Provider):
    """Takes over the flows of programs. Override `handle_new_flow`, at least."""

    kind: ClassVar[str] = "app-proxy"

    async def start_proxy(self, options: Mapping[str, Any] | None) -> None:
        """Get ready; flows come after it has returned. An exception means that the provider cannot run."""

    async def stop_proxy(self, reason: StopReason) -> None:
        """The session ends. Work that `spawn` started is awaited after this, both within the grace period."""

    @final
    def cancel_proxy_with_error(self, error: BaseException | None = None) -> None:
        """End the session from the inside; with None it ends as if it was stopped."""
        if self._stage is not None:
            self._stage.cancel(error)

    def handle_new_flow(self, flow: AppProxyFlow) -> bool | Awaitable[bool]:
        """Decide over one flow, at once or as a coroutine: other flows never wait for it.

        True keeps the flow; so does `flow.connect()`, at once. False refuses it: the program sees
        ECONNREFUSED (from a transparent proxy, False passes it on instead). The program's connect() waits
        until `flow.open()`, and a decision must be there within the runtime's deadline. An exception closes
        the flow with the error that it maps to.
        """
        return False

    def handle_new_udp_flow(self, flow: UDPFlow, initial_remote_endpoint: Endpoint) -> bool | Awaitable[bool]:
        """The same for UDP, with the first destination that the program sent to. By default,
        `handle_new_flow`.
        """
        return self.handle_new_flow(flow)

    @final
    async def set_tunnel_network_settings(self, settings: TunnelNetworkSettings | None) -> None:
        """Put settings into force in place of the present ones; None clears them. They hold for flows that
        start later.

        Raises NetworkSettingsError (networkSettingsInvalid, which names the rule and why, or …Failed).
        """
        if settings is not None:
            self._check_settings(settings)
            settings.validate()
        if self._stage is None:
            raise NetworkSettingsError(NetworkSettingsErrorCode.FAILED, "the provider is not running")
        self._stage.apply_settings(settings)

    def _check_settings(self, settings: TunnelNetworkSettings) -> None:
        if isinstance(settings, TransparentProxyNetworkSettings):
            raise NetworkSettingsError(
                NetworkSettingsErrorCode.INVALID,
                "network rules are for transparent proxies; derive from TransparentProxyProvider to use them",
            )
