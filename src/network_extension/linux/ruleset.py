"""The nftables ruleset of a sandbox: which packets are held, and how an opened flow reaches its listener.

A packet that a program sends to the outside takes this way (hooks in order):

1. `divert` (output, type route): marked NEW and routed again; the mark's routing rule makes every destination local,
   so the packet goes to the loopback interface instead of the outside.
2. `hold` (prerouting): packets of flows that are already open pass. A TCP SYN, a datagram without a socket of ours, or
   an echo request goes to NFQUEUE and waits there.
3. The verdict gives it the mark OPEN, or drops it.
4. `deliver` (prerouting, after the queue): tproxy hands an opened SYN to our listener. Datagrams need no help: the
   engine has made a connected socket for them by then. Later packets find their socket by address, without any rule.

A socket for datagrams bears the mark UNREADY until it is connected, and READY from then on: only a READY one makes a
datagram pass (`join_datagram_socket` in linux/sockets.py).

What goes to 127.0.0.1 or ::1 is held only if no socket in the sandbox would take it: the host's loopback services stay
reachable, and the sandbox's own come first.

`queue` is native where the kernel has the nft expression, else iptables-nft (or legacy) supplies the one NFQUEUE rule;
the probe is the attempt, unless the kernel's own configuration says that it would fail. No rule uses conntrack, which
keeps it switched off in the namespace: it costs a tenth of the throughput.

A run with a packet filter has a second queue (`install_packet_queue`): packets as the program sends them, before they
are diverted, and as it gets them.
"""

from __future__ import annotations

import os
import select
import signal
from functools import partial

from ..errors import DatapathError, ExitCode

TABLE = "netext"
MARK_NEW, MARK_HELD, MARK_OPEN = 0x4E450001, 0x4E450002, 0x4E450003
MARK_UNREADY, MARK_READY = 0x4E450004, 0x4E450005
MARK_PACKET = 0x4E450006
QUEUE_NUMBER, PACKET_QUEUE = 0, 1
TOOLS_PATH = "NETEXT_TOOLS_PATH"
"""The environment variable that, if it is set, names the only folders in which tools are looked for (`A:B`)."""
TOOL_TIMEOUT = 20.0

_SCRIPT = """
table inet {table} {{
  chain divert {{
    type route hook output priority mangle; policy accept;
    oifname != "{interface}" accept
    ip6 daddr ff00::/8 meta l4proto udp reject with icmpx admin-prohibited
    meta l4proto {{ tcp, udp }} meta mark set {new} accept
    icmp type echo-request meta mark set {new} accept
    icmpv6 type echo-request meta mark set {new} accept
    meta l4proto {{ icmp, ipv6-icmp, igmp }} drop
    reject with icmpx admin-prohibited
  }}
  chain hold {{
    type filter hook prerouting priority mangle - 1; policy accept;
    meta mark {new} goto outside
    iifname != "lo" accept
    ip daddr 127.0.0.0/8 meta l4proto {{ tcp, udp }} goto loopback
    ip6 daddr ::1 meta l4proto {{ tcp, udp }} goto loopback
  }}
  chain outside {{
    meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn accept
    meta l4proto udp socket mark {ready} accept
    meta mark set {held}{queue}
  }}
  chain loopback {{
    meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn accept
    meta l4proto udp socket mark {unready} meta mark set {held}{queue}
    meta mark {held} accept
    socket wildcard 0 accept
    socket wildcard 1 accept
    meta mark set {held}{queue}
  }}
  chain deliver {{
    type filter hook prerouting priority mangle + 1; policy accept;
    meta mark {open} meta nfproto ipv4 meta l4proto tcp tproxy ip to {listener4}
    meta mark {open} meta nfproto ipv6 meta l4proto tcp tproxy ip6 to {listener6}
    {overflow}
  }}
}}
"""

_IPTABLES_SCRIPT = """*mangle
-A PREROUTING -m mark --mark {held:#x} -j NFQUEUE --queue-num {number}
COMMIT
"""


