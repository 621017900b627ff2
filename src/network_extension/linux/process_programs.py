"""The part of the programs of `socket_owners` that notes which process calls, and what that process is.

Where members of kernel structures lie is given by BTF, so nothing here depends on a kernel's version or configuration.
Memory is read by helpers that cannot fault. What cannot be read leaves a gap in the record, never a wrong entry.

Loops are bounded: 48 steps up a path, 6 ancestors. Programs of this kind may be preempted by others of them on the same
processor, so a record is put together in a slot of `scratch` that is taken by an atomic exchange.
"""

from __future__ import annotations

from collections.abc import Mapping

from .bpf_instructions import (
    GET_CURRENT_TASK,
    GET_PROCESSOR,
    GET_SOCKET_COOKIE,
    MAP_LOOKUP,
    MAP_UPDATE,
    PROBE_READ_KERNEL,
    PROBE_READ_KERNEL_STRING,
    PROBE_READ_USER,
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    R10,
    Assembly,
    Register,
)
from .socket_owner_layout import (
    ANCESTOR,
    ARGUMENTS,
    ARGUMENTS_ARE_CUT,
    ARGUMENTS_LENGTH,
    BUSY,
    COOKIE,
    DENTRY,
    DEPTH,
    FLAGS,
    HAS_ARGUMENTS,
    INDEX,
    IS_DELETED,
    KEY,
    LEVEL,
    MAX_ARGUMENTS,
    MAX_DEPTH,
    MAX_NAME,
    MAX_PATH,
    MAX_STEPS,
    MEMORY,
    MOUNT,
    NAME,
    PARENT,
    PARENT_KEY,
    PATH,
    PATH_IS_CUT,
    PATH_LENGTH,
    PID,
    SCRATCH_SLOTS,
    SLOTS_EACH,
    STEPS,
    UPID_SIZE,
    USER,
    VALUE,
    MapNumbers,
)


