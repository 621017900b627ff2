"""The kernel's own record of who made, connected or used each internet socket: eBPF programs at the root cgroup.

A packet that is held is often the first and last thing that a program did: it has ended, its socket is closed, and
/proc has forgotten it. So the process is noted when it is certain to be there, in the system call itself:

    socket()                 sock_create     owners[cookie of the socket] = process
    connect(), sendto()      connect4/6,     the same, when it is another process than the one that made the socket
                             sendmsg4/6      (inherited, passed on, or older than these programs); sendto() on a socket
                                             that is not connected also notes flows[addresses and ports] = process
    the last close()         sock_release    flows[addresses and ports] = owners[cookie], which is then removed.
                                             It runs before the socket leaves the kernel's tables: one of both has it
    TCP's first packet       sock_ops        connects[addresses and ports] = owners[cookie], so that one look-up by what
                                             the packet says finds its owner. Where the kernel refuses this program, the
                                             others serve alone, after the socket's cookie was asked for (sock_diag)

A process is `(start, number of execs, thread group)`, which no other has had or will have. What it is (path of its
executable, arguments, parents) is noted once, in `processes`, when it is met first, and its ancestors with it.

When a map is full, what was not used for longest is forgotten. The programs allow everything, whatever happens. They
and the maps go with the last descriptor: also when this process is killed.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

from ..errors import DatapathError
from . import bpf
from . import socket_owner_layout as layout
from .btf import member_offsets
from .socket_owner_layout import MapNumbers
from .socket_owner_programs import OwnerProgram

SOCKETS, FLOWS, PROCESSES, CONNECTS = 65536, 32768, 4096, 16384
SO_COOKIE, SO_NETNS_COOKIE = 57, 71
INITIAL_CGROUP_NAMESPACE = 0xEFFFFFFB  # PROC_CGROUP_INIT_INO in the kernel's proc_ns.h
_LEAST_FOR_EACH_PROCESSOR = 128  # a full LRU map keeps so many entries of each processor free
_KEY = struct.Struct("<QQI")
_COOKIE = struct.Struct("<Q")
_OWNER = struct.Struct("<I")
_HEAD = struct.Struct("<QQIxxxxIIIII")
_FLOW_HEAD, _FLOW_TAIL = struct.Struct("<Q16s16s"), struct.Struct("<HHI")
_FLOW_END = struct.Struct("<QQ")
_MAPPED, _ANY = bytes(10) + b"\xff\xff", bytes(16)


class Owner(NamedTuple):
    """A process as an owner of a socket; `process` is its key in the kernel's map."""

    process: bytes
    uid: int
    cookie: int
    """The socket."""
    time: int = 0
    """Of a flow: when it sent last or was closed, in nanoseconds since boot."""


class ProcessRecord(NamedTuple):
    """What the kernel noted of a process."""

    start: int
    """Nanoseconds since boot."""
    pid: int
    """In our pid namespace; 0 for a process that is not seen there."""
    level: int
    """How deep the process's own pid namespace lies."""
    executable: str
    """The path, or the name that the kernel keeps when there is none; not escaped."""
    is_whole: bool
    """False: longer than what is noted."""
    arguments: tuple[bytes, ...]
    has_all_arguments: bool
    parent: bytes
    """Its key."""
    parent_pid: int


