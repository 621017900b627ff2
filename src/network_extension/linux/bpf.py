"""bpf(2) without a library: maps, programs, and links that end with their descriptor.

A program that the kernel's verifier refuses raises with what the verifier complained of, and its log as a note.
Everything made here lives as long as a descriptor of it, so nothing is left behind however this process ends.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

from ..errors import DatapathError

MAP_ARRAY, MAP_LRU_HASH = 2, 9
PROGRAM_CGROUP_SOCK, PROGRAM_SOCK_OPS, PROGRAM_CGROUP_SOCK_ADDR = 9, 13, 18
SOCK_CREATE, SOCK_OPS, SOCK_RELEASE = 2, 3, 34
INET4_CONNECT, INET6_CONNECT, UDP4_SENDMSG, UDP6_SENDMSG = 10, 11, 14, 15
# Some helpers (probe_read_kernel) are given only to programs under a licence that the kernel takes for compatible with
# its own. The programs are this project's own text; this declares them, and nothing else, under either licence.
LICENSE = b"Dual MIT/GPL\0"

_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361}
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _PROGRAM_LOAD, _LINK_CREATE = 0, 1, 2, 5, 28
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same numbers everywhere
_FSOPEN_CLOEXEC, _FSCONFIG_CREATE, _FSMOUNT_CLOEXEC = 1, 6, 1

_MAP = struct.Struct("=IIIIIII16s")
_ELEMENT = struct.Struct("=IxxxxQQQ")
_PROGRAM = struct.Struct("=IIQQIIQII16sII")
_LINK = struct.Struct("=IIII")
_LOG_SIZE, _LOG_TAIL = 1 << 20, 4000
_PRIVILEGES = "it takes CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_ADMIN, and a kernel without lockdown"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _system_call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _bpf(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    if sys.byteorder != "little" or os.uname().machine not in _NUMBERS:
        raise OSError(errno.ENOSYS, f"not known how to call it on {os.uname().machine}")
    return _system_call(_NUMBERS[os.uname().machine], command, attributes, ctypes.c_uint(len(attributes)))


def _attributes(data: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(data, len(data))


class Map:
    """A map of the kernel: keys and values of fixed sizes. `lookup` is made for the hot path, and not for threads."""

    def __init__(self, kind: int, name: str, key_size: int, value_size: int, entries: int) -> None:
        self.name, self.entries = name, entries
        packed = _MAP.pack(kind, key_size, value_size, entries, 0, 0, 0, name.encode()[:15])
        try:
            self.descriptor = _bpf(_MAP_CREATE, _attributes(packed))
        except OSError as error:
            raise _refused(error, f"eBPF map {name}") from error
        self._key = ctypes.create_string_buffer(key_size)
        self._value = ctypes.create_string_buffer(value_size)
        where = ctypes.addressof(self._key), ctypes.addressof(self._value)
        self._element = _attributes(_ELEMENT.pack(self.descriptor, *where, 0))
        # Bound once: looking these up again would take a third of the time of a call.
        self._call, self._number = _libc.syscall, ctypes.c_long(_NUMBERS[os.uname().machine])
        self._lookup, self._size = ctypes.c_int(_MAP_LOOKUP), ctypes.c_uint(len(self._element))

    def lookup(self, key: bytes) -> bytes | None:
        """The value at `key`; None when there is none, or the kernel gives none any more. About 2 µs."""
        self._key.raw = key
        if self._call(self._number, self._lookup, self._element, self._size) != 0:
            return None
        return self._value.raw

    def update(self, key: bytes, value: bytes) -> None:
        """Set the value at `key`."""
        self._key.raw = key
        self._value.raw = value
        try:
            _bpf(_MAP_UPDATE, self._element)
        except OSError as error:
            raise _refused(error, f"eBPF map {self.name}") from error

    def close(self) -> None:
        """Give the map up; it goes when no program uses it any more."""
        _close(self.descriptor)
        self.descriptor = -1


def load_program(kind: int, attach_type: int, name: str, instructions: bytes) -> int:
    """Have the kernel verify and take a program; its descriptor. The error ends with what the verifier said."""
    code, licence = _attributes(instructions), _attributes(LICENSE)
    log, failure = ctypes.create_string_buffer(0), OSError()
    # Without a log first: writing it takes as long again. A refused program is then loaded again for its log.
    for level, size in ((0, 0), (1, _LOG_SIZE)):
        log = ctypes.create_string_buffer(size)
        packed = _PROGRAM.pack(
            kind,
            len(instructions) // 8,
            ctypes.addressof(code),
            ctypes.addressof(licence),
            level,
            size,
            ctypes.addressof(log) if level else 0,
            0,
            0,
            name.encode()[:15],
            0,
            attach_type,
        )
        try:
            return _bpf(_PROGRAM_LOAD, _attributes(packed))
        except OSError as error:
            failure = error
            if error.errno == errno.EPERM:
                break  # not the verifier's refusal; it was not even asked
    raise _rejected(failure, f"eBPF program {name}", log.value.decode(errors="replace").strip()) from failure


def attach(program: int, cgroup: int, attach_type: int, name: str) -> int:
    """Run a program for a cgroup and all below it, beside those of others, until the returned descriptor is closed."""
    try:
        return _bpf(_LINK_CREATE, _attributes(_LINK.pack(program, cgroup, attach_type, 0)))
    except OSError as error:
        raise _refused(error, f"attaching eBPF program {name}") from error


def open_root_cgroup() -> int:
    """A descriptor of the root of the cgroup v2 tree (of our cgroup namespace).

    A mount of our own that is in no mount table (fsmount(2), Linux 5.2): most machines have the tree mounted somewhere,
    but which part of it is seen there depends on who mounted it. Where that is forbidden, the usual places.
    """
    try:
        return _detached_cgroup_mount()
    except OSError as error:
        for place in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
            # The root has no cgroup.events file, since it cannot be empty or frozen; every other group has.
            if os.path.exists(f"{place}/cgroup.controllers") and not os.path.exists(f"{place}/cgroup.events"):
                return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        raise _refused(error, "the root of the cgroup v2 tree") from error


def _detached_cgroup_mount() -> int:
    context = _system_call(_FSOPEN, b"cgroup2", _FSOPEN_CLOEXEC)
    try:
        _system_call(_FSCONFIG, context, _FSCONFIG_CREATE, None, None, 0)
        return _system_call(_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
    finally:
        _close(context)


def _rejected(error: OSError, what: str, log: str) -> DatapathError:
    """What the verifier complained of is the last line but the one with its statistics; its log becomes a note."""
    lines = [line for line in log.splitlines() if not line.startswith("processed ")]
    if not lines:
        return _refused(error, what)
    # A helper that is missing is one for which a capability is missing, unless the kernel is an old one.
    step = _PRIVILEGES if "helper" in lines[-1] else ""
    text = f"{what}: {error.strerror}: the verifier says: {lines[-1]}"
    failure = DatapathError(text, errno=error.errno, object=what, next_step=step)
    failure.add_note(log[-_LOG_TAIL:])
    return failure


def _refused(error: OSError, what: str) -> DatapathError:
    steps = {
        errno.EPERM: _PRIVILEGES,
        errno.ENOSYS: "the kernel must be built with CONFIG_BPF_SYSCALL",
        errno.ENOMEM: "more memory, or a higher limit of it for this cgroup (before Linux 5.11: of RLIMIT_MEMLOCK)",
    }
    next_step = steps.get(error.errno or 0, "")
    return DatapathError(f"{what}: {error.strerror}", errno=error.errno, object=what, next_step=next_step)


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)
