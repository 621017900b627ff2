"""The two files in which a system says what names mean. One that is missing or unreadable is an empty one."""

from __future__ import annotations

LONGEST = 1 << 20


def hosts_file() -> str:
    """/etc/hosts, its first MiB."""
    return _read("/etc/hosts")


def resolv_conf() -> str:
    """/etc/resolv.conf as it is now, its first MiB."""
    return _read("/etc/resolv.conf")


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read(LONGEST)
    except OSError:
        return ""