class SocketOwners:
    """The programs and maps, running. Raises DatapathError where the kernel does not allow them or lacks a part."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []
        self._maps: list[bpf.Map] = []
        self._connects: bpf.Map | None = None
        self.note = ""
        """What is limited, in words; empty when the whole machine is seen."""
        try:
            self._open(0)
            record = self._own_record()
            if record.level:  # in a pid namespace processes have other numbers, and how deep it lies is known now
                self.close()
                self._open(record.level)
                record = self._own_record()
            if record.pid != os.getpid():
                raise DatapathError(f"the eBPF programs took this process for {record.pid}, and it is {os.getpid()}")
        except BaseException:
            self.close()
            raise
        if os.stat("/proc/self/ns/cgroup").st_ino != INITIAL_CGROUP_NAMESPACE:
            # Programs beyond it may have the same addresses, and connect unseen: no note of a connection is certain.
            self.note = "only the processes of this container's cgroup"
        else:
            self._note_connections()

    def _open(self, pid_level: int) -> None:
        least = _LEAST_FOR_EACH_PROCESSOR * (os.cpu_count() or 1)
        kind, size = bpf.MAP_LRU_HASH, layout.PROCESS_SIZE
        flow = layout.FLOW_KEY_SIZE, layout.FLOW_SIZE
        self._owners = self._map(kind, "netext_owners", 8, layout.OWNER_SIZE, max(SOCKETS, least))
        self._flows = self._map(kind, "netext_flows", *flow, max(FLOWS, least))
        self._processes = self._map(kind, "netext_process", layout.PROCESS_KEY_SIZE, size, max(PROCESSES, least))
        self._attach(pid_level)

    def _map(self, kind: int, name: str, key_size: int, value_size: int, entries: int) -> bpf.Map:
        made = bpf.Map(kind, name, key_size, value_size, entries)
        self._maps.append(made)
        return made

    def _attach(self, pid_level: int) -> None:
        scratch = bpf.Map(bpf.MAP_ARRAY, "netext_scratch", 4, layout.SCRATCH_SIZE, layout.SCRATCH_SLOTS)
        cgroup = -1
        try:
            cgroup = bpf.open_root_cgroup()
            maps = self._numbers(scratch=scratch.descriptor)
            offsets = member_offsets(layout.MEMBERS)
            for name, kind, attach_type in _PROGRAMS:
                code = _instructions(name, OwnerProgram(maps, offsets, pid_level))
                self._run(name, kind, attach_type, code, cgroup)
        finally:
            scratch.close()  # the programs hold it
            if cgroup >= 0:
                os.close(cgroup)

    def _numbers(self, scratch: int = -1, connects: int = -1) -> MapNumbers:
        owners, flows, processes = (made.descriptor for made in (self._owners, self._flows, self._processes))
        return MapNumbers(owners, flows, processes, scratch, connects)

    def _run(self, name: str, kind: int, attach_type: int, code: bytes, cgroup: int) -> None:
        program = bpf.load_program(kind, attach_type, name, code)
        try:
            self._descriptors.append(bpf.attach(program, cgroup, attach_type, name))
        finally:
            os.close(program)  # the link holds it

    def _note_connections(self) -> None:
        """The program that kernels may refuse while they take all others: it only saves a question."""
        entries = max(CONNECTS, _LEAST_FOR_EACH_PROCESSOR * (os.cpu_count() or 1))
        sizes, cgroup = (layout.FLOW_KEY_SIZE, layout.OWNER_SIZE), -1
        try:
            made = self._map(bpf.MAP_LRU_HASH, "netext_connects", *sizes, entries)
            cgroup = bpf.open_root_cgroup()
            code = OwnerProgram(self._numbers(connects=made.descriptor), {}).connects()
            self._run("netext_sock_ops", bpf.PROGRAM_SOCK_OPS, bpf.SOCK_OPS, code, cgroup)
            self._connects = made
        except (DatapathError, OSError):
            pass
        finally:
            if cgroup >= 0:
                os.close(cgroup)

    def _own_record(self) -> ProcessRecord:
        """The self-check: a socket made now must be seen as this process's."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            owner = self.of_socket(cookie_of(sock))
            record = self.process(owner.process) if owner else None
        if record is None:
            raise DatapathError(
                "the eBPF programs run, and did not see a socket of this process",
                next_step="this process must be in the cgroup namespace's own part of the cgroup v2 tree",
            )
        return record

    def of_socket(self, cookie: int) -> Owner | None:
        """The owner of an open socket."""
        value = self._owners.lookup(_COOKIE.pack(cookie))
        return owner_of(value, cookie) if value else None

    @property
    def notes_connections(self) -> bool:
        """Whether `of_connection` finds anything."""
        return self._connects is not None

    def of_connection(self, key: bytes) -> bytes | None:
        """The owner's process and user of the TCP connection that was begun last with what `flow_key` gives.

        `owner_of` reads it. None where nobody's is known for certain.
        """
        return self._connects.lookup(key) if self._connects is not None else None

    def of_flow(self, key: bytes) -> Owner | None:
        """The owner of a socket that is closed, or not connected, by what `flow_key` gives."""
        value = self._flows.lookup(key)
        return owner_of(value, *_FLOW_END.unpack_from(value, 24)) if value else None

    def process(self, key: bytes) -> ProcessRecord | None:
        """What a process was when it was met first; None when that is forgotten."""
        value = self._processes.lookup(key)
        return parse_process(start_of(key), value) if value else None

    def close(self) -> None:
        """Take the programs away, and the maps."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        for made in self._maps:
            made.close()
        self._maps.clear()
        self._connects = None


_PROGRAMS = (
    ("netext_release", bpf.PROGRAM_CGROUP_SOCK, bpf.SOCK_RELEASE),
    ("netext_create", bpf.PROGRAM_CGROUP_SOCK, bpf.SOCK_CREATE),
    ("netext_connect4", bpf.PROGRAM_CGROUP_SOCK_ADDR, bpf.INET4_CONNECT),
    ("netext_connect6", bpf.PROGRAM_CGROUP_SOCK_ADDR, bpf.INET6_CONNECT),
    ("netext_sendmsg4", bpf.PROGRAM_CGROUP_SOCK_ADDR, bpf.UDP4_SENDMSG),
    ("netext_sendmsg6", bpf.PROGRAM_CGROUP_SOCK_ADDR, bpf.UDP6_SENDMSG),
)


def _instructions(name: str, program: OwnerProgram) -> bytes:
    if name == "netext_release":
        return program.released()
    if name == "netext_create":
        return program.created()
    return program.used(int(name[-1]), notes_flow="sendmsg" in name)


def start_of(process: bytes) -> int:
    """When the process with this key started, in nanoseconds since boot."""
    start: int = _KEY.unpack_from(process)[0]
    return start


def pid_of(process: bytes) -> int:
    """Its number in the machine's first pid namespace."""
    pid: int = _KEY.unpack_from(process)[2]
    return pid


