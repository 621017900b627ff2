"""The rules of a content filter on a host's own network: which packet is asked about, and which flies past.

What is decided is kept in three bits of the connection's mark (`FlowMark`), and the kernel acts by them:

    ALLOWED    accepted soon after the second rule that a packet meets. This is the fast path
    UNDECIDED  a new connection: its packet waits in the queue. One that was there before us is let be
    HOLD_OUT   what this machine sends waits in the queue, packet by packet; HOLD_IN: what it receives; HOLD_BOTH: both
    DROPPED    every packet vanishes
    REFUSED    every packet is answered by a reset or an ICMP error
    OFFERED    was there before us, and is to be asked about: waits in both directions

**The way of a packet that leaves** (chain `output`, before NAT): our bits in its own mark? `returned`. ALLOWED? accept.
To loopback? chain `loopback`. UNDECIDED? `undecided_out`: what belongs to a known connection, what conntrack does not
know, what is always exempt, and what comes from a socket of the kernel (WireGuard, NFS) is accepted; the
rest is queued. Else `decided_out`, by state.

**The way of a packet that arrives** (chain `input`) is the same with the other names. It is met *after* NAT and after
other firewalls' rules, so both chains see the addresses that the socket sees: the replies of a connection that was
redirected on its way out bear the address that the program asked for, and what ufw drops is not asked about.
`input` sees only what is for this machine. No chain is in the hook `forward`: what passes through is not ours.

**How a verdict travels.** The queue's reader may set the packet's mark, not the connection's (that needs
CONFIG_NETFILTER_NETLINK_GLUE_CT), and the connection of a first packet is not in conntrack's table yet. So it puts the
state into our bits of the packet's mark and says REPEAT: the packet meets the chain again from its start, `returned`
copies the bits to the connection's mark, clears them in the packet, and acts. `verdict` makes both values. A packet
that goes on while its flow stays as it is gets a plain ACCEPT: it leaves the chain behind.

**Neighbours.** Only our bits (`mask`) are written; all others keep their values, in packets and connections.
- A program may write whole connection marks (wg-quick: CONNMARK --save-mark) and so erase our bits: the flow is
  UNDECIDED and not new, and passes. Nothing is written to it again, or the other program would not know its own mark.
  A flow under inspection passes uninspected from then on. It was asked about, at its beginning.
- A program may copy whole connection marks into packets (CONNMARK --restore-mark in prerouting): chain `cleanse` takes
  our bits out of them before `input` could take them for a verdict.
- A program may use our bits for itself (SO_MARK), among others: its packets pass unasked and are counted as `foreign`.
  It needs CAP_NET_RAW for that, by which it could send past netfilter anyhow. `mask` chooses other bits. A socket with
  bits of ours alone is one of ours: its packets bear a verdict, as if they came from the queue.
- A program that queues loopback's packets too (-j NFQUEUE without `-o lo`) swallows our refusal of a first packet: the
  kernel queues no packet that shares an unconfirmed connection. The flow times out instead.
- A connection that a conntrack helper expects (FTP data) begins with its master's mark: it is decided with it.

**One connection's addresses for the next.** Conntrack's entry outlives a connection: ten seconds where both sides have
reset it, days where it saw no end. It takes the next connection with the same addresses and ports for the old one,
which would let it pass unasked, whoever began it. So a SYN in a connection that was answered already begins a new flow:
it loses our bits and is asked about (`reopened`). Datagrams have no such beginning: a flow of theirs is the entry.

**Fragments** are put together by conntrack before any of this (defragmentation, priority -400), so a flow has ports.
**Always exempt**: neighbour discovery, MLD, IGMP, DHCP and DHCPv6, ICMP errors about known connections. ARP and EAPOL
are no IP. What conntrack calls invalid or untracked passes: the first is dropped by the receiving stack, the second
needs root's own rule.

**When we die.** Policy open: the table belongs to our socket, the kernel removes it at once; and the queue rules bear
`bypass`, for kernels without the flag `owner` (before Linux 5.12). Policy closed: the table stays (flag `persist`,
Linux 6.9; before that a table without owner), and a queue that nobody reads drops what comes. What is ALLOWED goes on
either way.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import ConfigurationError
from . import nft_expressions as nft
from .flow_marks import MARK_MASK, FlowMark, shift
from .nft_expressions import INPUT, OUTPUT
from .nftables import Chain, Rule, Table, rule

TABLE = "netext_filter"
QUEUE, PACKET_QUEUE, DNS_QUEUE = 20037, 20038, 20039  # 0x4E45, "NE": low numbers are what others take
OUTPUT_PRIORITY, INPUT_PRIORITY, PACKET_PRIORITY = -155, 105, -300
"""mangle - 5; srcnat + 5; raw."""
LOOPBACK_INDEX = 1  # net/core/dev.c: the first device of each network namespace
COUNTERS = ("asked_out", "asked_in", "held_out", "held_in", "dropped", "refused", "kernel", "foreign", "decided")


class FilterRulesetOptions(NamedTuple):
    """What the rules are made of."""

    queue: int = QUEUE
    packet_queue: int | None = None
    """The queue of packet filters, which gets every packet but loopback's and what is always exempt."""
    dns_queue: int | None = None
    """The queue that is shown every answer from port 53 (UDP), loopback's resolvers included. Always open."""
    mask: int = MARK_MASK
    """Three bits in a row of packet and connection marks that nobody else uses."""
    closed: bool = False
    """Policy: whether undecided packets are dropped, and the table stays, when nobody reads the queue."""
    established: str = "keep"
    """What becomes of flows that conntrack knows at the start: "keep" lets them be, "offer" queues their packets."""
    loopback: bool = False
    """Whether flows over the loopback interface are asked about."""
    inbound: bool = True
    """Whether flows that others begin are asked about."""


