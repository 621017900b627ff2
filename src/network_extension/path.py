"""The best way out to the network at one moment (NWPath): what a provider's own connections would use."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple


class PathStatus(IntEnum):
    """NWPathStatus."""

    INVALID = 0
    SATISFIED = 1
    """There is a way out."""
    UNSATISFIED = 2
    SATISFIABLE = 3
    """A way out would be made when asked for (dial on demand)."""


class Path(NamedTuple):
    """A network path. Two paths are equal if all that is known of them is (Apple's isEqualToPath)."""

    status: PathStatus = PathStatus.INVALID
    interfaces: tuple[str, ...] = ()
    """Names of the interfaces in use, the default route's first."""
    supports_ipv4: bool = False
    supports_ipv6: bool = False
    dns_servers: tuple[str, ...] = ()
    is_expensive: bool = False
    """Metered: cellular, or a phone's hotspot."""
    is_constrained: bool = False
    """The user asked to save data."""

    def to_dict(self) -> dict[str, Any]:
        """The path as plain data, the body of the wire's PATH message."""
        return {
            "status": self.status.name.lower(),
            "interfaces": list(self.interfaces),
            "ipv4": self.supports_ipv4,
            "ipv6": self.supports_ipv6,
            "dns": list(self.dns_servers),
            "expensive": self.is_expensive,
            "constrained": self.is_constrained,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Path:
        """The path that `to_dict` described; what is absent or of a wrong type stays at its default."""
        name = data.get("status")
        known = isinstance(name, str) and name.upper() in PathStatus.__members__
        return cls(
            PathStatus[str(name).upper()] if known else PathStatus.INVALID,
            _texts(data.get("interfaces")),
            data.get("ipv4") is True,
            data.get("ipv6") is True,
            _texts(data.get("dns")),
            data.get("expensive") is True,
            data.get("constrained") is True,
        )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
