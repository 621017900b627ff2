"""Runs a function in a child process, in namespaces of its own if need be, and never waits longer than agreed.

For what may crash, hang, or change the process that it runs in: the doctor's probes, and the stage of the demo.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import DatapathError, ExitCode
from . import namespaces

MOST_ANSWER = 1 << 20


class TimedOut(DatapathError):
    """The child did not answer in time, and was ended."""


def isolated(action: Callable[[], Any], timeout: float, flags: int = 0) -> Any:
    """What `action` returns, which must be fit for JSON; `timeout` in seconds.

    `flags` are those of the namespaces to make (CLONE_*); with CLONE_NEWUSER the identity is mapped as in a sandbox.
    Raises DatapathError for whatever the action raised, with its errno, and `TimedOut`.
    """
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    child = os.fork()
    if child == 0:
        mine.close()
        _be_child(action, theirs, flags)
    theirs.close()
    try:
        return _result(mine, child, time.monotonic() + timeout, bool(flags & namespaces.CLONE_NEWUSER))
    finally:
        mine.close()
        _end(child)


def _be_child(action: Callable[[], Any], report: socket.socket, flags: int) -> NoReturn:
    try:
        os.setsid()
        namespaces.process_control(namespaces.PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if flags:
            namespaces.unshare(flags)
        if flags & namespaces.CLONE_NEWUSER:
            report.sendall(b"map\n")
            if report.recv(1) != b"m":
                os._exit(1)
        answer = json.dumps({"result": action()})
    except DatapathError as error:
        answer = json.dumps({"error": str(error), "errno": error.errno, "exit_code": int(error.exit_code)})
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        answer = json.dumps({"error": f"{where}{error.strerror or error}", "errno": error.errno or 0})
    except BaseException as error:
        answer = json.dumps({"error": f"{type(error).__name__}: {error}", "errno": 0})
    try:
        report.sendall(answer.encode())
    finally:
        os._exit(0)


def _result(report: socket.socket, child: int, deadline: float, maps: bool) -> Any:
    data = b""
    while True:
        if not select.select([report], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimedOut("no answer in time")
        part = report.recv(65536)
        data += part
        if maps and data == b"map\n":
            namespaces.map_identity(child, os.getuid(), os.getgid())
            report.sendall(b"m")
            data, maps = b"", False
        elif not part or len(data) > MOST_ANSWER:
            break
    if not data:
        raise DatapathError("the probe's process died")
    answer = json.loads(data)
    if "error" in answer:
        code = answer.get("exit_code", ExitCode.DATAPATH)
        raise DatapathError(answer["error"], errno=answer["errno"], exit_code=code)
    return answer["result"]


def _end(child: int) -> None:
    """End the child and its process group; it may have ended by itself."""
    for target in (-child, child):
        try:
            os.kill(target, signal.SIGKILL)
        except OSError:
            pass
    os.waitpid(child, 0)
