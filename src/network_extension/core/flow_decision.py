"""Who gets a flow, and what becomes of it: the decision that every intercepted flow goes through.

A flow is *held*: its first packet waits in the kernel. It is shown to the providers in their order. Each of them can
claim it, decline it, or be in trouble; after the last one comes the pass-through, which connects from the host as if
nothing had been there.

States of a flow, and what moves it:

    HELD ──offer──▶ OFFERED ──claim──▶ CLAIMED ──open──▶ OPENING ──accepted──▶ OPEN ──▶ CLOSED
                      │  ▲                │                 │
                      │  └──next provider─┤ (trouble, open) └──the program went away──▶ CLOSED
                      └──decline, trouble─┘
           any state before OPEN ──refuse──▶ CLOSED (the program sees an errno)

Rule 1: what `False` means depends on the kind of provider and on nothing else: a transparent proxy passes the flow on,
an app proxy refuses it (reference §3.3).

Rule 2: trouble is not an answer. What a flow gets when its provider is starting, slow, raising, dead or stopping is
the policy's business, by the table `ON_TROUBLE`, which docs/policy.md shows to users:

- *open*: as if the provider had declined as a transparent proxy: on to the next, at last the pass-through;
- *closed*: the flow is refused.

Without an explicit policy a transparent proxy is open (it is one of several, and optional by its nature) and an app
proxy is closed (its flows are meant to take its way or none), which is what Apple's system does with each.

This file has no clock and no sockets: deadlines arrive as the event SLOW.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from ..errors import FlowErrorCode
from ..rules import Protocol
from .rule_matching import TransparentProxyMatcher


class FlowState(Enum):
    """Where a flow is on its way."""

    HELD = "held"
    OFFERED = "offered"
    CLAIMED = "claimed"
    OPENING = "opening"
    OPEN = "open"
    CLOSED = "closed"


class ProviderKind(Enum):
    """What `False` means."""

    APP_PROXY = "app-proxy"
    TRANSPARENT_PROXY = "transparent-proxy"


class ProviderState(Enum):
    """What the supervisor says about a provider's process."""

    STARTING = "starting"
    RUNNING = "running"
    DEAD = "dead"
    STOPPING = "stopping"


class Policy(Enum):
    """What a provider's flows get when it is in trouble."""

    OPEN = "open"
    CLOSED = "closed"


class Trouble(Enum):
    """Why a provider gave no answer; the value is what log and explanation say."""

    STARTING = "is still starting"
    SLOW = "did not decide in time"
    RAISED = "raised an exception"
    DEAD = "has died"
    STOPPING = "is stopping"
    QUEUE_FULL = "could not be asked, the packet queue being full"


class Action(Enum):
    """What to do with a flow next."""

    OFFER = "offer"
    PASS_THROUGH = "pass-through"
    REFUSE = "refuse"


ON_TROUBLE: dict[tuple[Trouble, Policy], Action] = {
    (Trouble.STARTING, Policy.OPEN): Action.PASS_THROUGH,
    (Trouble.STARTING, Policy.CLOSED): Action.REFUSE,
    (Trouble.SLOW, Policy.OPEN): Action.PASS_THROUGH,
    (Trouble.SLOW, Policy.CLOSED): Action.REFUSE,
    (Trouble.RAISED, Policy.OPEN): Action.PASS_THROUGH,
    (Trouble.RAISED, Policy.CLOSED): Action.REFUSE,
    (Trouble.DEAD, Policy.OPEN): Action.PASS_THROUGH,
    (Trouble.DEAD, Policy.CLOSED): Action.REFUSE,
    (Trouble.STOPPING, Policy.OPEN): Action.PASS_THROUGH,
    (Trouble.STOPPING, Policy.CLOSED): Action.REFUSE,
    (Trouble.QUEUE_FULL, Policy.OPEN): Action.PASS_THROUGH,
    (Trouble.QUEUE_FULL, Policy.CLOSED): Action.REFUSE,
}
"""PASS_THROUGH here means on to the next provider, and past the last one out into the network."""

