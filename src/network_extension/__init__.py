"""Apple's Network Extension framework for Linux: the public names, each imported when it is first used (PEP
562).
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it; typing itself takes longer to import than all else here
if TYPE_CHECKING:
    from .app_proxy import AppProxyProvider
    from .content_filter import FilterControlProvider, FilterDataProvider, FilterPacketProvider, FilterProvider, Packet
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
    from .filter_flow import FilterFlow, FilterReport, FilterSocketFlow
    from .filter_settings import FilterRule, FilterSettings
    from .filter_verdicts import (
        FLOW_BYTES_MAX,
        FilterAction,
        FilterControlVerdict,
        FilterDataVerdict,
        FilterGrade,
        FilterNewFlowVerdict,
        FilterPacketVerdict,
        FilterRemediationVerdict,
        FilterReportEvent,
        FilterReportFrequency,
        FilterVerdict,
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
    "FLOW_BYTES_MAX": "filter_verdicts",
    "FilterAction": "filter_verdicts",
    "FilterControlProvider": "content_filter",
    "FilterControlVerdict": "filter_verdicts",
    "FilterDataProvider": "content_filter",
    "FilterDataVerdict": "filter_verdicts",
    "FilterFlow": "filter_flow",
    "FilterGrade": "filter_verdicts",
    "FilterNewFlowVerdict": "filter_verdicts",
    "FilterPacketProvider": "content_filter",
    "FilterPacketVerdict": "filter_verdicts",
    "FilterProvider": "content_filter",
    "FilterRemediationVerdict": "filter_verdicts",
    "FilterReport": "filter_flow",
    "FilterReportEvent": "filter_verdicts",
    "FilterReportFrequency": "filter_verdicts",
    "FilterRule": "filter_settings",
    "FilterSettings": "filter_settings",
    "FilterSocketFlow": "filter_flow",
    "FilterVerdict": "filter_verdicts",
    "FlowError": "errors",
    "FlowErrorCode": "errors",
    "FlowMetadata": "metadata",
    "NetworkExtensionError": "errors",
    "NetworkRule": "rules",
    "NetworkSettingsError": "errors",
    "NetworkSettingsErrorCode": "errors",
    "NotTLSError": "core.client_hello",
    "Packet": "content_filter",
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
    "FLOW_BYTES_MAX",
    "AppProxyFlow",
    "AppProxyProvider",
    "AppRule",
    "ClientHello",
    "ConfigurationError",
    "DatapathError",
    "Direction",
    "Endpoint",
    "ExitCode",
    "FilterAction",
    "FilterControlProvider",
    "FilterControlVerdict",
    "FilterDataProvider",
    "FilterDataVerdict",
    "FilterFlow",
    "FilterGrade",
    "FilterNewFlowVerdict",
    "FilterPacketProvider",
    "FilterPacketVerdict",
    "FilterProvider",
    "FilterRemediationVerdict",
    "FilterReport",
    "FilterReportEvent",
    "FilterReportFrequency",
    "FilterRule",
    "FilterSettings",
    "FilterSocketFlow",
    "FilterVerdict",
    "FlowError",
    "FlowErrorCode",
    "FlowMetadata",
    "NetworkExtensionError",
    "NetworkRule",
    "NetworkSettingsError",
    "NetworkSettingsErrorCode",
    "NotTLSError",
    "Packet",
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
