"""Putting a content filter's rules into a host's own network, and taking them away. The rules: `filter_chains`."""

from __future__ import annotations

import errno
import socket
from functools import partial

from ..errors import DatapathError, ExitCode
from . import conntrack, nftables
from .filter_chains import (
    COUNTERS,
    DNS_QUEUE,
    PACKET_QUEUE,
    QUEUE,
    TABLE,
    FilterRulesetOptions,
    check_options,
    loopback_chain,
    table,
)
from .flow_marks import MARK_MASK, MARK_SHIFT, FlowMark, shift, verdict
from .nftables import OWNER, PERSIST

__all__ = [
    "COUNTERS",
    "DNS_QUEUE",
    "MARK_MASK",
    "MARK_SHIFT",
    "PACKET_QUEUE",
    "QUEUE",
    "TABLE",
    "FilterRuleset",
    "FilterRulesetOptions",
    "FlowMark",
    "clear_marks",
    "remove_leftover",
    "shift",
    "verdict",
]


class FilterRuleset:
    """The rules in the network namespace of `sock`, or else of the calling thread."""

    def __init__(self, options: FilterRulesetOptions, sock: socket.socket | None = None) -> None:
        check_options(options)
        self.options, self._nft = options, nftables.NftSocket(sock)
        self._loopback, self._installed = options.loopback, False
        self.native_queue, self.owned, self.socket_marks = True, True, True
        """How it was done: by nft's own queue expression; with a table that belongs to our socket; with a look at
        sockets' own marks.
        """

    def install(self) -> None:
        """Put all rules into force at once, in place of what an earlier run left.

        Raises DatapathError (NftError) that names the object which the kernel refused; nothing is in force then.
        """
        leftover = self._nft.chains(TABLE)
        if leftover and self.options.closed:
            self._take_over(leftover)
        else:
            self._sweep(only_undecided=False)
            self._put([nftables.delete_table(TABLE)] if leftover else [])
        self._installed = True
        if self.options.established == "offer":
            self._sweep(only_undecided=True)

    def _take_over(self, chains: list[str]) -> None:
        """Without a moment in which neither the old rules nor the new ones hold."""
        try:
            self._put([], chains)
        except nftables.NftError:  # a table that was made in another way
            self._put([nftables.delete_table(TABLE)])

    def _sweep(self, *, only_undecided: bool) -> None:
        """Give the connections that are there their state: OFFERED, or none.

        Before the rules are in force nobody reads our bits. Afterwards only what slipped in between is still UNDECIDED.
        Connections on which somebody else keeps a mark are not offered: whoever compares whole marks would miss it.
        """
        mask, offer = self.options.mask, self.options.established == "offer"
        offered = FlowMark.OFFERED << shift(mask) if offer else 0
        table = conntrack.ConntrackTable(self._nft.socket)
        everything = table.entries(0 if offer else mask)
        entries = [entry for entry in everything if entry.zone == 0 or entry.mark & mask]
        if only_undecided:
            entries = [entry for entry in entries if not entry.mark & mask and entry.is_answered]
        changes = [(entry, offered if not entry.mark & ~mask else 0) for entry in entries]
        table.set_marks([(entry, bits) for entry, bits in changes if entry.mark & mask != bits], mask)

    def _put(self, before: list[nftables.Change], chains: list[str] | None = None) -> None:
        """Try the best way first; what the kernel refuses says which part to do in the second-best way."""
        while True:
            try:
                make = nftables.table_changes if chains is None else partial(nftables.refill_changes, chains=chains)
                self._nft.apply(before + make(self._table()))
                return
            except nftables.NftError as error:
                self._second_best(error)

    def _table(self) -> nftables.Table:
        flags = (OWNER | PERSIST if self.options.closed else OWNER) if self.owned else 0
        options = self.options._replace(loopback=self._loopback)
        return table(options, flags=flags, native_queue=self.native_queue, socket_marks=self.socket_marks)

    def text(self) -> str:
        """The rules in nft's words, with comments."""
        return self._table().text

    def _second_best(self, error: nftables.NftError) -> None:
        """What to do without, after a refusal; raises what the caller is to know if there is nothing left."""
        refused = error.change
        if refused is not None and refused.queues and error.errno == errno.ENOENT:
            if not self.native_queue:
                raise _without_queue(error) from error
            self.native_queue = False
        elif (
            refused is not None and self.socket_marks and "socket mark" in refused.what and error.errno != errno.ENOMEM
        ):
            self.socket_marks = False  # CONFIG_NFT_SOCKET
        elif refused is not None and refused.kind == nftables.NEWTABLE and self.owned and error.errno in _NO_SUCH_FLAG:
            self.owned = False
        else:
            raise _somebody_elses(error) from error

    def set_loopback(self, filtered: bool) -> None:
        """Whether flows over loopback are asked about from now on. Connections that are there stay as they are."""
        if self._installed and filtered != self._loopback:
            chain = loopback_chain(self.options, filtered, self.native_queue)
            rules = [nftables.add_rule(TABLE, chain.name, rule) for rule in chain.rules]
            self._nft.apply([nftables.flush_chain(TABLE, chain.name), *rules])
        self._loopback = filtered

    def verdict(self, packet_mark: int, state: FlowMark) -> tuple[int, int | None]:
        """See the function `verdict`."""
        return verdict(packet_mark, state, self.options.mask)

    def counters(self) -> dict[str, int]:
        """Packets by the way they took, of `COUNTERS`; ALLOWED ones are not counted, it would cost them time."""
        return {name: packets for name, (packets, _) in self._nft.counters(TABLE).items()}

    def close(self) -> None:
        """Take the rules away, with policy closed as well, and our bits from the connections that are there."""
        try:
            if self._installed:
                self._installed = False
                self._nft.apply([nftables.delete_table(TABLE)])
                clear_marks(self._nft.socket, self.options.mask)
        finally:
            self._nft.close()

    def abandon(self) -> None:
        """Let go without taking anything away, as a death does: with policy open the kernel removes the table."""
        self._installed = False
        self._nft.close()


