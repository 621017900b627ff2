"""How the maps of `socket_owners` are laid out, and where its programs keep what on their stack.

`owners`     cookie of a socket (8)             → process key whose last 4 bytes are the effective user (24)
`flows`      namespace, addresses, ports (48)   → the same (24), cookie (8), nanoseconds since boot (8)
`processes`  start, execs, thread group, 0 (24) → what the process is (1600)
`connects`   as in `flows` (48)                 → as in `owners` (24); of TCP connections as they begin
`scratch`    number of a slot (4)               → a record of `processes`, and whether the slot is in use (1608)
"""

from __future__ import annotations

from typing import NamedTuple

PROCESS_KEY_SIZE, OWNER_SIZE, FLOW_KEY_SIZE, FLOW_SIZE = 24, 24, 48, 40
# A record of `processes`. Names of the path stand from its end to its root, each with a zero byte.
PARENT, PID, LEVEL, PATH_LENGTH, ARGUMENTS_LENGTH, FLAGS, NAME = 0, 24, 28, 32, 36, 40, 48
PATH, ARGUMENTS, PROCESS_SIZE = 64, 1088, 1600
MAX_PATH, MAX_NAME, MAX_ARGUMENTS = ARGUMENTS - PATH, 256, PROCESS_SIZE - ARGUMENTS
BUSY, SCRATCH_SIZE = PROCESS_SIZE, PROCESS_SIZE + 8
HAS_ARGUMENTS, PATH_IS_CUT, ARGUMENTS_ARE_CUT, IS_DELETED = 1, 2, 4, 8
SCRATCH_SLOTS, SLOTS_EACH = 64, 4
MAX_DEPTH, MAX_STEPS = 6, 48
# A key of `flows`: network namespace 0, local address 8, remote address 24, local port 40 (this machine's byte order),
# remote port 42 (network's), protocol 44. IPv4 stands as ::ffff:a.b.c.d, no address as zeros.
LOCAL, REMOTE, LOCAL_PORT, REMOTE_PORT, PROTOCOL = 8, 24, 40, 42, 44
MAPPED = -65536  # 00 00 ff ff, the bytes before an IPv4 address

# The stack, by offsets from its end.
KEY, COOKIE, ANCESTOR, PARENT_KEY, VALUE, MEMORY, DEPTH, STEPS = -24, -32, -56, -80, -88, -96, -104, -112
DENTRY, MOUNT, INDEX, FLOW, FLOW_VALUE, SOCKET = -120, -128, -136, -184, -224, -224
MAX_SOCKET = 512 + SOCKET
USER = KEY + 20

MEMBERS = (
    "task_struct.mm", "task_struct.group_leader", "task_struct.real_parent", "task_struct.start_boottime",
    "task_struct.self_exec_id", "task_struct.tgid", "task_struct.cred", "task_struct.comm", "task_struct.thread_pid",
    "cred.euid", "pid.level", "pid.numbers", "mm_struct.exe_file", "mm_struct.arg_start", "mm_struct.arg_end",
    "file.f_path.mnt", "file.f_path.dentry", "mount.mnt", "mount.mnt_parent", "mount.mnt_mountpoint",
    "vfsmount.mnt_root", "dentry.d_parent", "dentry.d_name.name", "dentry.d_hash.pprev", "sock_common.skc_num",
    "sock_common.skc_dport", "sock_common.skc_family", "sock_common.skc_daddr", "sock_common.skc_rcv_saddr",
    "sock_common.skc_v6_daddr", "sock_common.skc_v6_rcv_saddr",
)  # fmt: skip
UPID_SIZE = 16  # struct upid: a number and a pointer, in this order since Linux 2.6.24


class MapNumbers(NamedTuple):
    """Descriptors of the maps."""

    owners: int
    flows: int
    processes: int
    scratch: int
    connects: int
