"""Tools to test providers with, in three stages that run the same provider file.

In memory, without privilege and without waiting: `FilterHarness`, `PacketHarness`, `ProxyHarness`, on a `FakeClock`.
Around one command, without root: the fixture `netext_run`. As root, between two hosts: `NetLab`, the fixture `netlab`.

The fixtures come with the pytest plugin, which is loaded as soon as the package is installed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..core.flow_description import parse_flow
    from .clock import FakeClock, FakeTimeLoop
    from .filter_harness import FilterHarness
    from .filtered_talk import FilteredTalk
    from .memory_flow import FarSide, ProgramSide
    from .netlab import Host, NetLab
    from .packet_harness import PacketHarness
    from .proxy_harness import ProxyHarness
    from .transcript import Transcript

_HOME = {
    "FakeClock": "network_extension.testing.clock",
    "FakeTimeLoop": "network_extension.testing.clock",
    "FarSide": "network_extension.testing.memory_flow",
    "FilterHarness": "network_extension.testing.filter_harness",
    "FilteredTalk": "network_extension.testing.filtered_talk",
    "Host": "network_extension.testing.netlab",
    "NetLab": "network_extension.testing.netlab",
    "PacketHarness": "network_extension.testing.packet_harness",
    "ProgramSide": "network_extension.testing.memory_flow",
    "ProxyHarness": "network_extension.testing.proxy_harness",
    "Transcript": "network_extension.testing.transcript",
    "parse_flow": "network_extension.core.flow_description",
}

__all__ = [
    "FakeClock",
    "FakeTimeLoop",
    "FarSide",
    "FilterHarness",
    "FilteredTalk",
    "Host",
    "NetLab",
    "PacketHarness",
    "ProgramSide",
    "ProxyHarness",
    "Transcript",
    "parse_flow",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return list(__all__)