_PACKET_SCRIPT = """
table inet {table} {{
  chain packets_out {{
    type filter hook output priority raw - 1; policy accept;
    oifname "{interface}" {action}
  }}
  chain packets_in {{
    type filter hook input priority raw; policy accept;
    iifname "lo" ip daddr {program4} {action}
    iifname "lo" ip6 daddr {program6} {action}
  }}
}}
"""

_IPTABLES_PACKET_SCRIPT = """*raw
-A OUTPUT -m mark --mark {mark:#x} -j NFQUEUE --queue-num {number}{bypass}
COMMIT
*mangle
-A INPUT -m mark --mark {mark:#x} -j NFQUEUE --queue-num {number}{bypass}
COMMIT
"""


_OVERFLOW_OPEN = """meta mark {held} meta nfproto ipv4 meta l4proto tcp tproxy ip to {listener4}
    meta mark {held} meta nfproto ipv6 meta l4proto tcp tproxy ip6 to {listener6}
    meta mark {held} meta l4proto != tcp drop"""


def script(interface: str, listener4: str, listener6: str, *, native_queue: bool, overflow_open: bool = False) -> str:
    """The ruleset as nft text. With `overflow_open` a SYN that did not fit the queue reaches the listener undecided."""
    queue = f" queue num {QUEUE_NUMBER}" if native_queue else ""
    overflow = _OVERFLOW_OPEN if overflow_open else "meta mark {held} drop"
    overflow = overflow.format(held=f"{MARK_HELD:#x}", listener4=listener4, listener6=listener6)
    marks = {"new": f"{MARK_NEW:#x}", "held": f"{MARK_HELD:#x}", "open": f"{MARK_OPEN:#x}"}
    marks |= {"unready": f"{MARK_UNREADY:#x}", "ready": f"{MARK_READY:#x}"}
    return _SCRIPT.format(
        table=TABLE,
        interface=interface,
        listener4=listener4,
        listener6=listener6,
        queue=queue,
        overflow=overflow,
        **marks,
    )


def find_tool(name: str) -> str | None:
    """The path of a system tool, looked for in the administrators' directories too, or in those of `TOOLS_PATH`."""
    search = os.environ.get(TOOLS_PATH) or os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin"
    for folder in search.split(":"):
        if folder and os.access(path := os.path.join(folder, name), os.X_OK) and not os.path.isdir(path):
            return path
    return None


def run_tool(arguments: list[str], text: str) -> str | None:
    """Run a tool on `text`; None when it worked, else the first line of its complaint.

    Not by `subprocess`: importing that takes 5 ms, and the command waits for its rules meanwhile.
    """
    environment = dict(os.environ, XTABLES_LOCKFILE="/dev/null", LC_ALL="C")
    given, said, nowhere = os.memfd_create("input"), os.memfd_create("complaint"), os.open("/dev/null", os.O_WRONLY)
    streams = [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in enumerate((given, nowhere, said))]
    try:
        os.pwrite(given, text.encode(), 0)
        pid = os.posix_spawn(arguments[0], arguments, environment, file_actions=streams, setsigdef=[signal.SIGPIPE])
        status = _wait(pid)
        complaint = os.pread(said, 65536, 0).decode("utf-8", "replace")
    except OSError as error:
        return f"{arguments[0]} cannot be run: {error.strerror}"
    finally:
        for descriptor in (given, said, nowhere):
            os.close(descriptor)
    if status is None:
        return f"{arguments[0]} did not end within {TOOL_TIMEOUT:.0f} s"
    if status == 0:
        return None
    return next((line for line in complaint.splitlines() if line.strip()), f"exit status {status}")


def _wait(pid: int) -> int | None:
    """The exit status of a child, negative for a signal; None if it had to be killed, after `TOOL_TIMEOUT` seconds."""
    handle = os.pidfd_open(pid)
    try:
        ended, _, _ = select.select([handle], [], [], TOOL_TIMEOUT)
        if not ended:
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(handle)
    return status if ended else None


