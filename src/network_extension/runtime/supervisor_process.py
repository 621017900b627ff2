"""What a supervisor's process is, whatever it supervises: its limits, its children, and faults of its own."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

from ..errors import DatapathError, NetworkExtensionError
from .engine_process import print_trace


def raise_descriptor_limit() -> None:
    """Each flow takes descriptors of the engine, which has our limit: use all that this user may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def changed_children(options: int = 0) -> Iterator[tuple[int, int]]:
    """The children that have ended (with WUNTRACED: or stopped) since the last call: process id and wait status."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | options)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, status


def failure_of(error: Exception) -> NetworkExtensionError:
    """What a run ends with after a fault in one of the supervisor's callbacks: it does not go on half."""
    if isinstance(error, NetworkExtensionError):
        return error
    print_trace(error)
    return DatapathError(f"fault in the supervisor: {type(error).__name__}: {error}; please report it")
