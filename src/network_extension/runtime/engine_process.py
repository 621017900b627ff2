"""The process of an engine, whatever it serves: how it begins and ends, and what becomes of a fault in a callback."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from .channel import Channel
from .flow_log import FlowLog

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
"""Signals to the whole group are the supervisor's business: an engine ends when it is told to, or left alone."""


def be_engine(control: socket.socket, keep: set[int], serve: Callable[[Channel], None]) -> NoReturn:
    """Be an engine, in a freshly forked process; never returns. Only 0-2, `control` and `keep` stay open."""
    status = 1
    try:
        os.setsid()
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        _close_others(keep | {0, 1, 2, control.fileno()})
        serve(Channel(control))
        status = 0
    except KeyboardInterrupt:
        pass
    except BaseException as error:
        os.write(2, f"netext: the engine failed: {type(error).__name__}: {error}\n".encode())
        print_trace(error)
    finally:
        os._exit(status)


def report_fault(log: FlowLog, error: Exception) -> None:
    """A fault of ours in one callback: say it, and where it is. The other flows go on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "?"
    log.event("fault", f"fault in the engine at {place}: {type(error).__name__}: {error}; please report it")
    print_trace(error)


def print_trace(error: BaseException) -> None:
    """The whole traceback, for us: with NETEXT_DEBUG only."""
    if os.environ.get("NETEXT_DEBUG"):
        import traceback

        traceback.print_exception(error)


def _close_others(keep: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor not in keep:
            try:
                os.close(descriptor)
            except OSError:
                continue