def install(interface: str, listener4: str, listener6: str, *, overflow_open: bool = False) -> str:
    """Load the ruleset into the current namespace; says how packets are queued: `nft` or an iptables tool's name.

    Raises DatapathError when nft is missing, when a rule is refused, or when no NFQUEUE can be had.
    """
    nft = find_tool("nft")
    if nft is None:
        raise unavailable("nft is not installed", "apt-get install nftables")
    load = partial(script, interface, listener4, listener6, overflow_open=overflow_open)
    if not lacks_queue_expression() and run_tool([nft, "-f", "-"], load(native_queue=True)) is None:
        return "nft"
    if complaint := run_tool([nft, "-f", "-"], load(native_queue=False)):
        raise unavailable(f"nft refused the ruleset: {complaint}", "netext doctor")
    return queue_by_iptables()


def lacks_queue_expression(configuration: str = "/proc/config.gz") -> bool:
    """Whether the kernel says of itself that it was built without nft's `queue`; False if it does not say.

    The attempt would tell as well, but makes the kernel look for a module in vain, by running modprobe: 17 ms.
    """
    import zlib

    try:
        with open(configuration, "rb") as file:
            text = zlib.decompress(file.read(1 << 20), 16 + zlib.MAX_WBITS)
    except (OSError, zlib.error):
        return False
    return b"CONFIG_NF_TABLES=" in text and b"CONFIG_NFT_QUEUE=" not in text


def install_packet_queue(interface: str, program4: str, program6: str, *, bypass: bool) -> str:
    """Queue the packets that programs send and get over `interface`; says how. Raises DatapathError.

    With `bypass` they pass while nobody has bound the queue (policy open).
    """
    nft = find_tool("nft")
    if nft is None:
        raise unavailable("nft is not installed", "apt-get install nftables")
    names = {"table": TABLE, "interface": interface, "program4": program4, "program6": program6}
    if not lacks_queue_expression():
        action = f"queue flags bypass to {PACKET_QUEUE}" if bypass else f"queue to {PACKET_QUEUE}"
        if run_tool([nft, "-f", "-"], _PACKET_SCRIPT.format(action=action, **names)) is None:
            return "nft"
    marking = _PACKET_SCRIPT.format(action=f"meta mark set {MARK_PACKET:#x}", **names)
    if complaint := run_tool([nft, "-f", "-"], marking):
        raise unavailable(f"nft refused the rules of the packet queue: {complaint}", "netext doctor")
    words = {"mark": MARK_PACKET, "number": PACKET_QUEUE, "bypass": " --queue-bypass" if bypass else ""}
    return queue_by_iptables(_IPTABLES_PACKET_SCRIPT.format(**words))


def queue_by_iptables(text: str = _IPTABLES_SCRIPT.format(held=MARK_HELD, number=QUEUE_NUMBER)) -> str:
    """Add an NFQUEUE rule for both families by the first iptables that can."""
    complaint = ""
    for flavour in ("nft", "legacy"):
        tools = [find_tool(f"{name}-{flavour}-restore") for name in ("iptables", "ip6tables")]
        if None in tools:
            continue
        failures = [run_tool([str(tool), "-n"], text) for tool in tools]
        if failures == [None, None]:
            return f"iptables-{flavour}"
        complaint = next(failure for failure in failures if failure)
    if complaint:
        raise unavailable(f"this kernel queues no packets: {complaint}", "netext doctor")
    raise unavailable(
        "nft has no queue expression on this kernel, and iptables is not installed", "apt-get install iptables"
    )


def unavailable(what: str, next_step: str) -> DatapathError:
    """A tool or a part of the kernel is absent: exit status 69."""
    return DatapathError(what, next_step=f"next step: {next_step}", exit_code=ExitCode.UNAVAILABLE)
