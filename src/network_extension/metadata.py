"""Who made a flow: the process, its parents, and the identity of its program (NEFlowMetaData, reference
§2.11, F11-F14).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

MAX_PARENTS = 64
_CHUNK = 1 << 20


class ParentProcess(NamedTuple):
    """One step up the chain of parents."""

    pid: int
    executable: str


class ProcessInfo(NamedTuple):
    """A process as it was when its flow began.

    `pid` and `start_time` (clock ticks since boot, field 22 of /proc/PID/stat) together name it for good:
    they are what Apple's audit token is for. `executable` is the full path, `arguments` the command line with
    the program's name first, `parents` the chain upwards, nearest first.
    """

    pid: int
    start_time: int = 0
    uid: int = 0
    executable: str = ""
    arguments: tuple[str, ...] = ()
    parents: tuple[ParentProcess, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the executable's path."""
        return self.executable.rpartition("/")[2]

    def to_dict(self) -> dict[str, Any]:
        """The process as plain data."""
        return {
            "pid": self.pid,
            "start_time": self.start_time,
            "uid": self.uid,
            "executable": self.executable,
            "arguments": list(self.arguments),
            "parents": [{"pid": parent.pid, "executable": parent.executable} for parent in self.parents],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProcessInfo:
        """The process that `to_dict` described; what is absent or of a wrong type stays at its default."""
        parents = data.get("parents")
        arguments = data.get("arguments")
        return cls(
            _number(data, "pid"),
            _number(data, "start_time"),
            _number(data, "uid"),
            _text(data, "executable"),
            tuple(item for item in arguments if isinstance(item, str)) if isinstance(arguments, list) else (),
            tuple(
                ParentProcess(_number(item, "pid"), _text(item, "executable"))
                for item in (parents[:MAX_PARENTS] if isinstance(parents, list) else ())
                if isinstance(item, Mapping)
            ),
        )


class FlowMetadata:
    """The source of a flow. `process` is None where it could not be found (it ended before it was looked
    up).
    """

    __slots__ = ("name_source", "process")

    def __init__(self, process: ProcessInfo | None = None, name_source: str | None = None) -> None:
        self.process = process
        self.name_source = name_source
        """What told the flow's host name: "dns" when the name comes from an answer that the runtime
        served.
        """

    @property
    def source_app_signing_identifier(self) -> str:
        """The program's identifier; on Linux the name of its executable. Empty if the process is not
        known.
        """
        return self.process.name if self.process else ""

    @property
    def source_app_audit_token(self) -> tuple[int, int, int] | None:
        """(pid, start time, uid): names one process for good, as pid numbers come again."""
        return (self.process.pid, self.process.start_time, self.process.uid) if self.process else None

    @property
    def source_app_unique_identifier(self) -> bytes:
        """SHA-256 of the program's file, which changes with each build; empty if it cannot be read.

        Worked out when asked for (about 2 ms for each MiB, then remembered): do not ask on each flow without
        need.
        """
        return executable_digest(self.process) if self.process else b""

    def __repr__(self) -> str:
        if self.process is None:
            return "<FlowMetadata of an unknown process>"
        return f"<FlowMetadata {self.process.name}[{self.process.pid}]>"


_digests: dict[tuple[int, int, int, int], bytes] = {}


def executable_digest(process: ProcessInfo) -> bytes:
    """SHA-256 of a process's executable, 32 bytes, or b"" if it cannot be read.

    /proc/PID/exe is read while the process lives, since its path may mean another file in our mount
    namespace.
    """
    for path in (f"/proc/{process.pid}/exe", process.executable):
        try:
            if path.startswith("/proc/") and os.readlink(path) != process.executable:
                continue  # the number was given to another process since
            return _file_digest(path)
        except OSError:
            continue
    return b""


def _file_digest(path: str) -> bytes:
    import hashlib  # takes 5 ms to import, and few providers ask

    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        known = _digests.get(key)
        if known is None:
            digest = hashlib.sha256()
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
            known = _digests[key] = digest.digest()
        return known


def _number(data: Mapping[str, Any], key: str) -> int:
    value = data.get(key)
    return value if type(value) is int and value >= 0 else 0


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""
