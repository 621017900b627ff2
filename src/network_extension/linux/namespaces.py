"""Linux namespaces for an ordinary user: unshare, identity maps, setns, mounts, capabilities (namespaces(7)).

Straight system calls by ctypes: `os.unshare` and `os.setns` came with Python 3.12, and this runs on 3.11.
"""

from __future__ import annotations

import ctypes
import os

from ..errors import DatapathError

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = 2, 4, 8, 4096, 16384, 1 << 18, 1 << 19
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 1, 24, 36, 47, 4
PR_CAP_AMBIENT_RAISE = 2
CAP_NET_ADMIN, CAP_NET_RAW = 12, 13
_CAPABILITY_VERSION_3 = 0x20080522
PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise DatapathError(f"{what}: {os.strerror(number)}", errno=number)


def unshare(flags: int) -> None:
    """Move this single-threaded process into new namespaces (unshare(2))."""
    _check(_libc.unshare(flags), "new namespaces")


def enter(descriptor: int, kind: int) -> None:
    """Join the namespace behind `descriptor` (setns(2)); `kind` is the CLONE_ flag that it must have."""
    _check(_libc.setns(descriptor, kind), "entering a namespace")


def mount(source: str, target: str, filesystem: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)."""
    kind, data = filesystem and filesystem.encode(), options and options.encode()
    _check(_libc.mount(source.encode(), os.fsencode(target), kind, ctypes.c_ulong(flags), data), f"mount on {target}")


def unmount(target: str) -> None:
    """Detach what is mounted on `target` now; it goes when its last user does (umount2(2), MNT_DETACH)."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"unmount of {target}")


def process_control(option: int, value: int) -> None:
    """prctl(2) with one argument."""
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def map_identity(pid: int, uid: int, gid: int) -> None:
    """Write the identity maps of the new user namespace of process `pid`, from its parent namespace.

    An ordinary user may map only itself, and only after giving up setgroups(2) (user_namespaces(7), Linux 3.19). Root
    maps everybody, so that files keep their owners.
    """
    everybody = uid == 0 and _may_map_everybody()
    if not everybody:
        _write(f"/proc/{pid}/setgroups", "deny")
    _write(f"/proc/{pid}/uid_map", _whole_map("uid") if everybody else f"{uid} {uid} 1")
    _write(f"/proc/{pid}/gid_map", _whole_map("gid") if everybody else f"{gid} {gid} 1")


def _may_map_everybody() -> bool:
    """Whether this process holds CAP_SETUID and CAP_SETGID."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("CapEff:"))
    return int(line.split()[1], 16) & 0xC0 == 0xC0


def _whole_map(kind: str) -> str:
    """The map that gives every identity of this namespace its own number in the new one."""
    with open(f"/proc/self/{kind}_map") as extents:
        return "".join(f"{inside} {inside} {count}\n" for inside, _, count in (line.split() for line in extents))


def _write(path: str, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DatapathError(f"{path}: {error.strerror}", errno=error.errno) from error


def drop_capabilities() -> None:
    """Give up every capability, now and over any later exec (capabilities(7)).

    PR_SET_NO_NEW_PRIVS is what keeps files from giving some back. The bounding set keeps CAP_NET_RAW, which nobody can
    gain any more: without it, execve() of a file that asks for it fails with EPERM, and Debian's `ping` is such a file.
    """
    process_control(PR_SET_NO_NEW_PRIVS, 1)
    with open("/proc/sys/kernel/cap_last_cap") as last:
        highest = int(last.read())
    for capability in range(highest + 1):
        if capability != CAP_NET_RAW:
            process_control(PR_CAPBSET_DROP, capability)
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def keep_capabilities_over_exec(*capabilities: int) -> None:
    """Let tools that this process starts keep some capabilities although it is not root (ambient set, Linux 4.3)."""
    bits = sum(1 << capability for capability in capabilities)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable of capabilities 0-31, then of 32-63
    _check(_libc.capget(header, sets), "capget")
    sets[2] |= bits
    _check(_libc.capset(header, sets), "capset")
    for capability in capabilities:
        _check(_libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0), f"ambient capability {capability}")


def private_mounts() -> None:
    """Let this mount namespace see later mounts of the host, and the host none of ours."""
    mount("none", "/", None, MS_REC | MS_SLAVE)


def replace_file(target: str, content: str) -> None:
    """Show `content` as the file `target` in this mount namespace; the host's file stays as it is.

    The file lies on a temporary file system that is mounted over /tmp just long enough to bind it: no file is ever
    made on the host, so nothing can be left behind.
    """
    mount("netext", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=64k")
    try:
        with open("/tmp/content", "w") as file:
            file.write(content)
        os.chmod("/tmp/content", 0o644)
        mount("/tmp/content", os.path.realpath(target), None, MS_BIND)
    finally:
        unmount("/tmp")


def hide_directory(target: str) -> None:
    """Show an empty directory in place of `target` in this mount namespace."""
    mount("netext", target, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=4k")
