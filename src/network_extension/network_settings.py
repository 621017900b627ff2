"""What a provider hands to `set_tunnel_network_settings`. Value objects: copied, compared and sent between
processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .errors import ConfigurationError, NetworkSettingsError, NetworkSettingsErrorCode
from .rules import NetworkRule

MAX_RULES = 100_000  # a limit for what arrives from another process, far above what anybody writes


class TunnelNetworkSettings:
    """NETunnelNetworkSettings: the remote address that is shown to the user, and DNS and proxy settings.

    A transparent proxy's DNS and proxy settings are ignored: its flows use the system's (reference §2.13).
    """

    __slots__ = ("dns_settings", "proxy_settings", "tunnel_remote_address")

    def __init__(
        self,
        tunnel_remote_address: str = "127.0.0.1",
        *,
        dns_settings: object = None,
        proxy_settings: object = None,
    ) -> None:
        self.tunnel_remote_address = tunnel_remote_address
        self.dns_settings = dns_settings
        self.proxy_settings = proxy_settings

    def validate(self) -> None:
        """Raises NetworkSettingsError for what cannot be applied."""

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if type(other) is type(self) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain data."""
        return {"remote": self.tunnel_remote_address}


class TransparentProxyNetworkSettings(TunnelNetworkSettings):
    """NETransparentProxyNetworkSettings: the flows that a transparent proxy is asked about.

    A flow is offered when a rule of `included_network_rules` matches it and none of `excluded_network_rules`
    does, whatever their order. New settings hold for flows that start after them.
    """

    __slots__ = ("excluded_network_rules", "included_network_rules")

    def __init__(
        self,
        included_network_rules: Iterable[NetworkRule] | None = None,
        excluded_network_rules: Iterable[NetworkRule] | None = None,
        *,
        tunnel_remote_address: str = "127.0.0.1",
    ) -> None:
        super().__init__(tunnel_remote_address)
        self.included_network_rules = tuple(included_network_rules or ())
        self.excluded_network_rules = tuple(excluded_network_rules or ())

    def validate(self) -> None:
        """Check each rule against Apple's restrictions. Raises NetworkSettingsError that names the rule and
        why.
        """
        for name in ("included_network_rules", "excluded_network_rules"):
            for index, rule in enumerate(getattr(self, name)):
                if not isinstance(rule, NetworkRule):
                    kind = type(rule).__name__
                    raise NetworkSettingsError(
                        NetworkSettingsErrorCode.INVALID,
                        f"{name}[{index}]: a NetworkRule is needed, not {kind}",
                    )
                rule.validate_for_transparent_proxy(f"{name}[{index}]")

    def to_dict(self) -> dict[str, Any]:
        """{"included": [rule, …], "excluded": [rule, …]}, the rules as `NetworkRule.to_dict` gives them."""
        return {
            "included": [rule.to_dict() for rule in self.included_network_rules],
            "excluded": [rule.to_dict() for rule in self.excluded_network_rules],
        }

    @classmethod
    def from_dict(cls, data: object, place: str = "settings") -> TransparentProxyNetworkSettings:
        """The settings that `to_dict` described. Raises ConfigurationError, which says where in `data`."""
        if not isinstance(data, Mapping):
            raise ConfigurationError(f"{place}: an object is needed, not {type(data).__name__}")
        included, excluded = data.get("included", ()), data.get("excluded", ())
        return cls(_rules(included, f"{place}.included"), _rules(excluded, f"{place}.excluded"))

    def __repr__(self) -> str:
        included, excluded = len(self.included_network_rules), len(self.excluded_network_rules)
        return f"<{type(self).__name__} included {included}, excluded {excluded}>"


def _rules(data: object, place: str) -> list[NetworkRule]:
    if not isinstance(data, (list, tuple)):
        raise ConfigurationError(f"{place}: a list is needed, not {type(data).__name__}")
    if len(data) > MAX_RULES:
        raise ConfigurationError(f"{place}: {len(data)} rules are more than {MAX_RULES}")
    return [NetworkRule.from_dict(item, f"{place}[{index}]") for index, item in enumerate(data)]
