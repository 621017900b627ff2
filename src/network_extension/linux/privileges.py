"""Giving up privileges for good: capabilities down to a set, another user, and nothing to be gained by exec.

What the process of a root filter may do is what its bugs may do (capabilities(7), PR_SET_NO_NEW_PRIVS in prctl(2)).
Order matters: the bounding set can be lowered only while CAP_SETPCAP is there, and a change of user clears the rest.
"""

from __future__ import annotations

import ctypes
import os
import pwd
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from ..errors import ConfigurationError
from .namespaces import (
    _CAPABILITY_VERSION_3,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAPBSET_DROP,
    PR_SET_NO_NEW_PRIVS,
    _check,
    _libc,
    process_control,
)


class Capability(IntEnum):
    """The capabilities that parts of this package keep (linux/capability.h)."""

    DAC_READ_SEARCH = 2
    """Look into /proc/PID/fd of other users' processes."""
    NET_ADMIN = 12
    """Packet queues, nft tables, conntrack entries, closing sockets."""
    NET_RAW = 13
    """Packets of our own: the block page."""
    SYS_PTRACE = 19
    """Read /proc/PID/exe and the like of other users' processes."""
    PERFMON = 38
    BPF = 39


class User(NamedTuple):
    """Whom to become."""

    name: str
    uid: int
    gid: int
    home: str

    @classmethod
    def named(cls, text: str) -> User:
        """The user with this name or number. Raises ConfigurationError."""
        try:
            entry = pwd.getpwuid(int(text)) if text.isdigit() else pwd.getpwnam(text)
        except KeyError:
            raise ConfigurationError(f"user {text}: there is no such user; getent passwd lists them") from None
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def held_capabilities() -> int:
    """The effective set of this process, as bits."""
    return _capget()[0] | _capget()[3] << 32


def keep_only(capabilities: Iterable[int]) -> None:
    """Lower this process to those of `capabilities` that it holds, and forbid it to gain others over exec."""
    wanted = sum(1 << capability for capability in capabilities)
    process_control(PR_SET_NO_NEW_PRIVS, 1)
    _lower_bounding_set(wanted)
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    held = _capget()
    low, high = held[1] & wanted & 0xFFFFFFFF, held[4] & wanted >> 32
    _capset((low, low, 0, high, high, 0))


def become(user: User) -> None:
    """Be `user` for good, with all of its groups and without a capability. The caller is root."""
    groups = os.getgrouplist(user.name, user.gid)
    process_control(PR_SET_NO_NEW_PRIVS, 1)
    _lower_bounding_set(0)
    os.setgroups(groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    _capset((0, 0, 0, 0, 0, 0))


def _lower_bounding_set(wanted: int) -> None:
    with open("/proc/sys/kernel/cap_last_cap") as last:
        highest = int(last.read())
    for capability in range(highest + 1):
        if not wanted >> capability & 1 and _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            return  # without CAP_SETPCAP: then no_new_privs alone keeps exec from giving some


def _capget() -> list[int]:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable of capabilities 0-31, then of 32-63
    _check(_libc.capget(header, sets), "capget")
    return list(sets)


def _capset(sets: tuple[int, int, int, int, int, int]) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)(*sets)), "capset")
