"""One `netext filter` for each network namespace: a lock in /run/netext, which the kernel releases with its holder."""

from __future__ import annotations

import fcntl
import os

from ..errors import DatapathError

FOLDER = "/run/netext"


class HostFilterLock:
    """Held from construction to `release`. Raises DatapathError that names the pid of the holder."""

    def __init__(self) -> None:
        namespace = os.stat("/proc/self/ns/net").st_ino
        self._path = f"{FOLDER}/filter-{namespace}.lock"
        try:
            os.makedirs(FOLDER, 0o755, exist_ok=True)
            self._descriptor = self._take()
            self._sweep()
        except OSError as error:
            raise DatapathError(f"{self._path}: {error.strerror}", errno=error.errno, object=self._path) from None

    def _take(self) -> int:
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
                os.close(descriptor)
                raise DatapathError(
                    f"another netext filter runs in this network namespace (pid {holder or '?'})",
                    next_step=f"end that one first: kill {holder}" if holder else "end that one first",
                ) from None
            if _is_same(descriptor, self._path):  # else its last holder has just removed it
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                return descriptor
            os.close(descriptor)

    def _sweep(self) -> None:
        """Files of holders that were killed, whose namespace may be gone as well."""
        for name in os.listdir(FOLDER):
            path = f"{FOLDER}/{name}"
            if path != self._path and name.startswith("filter-"):
                _remove_if_free(path)

    def release(self) -> None:
        """Let others in, and leave no file."""
        try:
            os.unlink(self._path)
        except OSError:
            pass
        os.close(self._descriptor)


def _is_same(descriptor: int, path: str) -> bool:
    try:
        there = os.stat(path)
    except OSError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _remove_if_free(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_same(descriptor, path):
            os.unlink(path)
    except OSError:
        pass  # held
    finally:
        os.close(descriptor)
