"""Which process a packet belongs to, for the whole machine, also when that process has ended already.

Three sources, the first that knows wins:

1. `socket_owners`: eBPF programs note the process in the system calls that make, connect and close sockets. A TCP
   connection that a program began is found by its addresses alone. Else the socket is found by `sock_diag`, which tells
   its cookie; one that is closed already, by its addresses.
2. `socket_holders`: who has the socket open, by /proc. For sockets that are older than the programs, and for those that
   one process made for another (socket activation).
3. Nobody: the kernel's own sockets (WireGuard, NFS).

Where eBPF is not allowed only the second is left, and a program that ends before its first packet is looked at is not
found. `how` says which it is, and why.
"""

from __future__ import annotations

import os
import socket
import time

from ..errors import DatapathError
from ..metadata import MAX_PARENTS, ParentProcess, ProcessInfo
from .processes import arguments_of, executable_of, name_of, printable, status_of, user_of
from .sock_diag import NETLINK_SOCK_DIAG, SocketAddress, SocketInfo, SocketTable
from .socket_holders import SocketHolders
from .socket_owners import (
    SO_NETNS_COOKIE,
    Owner,
    ProcessRecord,
    SocketOwners,
    cookie_of,
    flow_key,
    owner_of,
    pid_of,
    start_of,
)

MAX_CACHE = 4096
_TCP = socket.IPPROTO_TCP
_TICK = 10**9 // os.sysconf("SC_CLK_TCK")  # nanoseconds
MAX_AGE = 60 * 10**9  # nanoseconds that a packet may be younger than what its socket did last
_ANY = b""


