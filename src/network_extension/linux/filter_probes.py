"""What this kernel lets root do for a filter in front of the whole machine (`netext filter`). Like `linux/probes`."""

from __future__ import annotations

import os

from ..errors import DatapathError
from . import namespaces
from .probes import SANDBOX, Finding, Probe, State


def machine_rules() -> Finding:
    """The whole ruleset, in a network namespace of one's own; the kernel takes it away with the socket."""
    from .filter_ruleset import FilterRuleset, FilterRulesetOptions

    ruleset = FilterRuleset(FilterRulesetOptions())
    ruleset.install()
    queue = "nft's own queue" if ruleset.native_queue else "the queue target of iptables in a table of its own"
    if ruleset.owned:
        return Finding(State.OK, f"flows are held by {queue}; the rules vanish with the process that made them")
    means = f"flows are held by {queue}; this kernel does not take the rules away when their process is killed"
    return Finding(State.DEGRADED, means, "after a kill -9: sudo netext filter --remove, or a kernel from 5.12 on")


def owners_of_flows() -> Finding:
    """The programs that note who owns a socket. Loading them is root's alone."""
    if os.geteuid():
        return Finding(State.UNKNOWN, "only root can try it, and only netext filter needs it", "sudo netext doctor")
    from .attribution import Attribution

    attribution = Attribution()
    try:
        if attribution.is_exact:
            return Finding(State.OK, "eBPF notes which program a flow belongs to, also if that has ended by then")
        what, _, step = attribution.how.partition("; next step: ")
        means = f"{what}; programs that end at once are not found"
        return Finding(
            State.DEGRADED, means, step or "Linux 5.14 or newer with BTF, and root with CAP_BPF and CAP_PERFMON"
        )
    finally:
        attribution.close()


def connection_marks() -> Finding:
    """Connection tracking, whose marks make a decided flow free."""
    from . import conntrack

    try:
        conntrack.open_socket().close()
    except OSError as error:
        raise DatapathError(f"no connection tracking over netlink: {os.strerror(error.errno or 0)}") from None
    if conntrack.accounting() is None:
        return Finding(
            State.DEGRADED, "flows can be marked, but their bytes are not counted", "CONFIG_NF_CONNTRACK_ACCT"
        )
    return Finding(State.OK, "decided flows are marked, and never asked about again")


FILTER_PROBES = (
    Probe(
        "machine filter: rules",
        machine_rules,
        SANDBOX,
        needed=False,
        without="netext filter cannot work here",
        next_step="sudo modprobe nf_tables nft_ct nft_reject_inet nfnetlink_queue nft_queue nf_conntrack",
    ),
    Probe(
        "machine filter: marks",
        connection_marks,
        namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNET,
        needed=False,
        without="netext filter cannot work here",
        next_step="sudo modprobe nf_conntrack nf_conntrack_netlink (CONFIG_NF_CT_NETLINK)",
    ),
    Probe(
        "machine filter: owners",
        owners_of_flows,
        needed=False,
        without="netext filter finds programs by /proc alone",
        next_step="Linux 5.14 or newer with BTF (CONFIG_DEBUG_INFO_BTF, CONFIG_CGROUP_BPF)",
    ),
)