_NO_SUCH_FLAG = (errno.EOPNOTSUPP, errno.EINVAL)


def _without_queue(error: nftables.NftError) -> DatapathError:
    step = "next step: sudo modprobe nft_queue nfnetlink_queue xt_NFQUEUE nft_compat"
    what = f"{error.object}: this kernel queues no packets"
    return DatapathError(what, errno=error.errno, object=error.object, next_step=step, exit_code=ExitCode.UNAVAILABLE)


def _somebody_elses(error: nftables.NftError) -> DatapathError:
    """A table that is there and refuses us has an owner; any other refusal is told as it is."""
    if error.errno != errno.EPERM or error.change is None:
        return error
    what = f"nft table inet {TABLE} belongs to a filter that is running"
    return DatapathError(what, errno=error.errno, object=f"nft table inet {TABLE}", next_step="next step: end that one")


def remove_leftover(sock: socket.socket | None = None, mask: int = MARK_MASK) -> bool:
    """Remove the rules that an earlier run with policy closed left in force; whether there were any.

    Raises DatapathError when they belong to a filter that still runs.
    """
    nft = nftables.NftSocket(sock)
    try:
        if not nft.chains(TABLE):
            return False
        try:
            nft.apply([nftables.delete_table(TABLE)])
        except nftables.NftError as error:
            raise _somebody_elses(error) from error
        clear_marks(nft.socket, mask)
        return True
    finally:
        nft.close()


def clear_marks(sock: socket.socket, mask: int = MARK_MASK) -> None:
    """Take our bits from all connections."""
    table = conntrack.ConntrackTable(sock)
    table.set_marks([(entry, 0) for entry in table.entries(mask)], mask)