def cookie_of(sock: socket.socket, option: int = SO_COOKIE) -> int:
    """The number that names a socket (or, with SO_NETNS_COOKIE, its network namespace) while the machine runs."""
    number: int = _COOKIE.unpack(sock.getsockopt(socket.SOL_SOCKET, option, 8))[0]
    return number


def flow_key(namespace: int, protocol: int, local: tuple[bytes, int], remote: tuple[bytes, int]) -> bytes:
    """A key of the map `flows`; an empty address stands for none."""
    head = _FLOW_HEAD.pack(namespace, _sixteen(local[0]), _sixteen(remote[0]))
    port = remote[1]
    return head + _FLOW_TAIL.pack(local[1], port >> 8 | (port & 0xFF) << 8, protocol)


def _sixteen(address: bytes) -> bytes:
    return address if len(address) == 16 else _MAPPED + address if len(address) == 4 else _ANY


def owner_of(value: bytes, cookie: int = 0, time: int = 0) -> Owner:
    """Read what the maps have of an owner."""
    return Owner(value[:20] + b"\0\0\0\0", _OWNER.unpack_from(value, 20)[0], cookie, time)


def parse_process(start: int, value: bytes) -> ProcessRecord:
    """Read a record of the map `processes`."""
    parent_start, parent_execs, parent_pid, pid, level, path_length, size, flags = _HEAD.unpack_from(value)
    path = value[layout.PATH : layout.PATH + min(path_length, layout.MAX_PATH)]
    return ProcessRecord(
        start,
        pid,
        level,
        _path(path, flags) or _text(value[layout.NAME : layout.PATH].partition(b"\0")[0]),
        not flags & layout.PATH_IS_CUT,
        _words(value[layout.ARGUMENTS : layout.ARGUMENTS + min(size, layout.MAX_ARGUMENTS)]),
        bool(flags & layout.HAS_ARGUMENTS and size and not flags & layout.ARGUMENTS_ARE_CUT),
        _KEY.pack(parent_start, parent_execs, parent_pid) + b"\0\0\0\0",
        parent_pid,
    )


def _path(names: bytes, flags: int) -> str:
    """The path as /proc/PID/exe shows it; one that is cut begins with `...`."""
    if not names:
        return ""
    path = "/" + "/".join(_text(name) for name in reversed(names.removesuffix(b"\0").split(b"\0")))
    if flags & layout.PATH_IS_CUT:
        path = "..." + path
    return path + " (deleted)" if flags & layout.IS_DELETED else path


def _text(name: bytes) -> str:
    return os.fsdecode(name)


def _words(data: bytes) -> tuple[bytes, ...]:
    return tuple(data.removesuffix(b"\0").split(b"\0")) if data else ()
