"""Which datapath carried the traffic? Each measurement has to show it, or the whole run fails.

A benchmark that measures another path than it believes is worse than none: RootlessKit published figures of slirp4netns
as pasta's for years (https://github.com/rootless-containers/rootlesskit/pull/615). What is compared here was written by
three parties: the kernel inside the sandbox (namespace, interface counters), the server (who called it), and the proxy
under test (its own log).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

SLACK = 1.02  # greetings and a tool's own control connection come on top of what the tool counts


class NotProven(Exception):
    """A measurement went another way than it should have; the text says what shows it."""


class Witness(NamedTuple):
    """What `witness.sh` saw beside the command."""

    namespace: str
    """`net:[number]`."""
    interfaces: dict[str, tuple[int, int]]
    """Bytes received and sent, by interface."""


class Traffic(NamedTuple):
    """What a load generator and its server say of one measurement."""

    sent: int
    """Bytes from the program that the server counted."""
    received: int
    """Bytes from the server that the program counted."""
    flows: int
    """Connections, or UDP sockets, at least."""
    seen_from: frozenset[str]
    """The addresses that the server saw as its clients."""
    local: str | None = None
    """The program's own address, as the program saw it."""
    in_flight: int = 0
    """Bytes that were sent and, because the test was over, not counted any more at the other end."""


class Ran(NamedTuple):
    """A command that has ended."""

    status: int
    output: str
    errors: str
    witness: Witness | None

    def records(self, event: str) -> list[dict[str, Any]]:
        """The records of one kind in netext's JSON log."""
        lines = [line for line in self.errors.splitlines() if line.startswith('{"event"')]
        return [record for record in map(json.loads, lines) if record["event"] == event]


def read_witness(text: str) -> Witness | None:
    """What `witness.sh` wrote; None if it never came that far."""
    lines = text.splitlines()
    if not lines:
        return None
    counters = [line.replace(":", " ").split() for line in lines[3:]]
    return Witness(lines[0], {words[0]: (int(words[1]), int(words[9])) for words in counters})


def require(condition: bool, text: str) -> None:
    """Raise NotProven with `text` unless the condition holds."""
    if not condition:
        raise NotProven(text)


def inside(ran: Ran, host_namespace: str) -> Witness:
    """The witness of a command that ran in a network namespace of its own."""
    require(ran.witness is not None, "the command left no witness of where it ran")
    assert ran.witness is not None
    require(ran.witness.namespace != host_namespace, "the command ran in the host's network namespace")
    return ran.witness


def claimed_and_relayed(ran: Ran, traffic: Traffic, host_namespace: str, host_address: str, provider: str) -> str:
    """That `netext run` carried it all: inside the sandbox, claimed by the provider, byte for byte. Says how it is
    known.
    """
    inside(ran, host_namespace)
    flows = ran.records("flow")
    claimed = [flow for flow in flows if flow["outcome"] == "claimed" and flow["by"] == provider]
    require(len(claimed) >= traffic.flows, f"{len(claimed)} flows were claimed by {provider}, not {traffic.flows}")
    require(len(claimed) == len(flows), f"{len(flows) - len(claimed)} flows were not claimed by {provider}")
    for name, key, wanted in (("out", "out", traffic.sent), ("in", "in", traffic.received)):
        logged = sum(flow[key] for flow in claimed)
        bounds = wanted <= logged <= wanted * SLACK + traffic.in_flight + 65536
        require(bounds, f"the log has {logged} bytes {name}, the load generator {wanted}")
    require(traffic.seen_from == {host_address}, f"the server saw {sorted(traffic.seen_from)}, not only {host_address}")
    require(traffic.local != host_address, f"the program had the host's own address {host_address}")
    return (
        f"{len(claimed)} flows claimed by {provider}, bytes as counted by both ends, server saw {host_address}, "
        "program in a namespace of its own"
    )


def through_interface(ran: Ran, traffic: Traffic, host_namespace: str) -> str:
    """That the bytes went over an interface of a namespace of its own, whose other end is the proxy."""
    witness = inside(ran, host_namespace)
    best = max((name for name in witness.interfaces if name != "lo"), key=lambda name: sum(witness.interfaces[name]))
    received, sent = witness.interfaces[best]
    require(sent >= traffic.sent, f"{best} sent {sent} bytes, the load generator {traffic.sent}")
    require(received >= traffic.received, f"{best} received {received} bytes, the load generator {traffic.received}")
    return f"its interface {best} counted {sent} bytes out and {received} in"


def natively(ran: Ran, traffic: Traffic, host_namespace: str, host_address: str) -> str:
    """That nothing was in between."""
    require(ran.witness is not None and ran.witness.namespace == host_namespace, "native ran in another namespace")
    require(traffic.seen_from == {host_address}, f"the server saw {sorted(traffic.seen_from)}")
    require(traffic.local in (None, host_address), f"the program had the address {traffic.local}")
    return f"ran in the host's namespace, server saw {host_address}"