TROUBLE_OF_STATE = {
    ProviderState.STARTING: Trouble.STARTING,
    ProviderState.DEAD: Trouble.DEAD,
    ProviderState.STOPPING: Trouble.STOPPING,
}

PASS_THROUGH_NAME = "pass-through"


class ProviderSlot:
    """One provider's place in the order, and what is known about it."""

    __slots__ = ("index", "kind", "matcher", "name", "state", "_policy")

    def __init__(
        self, index: int, name: str, kind: ProviderKind = ProviderKind.TRANSPARENT_PROXY, policy: Policy | None = None
    ) -> None:
        self.index, self.name, self.kind, self._policy = index, name, kind, policy
        self.state = ProviderState.STARTING
        self.matcher: TransparentProxyMatcher | None = None
        """Rules of a transparent proxy; None: all that is not loopback."""

    @property
    def policy(self) -> Policy:
        """The explicit policy, or the one that goes with the kind."""
        if self._policy is not None:
            return self._policy
        return Policy.OPEN if self.kind is ProviderKind.TRANSPARENT_PROXY else Policy.CLOSED

    def wants(self, protocol: Protocol, address: bytes, port: int, host: str | None, loopback: bool) -> bool:
        """Whether a flow is this provider's business at all. App proxies are bound to programs, not to networks."""
        if self.matcher is None:
            return not loopback
        return self.matcher.claims(protocol, address, port, host, loopback)[0]


class Step(NamedTuple):
    """The next thing to do with a flow, and the words for log and explanation."""

    action: Action
    slot: ProviderSlot | None
    error: int
    """FlowErrorCode for REFUSE, else 0."""
    by: str
    """Who decided."""
    reason: str


class Decision:
    """One flow's way along the providers. `advance` says what to do first; each event says what to do next."""

    __slots__ = ("_slots", "_facts", "position", "_notes")

    def __init__(
        self,
        slots: Sequence[ProviderSlot],
        protocol: Protocol,
        address: bytes,
        port: int,
        host: str | None,
        loopback: bool,
    ) -> None:
        self._slots, self._facts = slots, (protocol, address, port, host, loopback)
        self.position = -1
        self._notes = ""

    def advance(self) -> Step:
        """On to the next provider whose business the flow is."""
        slots = self._slots
        while True:
            self.position += 1
            if self.position >= len(slots):
                return Step(Action.PASS_THROUGH, None, 0, PASS_THROUGH_NAME, self._notes or "no provider claimed it")
            slot = slots[self.position]
            if not slot.wants(*self._facts):
                continue
            if slot.state is ProviderState.RUNNING:
                return Step(Action.OFFER, slot, 0, slot.name, "")
            if (step := self._in_trouble(slot, TROUBLE_OF_STATE[slot.state], "")) is not None:
                return step

    def declined(self) -> Step:
        """The provider asked last returned False."""
        slot = self._slots[self.position]
        if slot.kind is ProviderKind.APP_PROXY:
            return Step(Action.REFUSE, slot, FlowErrorCode.REFUSED, slot.name, "handle_new_flow returned False")
        return self.advance()

    def troubled(self, trouble: Trouble, detail: str = "") -> Step:
        """The provider asked last is in trouble: what its policy says."""
        return self._in_trouble(self._slots[self.position], trouble, detail) or self.advance()

    def _in_trouble(self, slot: ProviderSlot, trouble: Trouble, detail: str) -> Step | None:
        """A refusal, or None when the policy lets the flow go on."""
        words = f"{slot.name} {trouble.value}{f' ({detail})' if detail else ''}; policy {slot.policy.value}"
        if ON_TROUBLE[trouble, slot.policy] is Action.REFUSE:
            return Step(Action.REFUSE, slot, FlowErrorCode.REFUSED, "policy", words)
        self._notes = words
        return None
