"""The transparent proxy provider (NETransparentProxyProvider, reference §2.13)."""

from __future__ import annotations

from typing import ClassVar

from .app_proxy import AppProxyProvider
from .errors import NetworkSettingsError, NetworkSettingsErrorCode
from .network_settings import TransparentProxyNetworkSettings, TunnelNetworkSettings


class TransparentProxyProvider(AppProxyProvider):
    """An app proxy that chooses flows by network rules, and to which False means "not mine": the flow passes
    on untouched.

    `set_tunnel_network_settings` takes TransparentProxyNetworkSettings. Until it is called, and after None,
    all outbound TCP and UDP flows are offered, bar loopback (Apple offers none; docs/differences.md).
    """

    kind: ClassVar[str] = "transparent-proxy"

    def _check_settings(self, settings: TunnelNetworkSettings) -> None:
        if not isinstance(settings, TransparentProxyNetworkSettings):
            raise NetworkSettingsError(
                NetworkSettingsErrorCode.INVALID,
                f"a transparent proxy needs TransparentProxyNetworkSettings, not {type(settings).__name__}",
            )