def check_options(options: FilterRulesetOptions) -> None:
    """Raise ConfigurationError for values that cannot be meant."""
    if not 0 < options.mask <= 0xFFFFFFFF or options.mask >> shift(options.mask) != 7:
        raise ConfigurationError(f"mark mask {options.mask:#x}: three bits in a row are needed, as in {MARK_MASK:#x}")
    queues = [n for n in (options.queue, options.packet_queue, options.dns_queue) if n is not None]
    if len(set(queues)) < len(queues) or not all(0 <= number <= 65535 for number in queues):
        raise ConfigurationError(f"queue numbers {queues}: each from 0 to 65535, and each once")
    if options.established not in ("keep", "offer"):
        raise ConfigurationError(f'established: "keep" or "offer", not {options.established!r}')


# --- chains


def table(
    options: FilterRulesetOptions, *, flags: int = 0, native_queue: bool = True, socket_marks: bool = True
) -> Table:
    """All rules. `table(...).text` is what `nft list` shows of them.

    `native_queue`: by nft's own expression. `socket_marks`: with the rule for programs that use our bits themselves.
    """
    return _Chains(options, native_queue, socket_marks).table(flags)


def loopback_chain(options: FilterRulesetOptions, filtered: bool, native_queue: bool) -> Chain:
    """The chain that `set_loopback` replaces."""
    return _Chains(options, native_queue).loopback(filtered)


