"""The host's half of the leak check: what a test adds to the machine's network is found, and so is its removal."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.leaks import Snapshot

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif("NETEXT_SHARED_HOST" in os.environ, reason="the host's half of the check is switched off"),
]

NAME = f"leak{os.getpid()}"

CHANGES = {
    "nft tables": (f"nft add table inet {NAME}", f"nft delete table inet {NAME}"),
    "rules, IPv4": ("ip -4 rule add fwmark 0x4e450bad lookup 250", "ip -4 rule del fwmark 0x4e450bad lookup 250"),
    "rules, IPv6": ("ip -6 rule add fwmark 0x4e450bad lookup 250", "ip -6 rule del fwmark 0x4e450bad lookup 250"),
    "routes, IPv4": ("ip -4 route add 192.0.2.77 dev lo table 250", "ip -4 route del 192.0.2.77 dev lo table 250"),
    "addresses": ("ip addr add 192.0.2.78/32 dev lo", "ip addr del 192.0.2.78/32 dev lo"),
    "named namespaces": (f"ip netns add {NAME}", f"ip netns del {NAME}"),
}


@pytest.mark.parametrize("place", CHANGES)
def test_a_change_of_the_host_is_found_both_ways(place: str) -> None:
    make, undo = CHANGES[place]
    clean = Snapshot.take()
    subprocess.run(make.split(), check=True)
    try:
        changed = Snapshot.take()
    finally:
        subprocess.run(undo.split(), check=True)
    assert any(line.startswith(f"{place}: new: ") for line in changed.beyond(clean))
    assert any(line.startswith(f"{place}: gone: ") for line in Snapshot.take().beyond(changed))
