"""The service's log: JSON lines, one for each event, on standard error.

Whoever writes a line passes fields of its own making. Nothing that a request holds is among them: not its headers, its
body, its query string, its path (the route is named instead), nor the address it came from.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

Field = str | int | float | bool | None | list[str]


def now() -> float:
    """Seconds since 1970. The default of what is called `clock` in this package."""
    return datetime.now(UTC).timestamp()


class EventLog:
    """Writes events to `stream`, each as one write of one line, so that processes may share it."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = now) -> None:
        self._stream = stream
        self._clock = clock

    def write(self, event: str, *, level: str = "info", **fields: Field) -> None:
        """One line: time, level, event, then the fields that are not None."""
        time = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        line: dict[str, Field] = {"time": time, "level": level, "event": event}
        line |= {name: value for name, value in fields.items() if value is not None}
        stream = self._stream if self._stream is not None else sys.stderr
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        stream.flush()