class _Chains:
    def __init__(self, options: FilterRulesetOptions, native_queue: bool, socket_marks: bool = True) -> None:
        self.options, self.mask, self.native, self.socket_marks = options, options.mask, native_queue, socket_marks
        self.ask = self.queue(options.queue, bypass=not options.closed)

    def queue(self, number: int, *, bypass: bool) -> nft.Part:
        return nft.queue(number, bypass=bypass, native=self.native)

    def bits(self, state: FlowMark) -> int:
        return state << shift(self.mask)

    def flow_is(self, state: FlowMark) -> nft.Part:
        return nft.ct_mark(self.mask, self.bits(state))

    def has_state(self) -> nft.Part:
        """Not UNDECIDED. A packet without a connection (untracked, invalid) has no mark to look at: no match."""
        return nft.ct_mark(self.mask, 0, negated=True)

    def marked(self) -> nft.Part:
        """Our bits of the packet's mark are not all 0."""
        return nft.meta_mark(self.mask, 0, negated=True)

    def table(self, flags: int) -> Table:
        chains = [self.exempt(), self.refuse(), *self.become(), *self.returned(), *self.decided(), *self.undecided()]
        chains += [
            *self.allowed(),
            self.decided_loopback(),
            self.loopback(self.options.loopback),
            self.output(),
            self.cleanse(),
            self.input(),
        ]
        if self.options.dns_queue is not None:
            chains.append(self.dns(self.options.dns_queue))
        if self.options.packet_queue is not None:
            chains += self.packets(self.options.packet_queue)
        return Table(TABLE, COUNTERS, chains, flags)

    def output(self) -> Chain:
        rules = (
            rule(self.marked(), nft.goto("returned_out")),
            rule(self.flow_is(FlowMark.ALLOWED), nft.goto("allowed_out")),
            rule(nft.interface(OUTPUT, LOOPBACK_INDEX, "lo"), nft.goto("loopback")),
            rule(self.has_state(), nft.goto("decided_out")),
            rule(nft.goto("undecided_out")),
        )
        return Chain("output", rules, OUTPUT, OUTPUT_PRIORITY)

    def input(self) -> Chain:
        rules = (
            rule(self.marked(), nft.goto("returned")),
            rule(self.flow_is(FlowMark.ALLOWED), nft.goto("allowed_in")),
            rule(nft.interface(INPUT, LOOPBACK_INDEX, "lo"), nft.ACCEPT),
            rule(self.has_state(), nft.goto("decided_in")),
            rule(nft.goto("undecided_in")),
        )
        return Chain("input", rules, INPUT, INPUT_PRIORITY, "After NAT. Loopback's packets were met on their way out.")

    def allowed(self) -> list[Chain]:
        """The fast path; a SYN in a connection that was answered before begins another flow."""
        chains = []
        for way, loopback, asks in (
            ("out", rule(nft.interface(OUTPUT, LOOPBACK_INDEX, "lo"), nft.goto("loopback")), self.asks_out()),
            ("in", rule(nft.interface(INPUT, LOOPBACK_INDEX, "lo"), nft.ACCEPT), self.asks_in()),
        ):
            again = rule(nft.tcp_opening(), nft.ct_state("established"), nft.goto(f"reopened_{way}"))
            forget = rule(nft.set_ct_mark(self.mask, 0))
            chains += [
                Chain(f"reopened_{way}", (loopback, forget, rule(asks), rule(nft.ACCEPT))),
                Chain(f"allowed_{way}", (again, rule(nft.ACCEPT))),
            ]
        return chains

    def asks_out(self) -> tuple[nft.Part, ...]:
        """What leaves is asked about: not from sockets of the kernel's own."""
        return nft.user_socket(), nft.count("asked_out"), self.ask

    def asks_in(self) -> tuple[nft.Part, ...]:
        """What arrives is asked about, where that is wanted."""
        return (nft.count("asked_in"), self.ask) if self.options.inbound else (nft.ACCEPT,)

    def cleanse(self) -> Chain:
        rules = (
            rule(nft.meta_mark(self.mask, 0), nft.ACCEPT),
            rule(self.flow_is(FlowMark.UNDECIDED), nft.count("foreign")),
            rule(nft.clear_meta_mark(self.mask)),
        )
        comment = "Just before `input`, and not repeated with it: our bits in a packet are others' doing here."
        return Chain("cleanse", rules, INPUT, INPUT_PRIORITY - 1, comment)

    def returned(self) -> list[Chain]:
        """Packets that come back from the queue, and those of programs that use our bits for themselves."""
        foreign = rule(nft.count("foreign"), nft.ACCEPT)
        rules = [
            rule(nft.meta_mark(self.mask, self.bits(state)), nft.goto(f"become_{state.name.lower()}"))
            for state in _ANSWERS
        ]
        first = [self._others()] if self.socket_marks else []
        return [
            Chain("returned", (*rules, foreign), comment="Back from the queue, with a state."),
            Chain("returned_out", (*first, rule(nft.goto("returned")))),
        ]

    def _others(self) -> Rule:
        """A program's own mark that has other bits besides ours; ours alone are what we send ourselves with a state."""
        beside = nft.socket_mark(~self.mask & 0xFFFFFFFF, 0, negated=True)
        return rule(nft.socket_mark(self.mask, 0, negated=True), beside, nft.count("foreign"), nft.ACCEPT)

    def become(self) -> list[Chain]:
        """One chain for each state: write it to the connection, take it from the packet, act."""
        ends = {
            FlowMark.DROPPED: rule(nft.count("dropped"), nft.DROP),
            FlowMark.REFUSED: rule(nft.goto("refuse")),
        }
        chains = []
        for state in _ANSWERS:
            write = rule(nft.set_ct_mark(self.mask, self.bits(state)))
            clear = rule(nft.clear_meta_mark(self.mask), nft.count("decided"))
            chains.append(Chain(f"become_{state.name.lower()}", (write, clear, ends.get(state, rule(nft.ACCEPT)))))
        return chains

    def decided(self) -> list[Chain]:
        """Flows with a state that is not ALLOWED. What is left at the end is held."""
        return [
            self._decided("decided_out", rule(self.flow_is(FlowMark.HOLD_IN), nft.ACCEPT), "held_out"),
            self._decided("decided_in", rule(self.flow_is(FlowMark.HOLD_OUT), nft.ACCEPT), "held_in"),
        ]

    def _decided(self, name: str, passes: Rule, counter: str) -> Chain:
        return Chain(name, (*self._errors(), passes, *self._ended(), rule(nft.count(counter), self.ask)))

    def _errors(self) -> list[Rule]:
        """ICMP errors: they are of the connection that they are about, and have its state."""
        return [rule(nft.ct_state("related"), nft.protocol(number), nft.ACCEPT) for number in (1, 58)]

    def _ended(self) -> tuple[Rule, Rule]:
        return (
            rule(self.flow_is(FlowMark.DROPPED), nft.count("dropped"), nft.DROP),
            rule(self.flow_is(FlowMark.REFUSED), nft.goto("refuse")),
        )

    def refuse(self) -> Chain:
        """A reset passes: it is our own, or the one that ends the far side's connection."""
        rules = (
            rule(nft.tcp_reset_flag(), nft.ACCEPT),
            rule(nft.count("refused")),
            rule(nft.protocol(nft.TCP), nft.REJECT_TCP),
            rule(nft.protocol(nft.UDP), nft.REJECT_PORT),
            rule(nft.REJECT_PROHIBITED),
        )
        return Chain("refuse", rules)

    def undecided(self) -> list[Chain]:
        """First packets, and those of connections that were there before us."""
        known = (
            rule(nft.ct_state("established"), nft.ACCEPT),
            rule(nft.ct_state("invalid", "untracked"), nft.ACCEPT),
            rule(nft.jump("exempt")),
        )
        kernel = rule(nft.count("kernel"))
        opening = (nft.tcp_opening(), nft.ct_state("established"))
        return [
            Chain("undecided_out", (rule(*opening, self.asks_out()), *known, rule(self.asks_out()), kernel)),
            Chain("undecided_in", (rule(*opening, self.asks_in()), *known, rule(self.asks_in()))),
        ]

    def exempt(self) -> Chain:
        rules = [rule(nft.protocol(2), nft.ACCEPT)]
        rules += [rule(nft.icmpv6_types(*types), nft.ACCEPT) for types in ((130, 137), (143, 143))]
        rules += [rule(nft.udp_ports(ports, ports), nft.ACCEPT) for ports in ((67, 68), (546, 547))]
        rules += self._errors()
        comment = "IGMP, MLD and neighbour discovery, DHCP, DHCPv6, ICMP errors about known connections."
        return Chain("exempt", rules, comment=comment)

    def loopback(self, filtered: bool) -> Chain:
        """Both directions pass here; the beginner's is "out"."""
        comment = "Loopback's packets on their way out; the beginner's direction is the outbound one."
        if not filtered:
            return Chain("loopback", (rule(nft.ACCEPT),), comment=comment)
        rules = (
            rule(self.flow_is(FlowMark.ALLOWED), nft.set_ct_mark(self.mask, 0), nft.count("asked_out"), self.ask),
            rule(self.has_state(), nft.goto("decided_loopback")),
            rule(nft.goto("undecided_out")),
        )
        return Chain("loopback", rules, comment=comment)

    def decided_loopback(self) -> Chain:
        original, reply = nft.ct_direction(nft.ORIGINAL), nft.ct_direction(nft.REPLY)
        rules = (
            *self._errors(),
            rule(original, self.flow_is(FlowMark.HOLD_IN), nft.ACCEPT),
            rule(reply, self.flow_is(FlowMark.HOLD_OUT), nft.ACCEPT),
            *self._ended(),
            rule(nft.count("held_out"), self.ask),
        )
        return Chain("decided_loopback", rules)

    def dns(self, number: int) -> Chain:
        rules = (rule(nft.udp_ports((53, 53)), self.queue(number, bypass=True)),)
        return Chain("dns_answers", rules, INPUT, INPUT_PRIORITY + 1, "Shown, never held for long: names of flows.")

    def packets(self, number: int) -> list[Chain]:
        """Packet filters: both directions, before everything but defragmentation."""
        chains = []
        for name, hook in (("packets_in", INPUT), ("packets_out", OUTPUT)):
            loopback = rule(nft.interface(hook, LOOPBACK_INDEX, "lo"), nft.ACCEPT)
            ask = rule(self.queue(number, bypass=not self.options.closed))
            chains.append(Chain(name, (loopback, rule(nft.jump("exempt")), ask), hook, PACKET_PRIORITY))
        return chains


_ANSWERS = [state for state in FlowMark if state not in (FlowMark.UNDECIDED, FlowMark.OFFERED)]
