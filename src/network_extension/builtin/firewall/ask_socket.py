"""Where the sockets are on which firewalls ask, and what is said on them.

Each line is a JSON object. From the firewall:

    {"type": "welcome", "pid": …, "version": 1}
    {"type": "question", "id": …, "program": …, …, "flows": n, "seconds_left": s}     new, or changed
    {"type": "gone", "id": …, "how": "answered" | "unanswered" | "decided", "by": …}
    {"type": "listed"}                         all open questions have been sent
    {"type": "answered", "id": …, "text": …}   to the one who answered
    {"type": "error", "text": …, "id": …}

To it: {"type": "answer", "id": …, "action": …, "for": …, "scope": …} and {"type": "list"}. Who connects sees all open
questions, then each new one.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from typing import Any

from ...errors import ConfigurationError
from .facts import FlowFacts

VERSION = 1
MOST_LINE = 65536
_OURS = re.compile(r"netext-\d+\Z")
_NAME = re.compile(r"ask-\d+\.sock\Z")


def directories(uid: int) -> list[str]:
    """Where a user's firewalls put their sockets, in the order of preference."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    found = [f"{runtime}/netext"] if runtime.startswith("/") and _is_of(runtime, uid) else []
    found += ["/run/netext"] if uid == 0 else [f"/run/user/{uid}/netext"]
    return list(dict.fromkeys([*found, f"/tmp/netext-{uid}"]))


def make_directory() -> str:
    """The directory for our socket, made if need be, which nobody else may enter. Raises ConfigurationError."""
    uid = os.geteuid()
    problem = ""
    for path in directories(uid):
        try:
            os.makedirs(path, 0o700, exist_ok=True)
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid:
                raise OSError(errno.EPERM, "it is another user's, or no directory")
            if status.st_mode & 0o077:
                os.chmod(path, 0o700)
            if os.access(path, os.W_OK | os.X_OK):
                return path
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            problem = f"{path}: {error.strerror}"
    raise ConfigurationError(f"no place for the socket of questions ({problem}); give --config ask_socket=PATH")


def remove_stale(directory: str) -> list[str]:
    """Remove sockets in a directory on which nobody listens any more; those that are left."""
    living = []
    for path in _sockets_in(directory):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(path)
                living.append(path)
            except ConnectionRefusedError:
                try:
                    os.unlink(path)
                except OSError:
                    pass
            except OSError:
                living.append(path)
    return living


def find_sockets() -> list[str]:
    """The sockets of all firewalls that we may answer: our own, and as root everybody's."""
    uid = os.geteuid()
    places = directories(uid)
    if uid == 0:
        places += [f"/run/user/{name}/netext" for name in _names_in("/run/user")]
        places += [f"/tmp/{name}" for name in _names_in("/tmp") if _OURS.match(name)]
    found = [path for place in dict.fromkeys(places) for path in _sockets_in(place)]
    return list(dict.fromkeys(found))


def _sockets_in(directory: str) -> list[str]:
    try:
        # A directory in /tmp could be anybody's, who would then hear our answers
        if os.lstat(directory).st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
            return []
    except OSError:
        return []
    return [os.path.join(directory, name) for name in _names_in(directory) if _NAME.match(name)]


def _names_in(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _is_of(path: str, uid: int) -> bool:
    try:
        return os.stat(path).st_uid == uid
    except OSError:
        return False


def describe(identifier: str, facts: FlowFacts, flows: int, seconds_left: float) -> dict[str, Any]:
    """A question as it is sent."""
    process = facts.process
    return {
        "type": "question",
        "id": identifier,
        "program": facts.program,
        "arguments": list(process.arguments)[:64] if process else [],
        "parents": [step.executable for step in process.parents][:8] if process else [],
        "pid": process.pid if process else 0,
        "uid": facts.uid,
        "host": facts.host,
        "address": facts.address_text,
        "port": facts.port,
        "protocol": facts.protocol_name,
        "direction": "outbound" if facts.is_outbound else "inbound",
        "interface": facts.interface,
        "flows": flows,
        "seconds_left": round(max(0.0, seconds_left), 1),
    }
