"""The rules of `netext filter` while they are in force: put there, checked with a packet of our own, and taken away."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

from ..core.flow_decision import Policy
from ..core.packets import UDP
from ..errors import DatapathError
from ..linux import conntrack
from ..linux.filter_ruleset import (
    DNS_QUEUE,
    PACKET_QUEUE,
    QUEUE,
    TABLE,
    FilterRuleset,
    FilterRulesetOptions,
    remove_leftover,
)
from ..linux.nfqueue import Queue, open_socket
from .host_description import FlowDescriber
from .host_filter_options import HostEngineOptions

QUEUE_BUFFER = 32 << 20  # bytes
WHOLE_PACKETS = 0xFFFF
PROBE_PORT, PROBE_TIMEOUT = 9, 3.0
"""The self-check: a datagram to the discard port of loopback must come through the queue."""


class HostRules:
    """Installed by `install`; `wants_loopback` says whether any filter has rules for loopback."""

    def __init__(
        self, options: HostEngineOptions, describer: FlowDescriber, wants_loopback: Callable[[], bool]
    ) -> None:
        self._options, self._describer, self._wants_loopback = options, describer, wants_loopback
        self._ruleset: FilterRuleset | None = None
        self._loopback = False
        self._accounting_was_off = False
        self.has_packet_queue = False

    @property
    def _closed(self) -> bool:
        return self._options.policy is Policy.CLOSED

    def install(self, *, packets: bool) -> None:
        """Put the rules into force, in place of those that are; with a queue of all packets if `packets`."""
        if self._ruleset is not None:
            self._ruleset.abandon()  # with policy closed the table stays until the next one replaces it
        elif conntrack.accounting() is False:  # byte counts, for reports
            self._accounting_was_off = conntrack.set_accounting(True)
        options = self._options
        self.has_packet_queue, self._loopback = packets, self._wants_loopback()
        self._ruleset = FilterRuleset(
            FilterRulesetOptions(
                queue=QUEUE,
                packet_queue=PACKET_QUEUE if packets else None,
                dns_queue=DNS_QUEUE,
                mask=options.mark_mask,
                closed=self._closed,
                established=options.established,
                loopback=self._loopback,
                inbound=options.inbound,
            )
        )
        self._ruleset.install()

    def follow_loopback(self) -> None:
        """Filters change their rules at any time."""
        if self._ruleset is not None and (wanted := self._wants_loopback()) is not self._loopback:
            self._loopback = wanted
            self._ruleset.set_loopback(wanted)

    def check(self, queue: Queue, serve: Callable[[], None]) -> str:
        """One datagram of ours to ourselves must come out of the queue, where nobody waits for it.

        `serve` deals with what is in `queue`. Raises DatapathError when none comes; the words for the log otherwise.
        """
        assert self._ruleset is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", 0))
                self._ruleset.set_loopback(True)
                self._describer.probe = (UDP, b"\x7f\0\0\1", probe.getsockname()[1], b"\x7f\0\0\1", PROBE_PORT)
                probe.sendto(b"netext", ("127.0.0.1", PROBE_PORT))
                self._await_probe(queue, serve)
            except OSError as error:
                return f"not checked ({error.strerror} on loopback)"
            finally:
                seen, self._describer.probe = self._describer.probe is None, None
                self._ruleset.set_loopback(self._loopback)
        if not seen:
            raise DatapathError(
                "no traffic comes out of the packet queue: other rules accept or take packets before it",
                object=f"nft table inet {TABLE}",
                next_step="next step: nft list ruleset, and netext doctor",
            )
        return "self-check passed"

    def _await_probe(self, queue: Queue, serve: Callable[[], None]) -> None:
        deadline = time.monotonic() + PROBE_TIMEOUT
        while self._describer.probe is not None and (left := deadline - time.monotonic()) > 0:
            select.select([queue], [], [], left)
            serve()

    def text(self, programs: str, checked: str) -> str:
        """What is in force, in one line."""
        assert self._ruleset is not None
        options = self._options
        return (
            f"filter in force: table inet {TABLE}, {'nft' if self._ruleset.native_queue else 'xt'} queue {QUEUE},"
            f" marks {options.mark_mask:#x}, policy {options.policy.value}, flows {'in and ' * options.inbound}out,"
            f" established ones {'kept' if options.established == 'keep' else 'offered'},"
            f" programs by {programs}, {checked}"
        )

    def foreign(self) -> int:
        """Packets so far that bore marks of somebody else in our bits."""
        return self._ruleset.counters().get("foreign", 0) if self._ruleset is not None else 0

    def remove(self) -> bool:
        """Take the rules away, whatever the policy; whether there were any."""
        if self._ruleset is None:
            return False
        self._ruleset.close()
        self._ruleset = None
        if self._accounting_was_off:
            conntrack.set_accounting(False)
        return True

    def abandon(self) -> None:
        """Let go as a death does: with policy closed what is undecided is dropped from now on."""
        if self._ruleset is not None:
            self._ruleset.abandon()
            self._ruleset = None


def open_queue(number: int, maximum: int, *, fail_open: bool) -> Queue:
    """A queue of whole packets, with room for floods."""
    return Queue(
        open_socket(), number, copy_range=WHOLE_PACKETS, maximum=maximum, fail_open=fail_open,
        force_buffer=QUEUE_BUFFER,
    )  # fmt: skip


def remove_leftovers(mark_mask: int) -> str:
    """Take away the table that a filter with policy closed left behind; in words, what was there."""
    if remove_leftover(mask=mark_mask):
        return f"table inet {TABLE} is taken away; the network is as before"
    return f"there is no table inet {TABLE}: nothing to take away"
