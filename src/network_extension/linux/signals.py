"""Signals as readable events that tell who sent them (signalfd(2)), for the supervisor's loop.

Who sent a signal matters: what the terminal sends (Ctrl-C) reaches the command by itself, since it is in the same
process group; what another program sends to `netext` alone has to be passed on.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Iterable
from typing import NamedTuple

_SFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_RECORD = 128  # sizeof(struct signalfd_siginfo)
_INFO = struct.Struct("=IiiI")


class Signal(NamedTuple):
    """One received signal."""

    number: int
    sender: int
    """The process that sent it, 0 for the kernel."""
    from_terminal: bool
    """Whether the kernel sent it, as it does for the keys of a terminal."""


class SignalReader:
    """Blocks `numbers` and makes them readable; `mask_before` is for children to restore."""

    def __init__(self, numbers: Iterable[int]) -> None:
        numbers = set(numbers)
        self.mask_before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        words = (ctypes.c_ulong * 16)()  # sigset_t of glibc: 1,024 bits
        for number in numbers:
            words[0] |= 1 << (number - 1)
        self._descriptor = int(ctypes.CDLL(None, use_errno=True).signalfd(-1, words, _SFD_FLAGS))
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "signalfd")

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._descriptor

    def read(self) -> list[Signal]:
        """All signals that came since."""
        found = []
        try:
            while data := os.read(self._descriptor, _RECORD * 16):
                for start in range(0, len(data), _RECORD):
                    number, _, code, pid = _INFO.unpack_from(data, start)
                    found.append(Signal(number, pid, code > 0))
        except BlockingIOError:
            pass
        return found


def restore(mask: Iterable[int]) -> None:
    """In a child before exec: the signal mask as it was, and the default action where Python had changed it."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