class Attribution:
    """Finds the owners of the sockets of the network namespace in which this was made.

    `how` is "ebpf", or "sock_diag+proc", followed by the reason or limit if there is one. All privileges may be given
    up afterwards where the kernel is 5.19 or newer (before, CAP_BPF is needed to read a map while
    kernel.unprivileged_bpf_disabled is set); the search by /proc needs CAP_SYS_PTRACE to see other users' processes.
    """

    def __init__(self, *, ebpf: bool = True) -> None:
        diag = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
        self._table = SocketTable(diag)
        self._holders = SocketHolders()
        self._kernel: SocketOwners | None = None
        self._known: dict[tuple[bytes, int], ProcessInfo] = {}
        self._by_note: dict[bytes, ProcessInfo] = {}
        self._chains: dict[bytes, tuple[ParentProcess, ...]] = {}
        self._described: dict[int, tuple[tuple[object, ...], ProcessInfo]] = {}
        self._namespace = 0
        self.how = "sock_diag+proc: eBPF is not wanted"
        if ebpf:
            self._start_programs(diag)

    @property
    def is_exact(self) -> bool:
        """Whether programs that have ended are found too."""
        return self._kernel is not None

    def _start_programs(self, diag: socket.socket) -> None:
        try:
            self._namespace = cookie_of(diag, SO_NETNS_COOKIE)
            self._kernel = SocketOwners()
        except (DatapathError, OSError) as error:
            self.how = f"sock_diag+proc: {error}"
        else:
            self.how = f"ebpf: {self._kernel.note}" if self._kernel.note else "ebpf"

    def owner(
        self, protocol: int, local: SocketAddress, remote: SocketAddress, inbound: bool = False, interface: int = 0
    ) -> ProcessInfo | None:
        """The process at `local` of a packet between `local` and `remote`; None when there is none or it is not known.

        `protocol` is IPPROTO_TCP or IPPROTO_UDP; `inbound` when the packet came from `remote`, so that a listening
        socket may be meant; `interface` is the index of the packet's, 0 where it is not known. About 2 µs for a TCP
        connection that a known process began, else 20 µs.
        """
        if protocol == _TCP and not inbound and self._kernel is not None:
            connected = self._kernel.of_connection(flow_key(self._namespace, protocol, local, remote))
            if connected is not None and (begun := self._connected(self._kernel, connected)) is not None:
                return begun
        found = self._table.find(protocol, local, remote, listeners=inbound, interface=interface)
        if self._kernel is None:
            return self._holder(found, 0) if found else None
        owner = self._owner(self._kernel, found, protocol, local, remote, inbound)
        process = self._process(self._kernel, owner) if owner else None
        if found is None or (process is not None and not (inbound and _has_left(process))):
            return process
        return self._holder(found, process.pid if process else 0) or process

    # --- what the kernel noted

    def _connected(self, kernel: SocketOwners, noted: bytes) -> ProcessInfo | None:
        """The process that a note of a connection names; None when it is forgotten."""
        known = self._by_note.get(noted)
        if known is not None:
            return known
        owner = owner_of(noted)
        process = self._process(kernel, owner)
        if process is not None and (owner.process, owner.uid) in self._known:
            if len(self._by_note) >= MAX_CACHE:
                self._by_note.clear()
            self._by_note[noted] = process
        return process

    def _owner(
        self,
        kernel: SocketOwners,
        found: SocketInfo | None,
        protocol: int,
        local: SocketAddress,
        remote: SocketAddress,
        inbound: bool,
    ) -> Owner | None:
        """By the socket if that says for certain; else by addresses, where the latest to use them counts.

        A socket that is not connected does not say it for certain: several processes may send by it, and a packet may
        be one of another socket, closed by now, that had the same port.
        """
        owner = kernel.of_socket(found.cookie) if found else None
        certain = inbound or (found is not None and found.is_connected)
        if certain and owner:
            return owner
        cookie, anywhere, nowhere = found.cookie if found else -1, (_ANY, local[1]), (_ANY, 0)
        oldest = now() - MAX_AGE

        def noted(here: SocketAddress, there: SocketAddress) -> Owner | None:
            flow = kernel.of_flow(flow_key(self._namespace, protocol, here, there))
            if flow is None or flow.cookie == cookie or (not certain and flow.time >= oldest):
                return flow
            return None

        sent = noted(anywhere, remote)
        if sent is not None and sent.cookie == cookie:
            return sent
        return _later(sent, noted(local, remote)) or owner or _later(noted(local, nowhere), noted(anywhere, nowhere))

    def _process(self, kernel: SocketOwners, owner: Owner) -> ProcessInfo | None:
        known = self._known.get((owner.process, owner.uid))
        if known is not None:
            return known
        record = kernel.process(owner.process)
        if record is None:  # forgotten, as one of the longest unused of thousands
            return self._living(pid_of(owner.process), start_of(owner.process) // _TICK)
        info = self._from_record(kernel, record, owner.uid)
        if len(self._known) >= MAX_CACHE:
            self._known.clear()
        self._known[owner.process, owner.uid] = info
        return info

    def _from_record(self, kernel: SocketOwners, record: ProcessRecord, uid: int) -> ProcessInfo:
        start = record.start // _TICK
        executable = printable(record.executable)
        arguments = tuple(word.decode("utf-8", "backslashreplace") for word in record.arguments)
        if not (record.is_whole and record.has_all_arguments):
            living = self._living(record.pid, start)
            if living is not None and (not record.is_whole or living.executable == executable):
                executable, arguments = living.executable, living.arguments
        return ProcessInfo(record.pid, start, uid, executable, arguments, self._parents(kernel, record.parent))

    def _parents(self, kernel: SocketOwners, key: bytes, most: int = MAX_PARENTS) -> tuple[ParentProcess, ...]:
        """The process with this key and those above it, as they were when it was met first; remembered.

        By /proc from where the kernel noted no more.
        """
        pid, known = pid_of(key), self._chains.get(key)
        if known is not None or not pid or not most:
            return known or ()
        parent = kernel.process(key)
        if parent is not None:
            above = self._parents(kernel, parent.parent, most - 1)
            chain = (ParentProcess(parent.pid, printable(parent.executable)), *above) if parent.pid else above
        elif (living := self._living(pid, start_of(key) // _TICK)) is not None:
            chain = ParentProcess(living.pid, living.executable), *living.parents
        else:
            return ()
        if len(self._chains) >= MAX_CACHE:
            self._chains.clear()
        self._chains[key] = chain[:MAX_PARENTS]
        return self._chains[key]

    # --- what /proc tells

    def _holder(self, found: SocketInfo, maker: int) -> ProcessInfo | None:
        """The process that has the socket open; `maker`, which made it for others, is not meant."""
        pid = self._holders.find(found.inode, found.uid, maker) if found.inode else 0
        return self._living(pid) if pid else None

    def _living(self, pid: int, start: int = 0) -> ProcessInfo | None:
        """What process `pid` is now; None if it is not the one that started at `start`."""
        status = status_of(pid) if pid else None
        if status is None or (start and status[1] != start):
            return None
        executable = executable_of(pid)
        key = (status, executable)
        known = self._described.get(pid)
        if known is not None and known[0] == key:
            return known[1]
        name = executable or name_of(pid)
        if not name:
            return None  # it ended between two looks
        parents = _living_parents(status[0])
        info = ProcessInfo(pid, status[1], user_of(pid), name, arguments_of(pid), parents)
        if len(self._described) >= MAX_CACHE:
            self._described.clear()
        self._described[pid] = key, info
        return info

    def close(self) -> None:
        """Take the programs away, and close the sockets."""
        self._table.close()
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None


def now() -> int:
    """Nanoseconds since boot."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _later(one: Owner | None, other: Owner | None) -> Owner | None:
    if one is None or other is None:
        return one or other
    return one if one.time >= other.time else other


def _has_left(process: ProcessInfo) -> bool:
    """Whether a process that made a listening socket is not the one that serves it: it has ended, or it is init."""
    status = status_of(process.pid)
    return process.pid == 1 or status is None or status[1] != process.start_time


def _living_parents(pid: int) -> tuple[ParentProcess, ...]:
    chain: list[ParentProcess] = []
    while pid > 0 and len(chain) < MAX_PARENTS:
        status = status_of(pid)
        if status is None:
            break
        chain.append(ParentProcess(pid, executable_of(pid) or name_of(pid)))
        pid = status[0]
    return tuple(chain)