class ProcessProgram:
    """Writes a program for one kernel: `offsets` of MEMBERS, and the depth of our own pid namespace."""

    def __init__(self, maps: MapNumbers, offsets: Mapping[str, int], pid_level: int = 0) -> None:
        self._maps, self._offsets, self._level = maps, offsets, pid_level
        self.code = Assembly()

    # --- small parts

    def _end(self, label: str) -> bytes:
        """1 allows what the program was asked for."""
        self.code.label(label)
        self.code.set(R0, 1)
        self.code.exit()
        return self.code.assemble()

    def _read(self, target: int, base: Register, member: str, size: int = 8) -> None:
        """Copy a member of the structure at `base` to the stack; zeros if it cannot be read."""
        self._read_at(target, base, self._offsets[member], size)

    def _read_at(self, target: int, base: Register, offset: int, size: int) -> None:
        code = self.code
        code.set_address(R3, base, offset)
        code.set_address(R1, R10, target)
        code.set(R2, size)
        code.call(PROBE_READ_KERNEL)

    def _arguments(self, number: int, key: int) -> None:
        self.code.set_map(R1, number)
        self.code.set_address(R2, R10, key)

    def _look_up(self, number: int, key: int) -> None:
        self._arguments(number, key)
        self.code.call(MAP_LOOKUP)

    def _cookie(self) -> None:
        self.code.set(R1, R6)
        self.code.call(GET_SOCKET_COOKIE)
        self.code.store(R10, COOKIE, R0)

    def _update_owner(self) -> None:
        self._arguments(self._maps.owners, COOKIE)
        self.code.set_address(R3, R10, KEY)
        self.code.set(R4, 0)
        self.code.call(MAP_UPDATE)

    def _process_key(self, target: int, leader: Register) -> None:
        """`start, execs, thread group, 0` of the group whose leader's task is given."""
        self._read(target, leader, "task_struct.start_boottime")
        self._read(target + 8, leader, "task_struct.self_exec_id")
        self._read(target + 16, leader, "task_struct.tgid", 4)
        self.code.store(R10, target + 20, 0, 4)

    # --- who calls

    def _current_process(self, nobody: str) -> None:
        """KEY and USER of the calling process, which `processes` describes afterwards. r7, r8, r9 are lost.

        The kernel's own threads have no memory of their own: they own nothing, and `nobody` is jumped to.
        """
        code = self.code
        code.call(GET_CURRENT_TASK)
        code.set(R7, R0)
        self._read(MEMORY, R7, "task_struct.mm")
        code.load(R1, R10, MEMORY)
        code.jump_if("==", R1, 0, nobody)
        self._read(VALUE, R7, "task_struct.group_leader")
        code.load(R8, R10, VALUE)
        self._process_key(KEY, R8)
        self._look_up(self._maps.processes, KEY)
        code.jump_if("==", R0, 0, "unknown process")
        code.load(R1, R0, FLAGS)
        code.calculate("&", R1, HAS_ARGUMENTS)  # without: it was noted as an ancestor
        code.jump_if("!=", R1, 0, "known process")
        code.label("unknown process")
        self._describe_with_ancestors()
        code.call(GET_CURRENT_TASK)
        code.set(R7, R0)
        code.label("known process")
        self._read(VALUE, R7, "task_struct.cred")
        code.load(R8, R10, VALUE)
        self._read(USER, R8, "cred.euid", 4)

    def _describe_with_ancestors(self) -> None:
        """Add the process KEY, whose leader's task is r8 and memory is MEMORY, and all unknown ones above it."""
        code = self.code
        code.set(R7, R8)
        self._take_scratch("described")
        code.store(R10, DEPTH, 0)
        for offset in (0, 8, 16):
            code.load(R1, R10, KEY + offset)
            code.store(R10, ANCESTOR + offset, R1)
        code.label("describe")
        self._describe()
        self._arguments(self._maps.processes, ANCESTOR)
        code.set(R3, R8)
        code.set(R4, 0)
        code.call(MAP_UPDATE)
        code.load(R1, R10, DEPTH)
        code.calculate("+", R1, 1)
        code.jump_if(">", R1, MAX_DEPTH, "release scratch")
        code.store(R10, DEPTH, R1)
        for offset in (0, 8, 16):
            code.load(R1, R10, PARENT_KEY + offset)
            code.store(R10, ANCESTOR + offset, R1)
        code.load(R1, R10, ANCESTOR + 16, 4)
        code.jump_if("==", R1, 0, "release scratch")  # the idle task, from which all descend
        self._look_up(self._maps.processes, ANCESTOR)
        code.jump_if("==", R0, 0, "describe")
        code.label("release scratch")
        code.set(R1, 0)
        code.store(R8, BUSY, R1)
        code.label("described")

    def _take_scratch(self, none_free: str) -> None:
        """r8 = a slot of this processor's that no preempted program holds."""
        code = self.code
        code.call(GET_PROCESSOR)
        code.calculate("&", R0, SCRATCH_SLOTS // SLOTS_EACH - 1)
        code.calculate("<<", R0, SLOTS_EACH.bit_length() - 1)
        code.set(R9, R0)
        for attempt in range(SLOTS_EACH):
            code.store(R10, INDEX, R9, 4)
            self._look_up(self._maps.scratch, INDEX)
            code.jump_if("==", R0, 0, none_free)
            code.set(R8, R0)
            code.set(R1, 1)
            code.exchange(R8, BUSY, R1)
            code.jump_if("==", R1, 0, "slot taken")
            if attempt < SLOTS_EACH - 1:
                code.calculate("+", R9, 1)
        code.jump(none_free)
        code.label("slot taken")

    def _describe(self) -> None:
        """Fill the slot r8 for the leader's task r7 with memory MEMORY; then these and PARENT_KEY are its parent's."""
        code = self.code
        for offset in (PATH_LENGTH, FLAGS):  # and ARGUMENTS_LENGTH
            code.store(R8, offset, 0)
        self._numbers()
        code.set_address(R1, R8, NAME)
        code.set(R2, 16)
        code.set_address(R3, R7, self._offsets["task_struct.comm"])
        code.call(PROBE_READ_KERNEL)
        code.load(R1, R10, DEPTH)
        code.jump_if("!=", R1, 0, "no arguments")  # only the caller's memory can be read
        self._program_arguments()
        code.label("no arguments")
        self._executable()
        self._read(VALUE, R7, "task_struct.real_parent")
        code.load(R9, R10, VALUE)
        self._read(MEMORY, R9, "task_struct.mm")
        self._read(VALUE, R9, "task_struct.group_leader")
        code.load(R7, R10, VALUE)
        self._process_key(PARENT_KEY, R7)
        for offset in (0, 8, 16):
            code.load(R1, R10, PARENT_KEY + offset)
            code.store(R8, PARENT + offset, R1)

    def _numbers(self) -> None:
        """The process's number in our pid namespace (0 if it is not seen there), and the depth of its own."""
        code = self.code
        self._read(VALUE, R7, "task_struct.thread_pid")
        code.load(R9, R10, VALUE)
        code.store(R10, VALUE, 0)
        self._read(VALUE, R9, "pid.level", 4)
        code.load(R1, R10, VALUE, 4)
        code.store(R8, LEVEL, R1, 4)
        code.store(R8, PID, 0, 4)
        code.jump_if("<", R1, self._level, "not seen here")
        self._read_at(VALUE, R9, self._offsets["pid.numbers"] + self._level * UPID_SIZE, 4)
        code.load(R1, R10, VALUE, 4)
        code.store(R8, PID, R1, 4)
        code.label("not seen here")

    def _program_arguments(self) -> None:
        """The command line, as far as it fits; none if its memory is not there at this moment."""
        code = self.code
        code.load(R9, R10, MEMORY)
        code.store(R8, FLAGS, HAS_ARGUMENTS, 4)
        self._read(VALUE, R9, "mm_struct.arg_end")
        self._read(STEPS, R9, "mm_struct.arg_start")
        code.load(R9, R10, VALUE)
        code.load(R3, R10, STEPS)
        code.calculate("-", R9, R3)
        code.jump_if("<=", R9, MAX_ARGUMENTS, "arguments fit")
        code.set(R9, MAX_ARGUMENTS)
        code.store(R8, FLAGS, HAS_ARGUMENTS | ARGUMENTS_ARE_CUT, 4)
        code.label("arguments fit")
        code.set(R2, R9)
        code.set_address(R1, R8, ARGUMENTS)
        code.call(PROBE_READ_USER)
        code.jump_if("!=", R0, 0, "arguments unread")
        code.store(R8, ARGUMENTS_LENGTH, R9, 4)
        code.label("arguments unread")

    def _executable(self) -> None:
        """The program's path, from its end to its root, over mounts (prepend_path() in fs/d_path.c)."""
        code = self.code
        code.load(R9, R10, MEMORY)
        code.jump_if("==", R9, 0, "path ends")
        self._read(VALUE, R9, "mm_struct.exe_file")
        code.load(R9, R10, VALUE)
        code.jump_if("==", R9, 0, "path ends")
        for member, place in (("file.f_path.mnt", MOUNT), ("file.f_path.dentry", DENTRY)):
            self._read(VALUE, R9, member)
            code.load(R1, R10, VALUE)
            code.store(R10, place, R1)
        self._read(VALUE, R1, "dentry.d_hash.pprev")
        code.load(R1, R10, VALUE)
        code.jump_if("!=", R1, 0, "path is there")
        self._set_flag(IS_DELETED)
        code.label("path is there")
        code.store(R10, STEPS, 0)
        code.label("path goes on")
        self._path_step()
        code.label("path ends")

    def _path_step(self) -> None:
        """One name, or one step from a mounted file system to where it is mounted.

        What changes from step to step is kept where the verifier knows nothing of it (the length in the record, the
        pointers as plain numbers): all ways through one step then lead to the same state, and it follows only one.
        """
        code, offsets = self.code, self._offsets
        code.load(R1, R10, STEPS)
        code.calculate("+", R1, 1)
        code.store(R10, STEPS, R1)
        code.jump_if(">", R1, MAX_STEPS, "path is cut")
        code.load(R9, R10, DENTRY)
        code.load(R1, R10, MOUNT)
        self._read_at(VALUE, R1, offsets["vfsmount.mnt_root"], 8)
        code.load(R1, R10, VALUE)
        code.jump_if("!=", R1, R9, "name")
        self._mount_step()
        code.label("name")
        self._read_at(VALUE, R9, offsets["dentry.d_name.name"], 8)
        code.load(R2, R8, PATH_LENGTH, 4)
        code.jump_if(">", R2, MAX_PATH - MAX_NAME, "path is cut")
        code.set_address(R1, R8, PATH)
        code.calculate("+", R1, R2)
        code.set(R2, MAX_NAME)
        code.load(R3, R10, VALUE)
        code.call(PROBE_READ_KERNEL_STRING)
        code.jump_if("s<=", R0, 0, "path is cut")
        code.load(R1, R8, PATH_LENGTH, 4)
        code.calculate("+", R1, R0)
        code.store(R8, PATH_LENGTH, R1, 4)
        self._read_at(VALUE, R9, offsets["dentry.d_parent"], 8)
        code.load(R1, R10, VALUE)
        code.store(R10, DENTRY, R1)
        code.jump_if("!=", R1, R9, "path goes on")  # its own parent: a file that has no path, as of memfd_create(2)
        code.jump("path ends")
        code.label("path is cut")
        self._set_flag(PATH_IS_CUT)

    def _mount_step(self) -> None:
        """From the root of a mounted file system to its mount point; the root of the mount namespace ends the path."""
        code, offsets = self.code, self._offsets
        code.load(R1, R10, MOUNT)
        self._read_at(VALUE, R1, offsets["mount.mnt_parent"] - offsets["mount.mnt"], 8)
        code.load(R1, R10, VALUE)
        code.calculate("+", R1, offsets["mount.mnt"])
        code.load(R2, R10, MOUNT)
        code.jump_if("==", R1, R2, "path ends")
        code.store(R10, MOUNT, R1)
        self._read_at(VALUE, R2, offsets["mount.mnt_mountpoint"] - offsets["mount.mnt"], 8)
        code.load(R1, R10, VALUE)
        code.store(R10, DENTRY, R1)
        code.jump("path goes on")

    def _set_flag(self, flag: int) -> None:
        self.code.load(R1, R8, FLAGS, 4)
        self.code.calculate("|", R1, flag)
        self.code.store(R8, FLAGS, R1, 4)
