"""Apple's Network Extension framework for Linux: the public names, each imported when it is first used (PEP
562).
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it; typing itself takes longer to import than all else here
if TYPE_CHECKING:
    from .app_proxy import AppProxyProvider
    from .core.client_hello import ClientHello, NotTLSError, read_client_hello
    from .endpoint import Endpoint
    from .errors import (
        ConfigurationError,
        DatapathError,
        ExitCode,
        FlowError,
        FlowErrorCode,
        NetworkExtensionError,
        NetworkSettingsError,
        NetworkSettingsErrorCode,
        PeerError,
        ProviderError,
    )
    from .flow import AppProxyFlow, RelayResult
    from .metadata import FlowMetadata, ParentProcess, ProcessInfo
    from .network_settings import TransparentProxyNetworkSettings, TunnelNetworkSettings
    from .path import Path, PathStatus
    from .provider import Provider, StopReason
    from .rules import AppRule, Direction, NetworkRule, Protocol
    from .tcp_flow import TCPFlow
    from .transparent_proxy import TransparentProxyProvider
    from .udp_flow import UDPFlow

__version__ = "0.1.0"

_HOME = {
    "AppProxyFlow": "flow",
    "AppProxyProvider": "app_proxy",
    "AppRule": "rules",
    "ClientHello": "core.client_hello",
    "ConfigurationError": "errors",
    "DatapathError": "errors",
    "Direction": "rules",
    "Endpoint": "endpoint",
    "ExitCode": "errors",
    "FlowError": "errors",
    "FlowErrorCode": "errors",
    "FlowMetadata": "metadata",
    "NetworkExtensionError": "errors",
    "NetworkRule": "rules",
    "NetworkSettingsError": "errors",
    "NetworkSettingsErrorCode": "errors",
    "NotTLSError": "core.client_hello",
    "ParentProcess": "metadata",
    "Path": "path",
    "PathStatus": "path",
    "PeerError": "errors",
    "ProcessInfo": "metadata",
    "Protocol": "rules",
    "Provider": "provider",
    "ProviderError": "errors",
    "RelayResult": "flow",
    "StopReason": "provider",
    "TCPFlow": "tcp_flow",
    "TransparentProxyNetworkSettings": "network_settings",
    "TransparentProxyProvider": "transparent_proxy",
    "TunnelNetworkSettings": "network_settings",
    "UDPFlow": "udp_flow",
    "read_client_hello": "core.client_hello",
}

__all__ = [
    "AppProxyFlow",
    "AppProxyProvider",
    "AppRule",
    "ClientHello",
    "ConfigurationError",
    "DatapathError",
    "Direction",
    "Endpoint",
    "ExitCode",
    "FlowError",
    "FlowErrorCode",
    "FlowMetadata",
    "NetworkExtensionError",
    "NetworkRule",
    "NetworkSettingsError",
    "NetworkSettingsErrorCode",
    "NotTLSError",
    "ParentProcess",
    "Path",
    "PathStatus",
    "PeerError",
    "ProcessInfo",
    "Protocol",
    "Provider",
    "ProviderError",
    "RelayResult",
    "StopReason",
    "TCPFlow",
    "TransparentProxyNetworkSettings",
    "TransparentProxyProvider",
    "TunnelNetworkSettings",
    "UDPFlow",
    "read_client_hello",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
