"""What a user reads: one line for each flow, states of providers, and a summary. Or the same as JSON Lines.

It all goes to standard error, since standard output belongs to the command, or to a file of its own (`--log`), which a
program that reads JSON Lines will prefer: the command writes to standard error too.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from ..core.packets import protocol_name
from ..errors import ConfigurationError
from ..metadata import ProcessInfo
from .intercepted import InterceptedFlow

wall_clock = time.time  # noqa: TID251 — time stamps for people; durations come from the monotonic clock
QUIET, LINES, JSON = "quiet", "lines", "json"


class FlowLog:
    """Writes to `descriptor` in one of three modes. `wall_clock` gives seconds since the epoch, for time stamps."""

    def __init__(self, mode: str, descriptor: int = 2, wall_clock: Callable[[], float] = wall_clock) -> None:
        self.mode, self._descriptor, self._wall_clock = mode, descriptor, wall_clock
        self.totals: dict[str, int] = {}
        self.bytes_out = self.bytes_in = 0

    def flow(self, flow: InterceptedFlow, now: float) -> None:
        """A flow has ended (`now` by the reactor's clock). What nobody has decided by then stays so: "undecided"."""
        flow.outcome = flow.outcome or "undecided"
        self.totals[flow.outcome] = self.totals.get(flow.outcome, 0) + 1
        self.bytes_out += flow.bytes_out
        self.bytes_in += flow.bytes_in
        if self.mode == LINES:
            self._line(self._flow_words(flow, now - flow.started_at))
        elif self.mode == JSON:
            self._json("flow", **flow_record(flow, now - flow.started_at))

    def opened(self, flow: InterceptedFlow) -> None:
        """A flow was decided; only JSON tells it before the end."""
        if self.mode == JSON:
            self._json("decision", **flow_record(flow, 0.0))

    def filtered(self, flow: Any, outcome: str) -> None:
        """What filters have decided is final; only JSON tells it before the end."""
        if self.mode == JSON:
            self._json("filter", **filter_record(flow, outcome))

    def note(self, text: str) -> None:
        """A line for people, of something that JSON tells otherwise."""
        if self.mode == LINES:
            self._line(text)

    def event(self, kind: str, text: str, **details: Any) -> None:
        """Something that is not a flow: a provider's state, a limit, a fault. Shown in every mode but quiet."""
        if self.mode == LINES:
            first, *more = text.rstrip().split("\n")  # a traceback, with the configuration `debug`
            self._line(first)
            for line in more:
                self._line(f"  | {line}")
        elif self.mode == JSON:
            self._json(kind, text=text, **details)

    def summary(self, seconds: float, queries: int) -> None:
        """The end of the run."""
        count = sum(self.totals.values())
        if self.mode == JSON:
            self._json(
                "summary",
                flows=count,
                outcomes=self.totals,
                out=self.bytes_out,
                **{"in": self.bytes_in},
                queries=queries,
            )
        elif self.mode == LINES and count:
            parts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(self.totals.items()))
            volume = f"{size_text(self.bytes_out)} out, {size_text(self.bytes_in)} in"
            self._line(
                f"{count} flow{'s' if count != 1 else ''} ({parts}), {volume}, {queries} DNS queries, {seconds:.1f} s"
            )

    def _flow_words(self, flow: InterceptedFlow, seconds: float) -> str:
        process = f"{flow.process.name}[{flow.process.pid}]" if flow.process else "?"
        decided = f"{flow.outcome} by {flow.by}" if flow.by else flow.outcome
        if flow.admitted_by and flow.outcome not in ("dropped", "remediated"):
            decided += f", allowed by {flow.admitted_by}"
        volume = f"↑{size_text(flow.bytes_out)} ↓{size_text(flow.bytes_in)} {duration_text(seconds)}"
        reason = f"  ({flow.reason})" if flow.reason and flow.by != flow.reason else ""
        return f"{process} → {destination_text(flow)} {flow.protocol}  {decided}  {volume}{reason}"

    def _line(self, text: str) -> None:
        if not text.isprintable():  # some of it comes from providers and from names: it must not move the cursor
            text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        now = self._wall_clock()
        stamp = time.strftime("%H:%M:%S", time.localtime(now))
        self._write(f"netext {stamp} {text}\n")

    def _json(self, event: str, **fields: Any) -> None:
        self._write(
            json.dumps({"event": event, "time": round(self._wall_clock(), 6)} | fields, separators=(",", ":")) + "\n"
        )

    def _write(self, text: str) -> None:
        try:
            os.write(self._descriptor, text.encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # nobody reads any more, or not just now: a log never stops the traffic


def open_log(path: str | None) -> int:
    """The descriptor to log to: the file's, emptied and opened for appending, or 2. Raises ConfigurationError.

    Several processes write to it; with O_APPEND each line stays whole (open(2)).
    """
    if path is None:
        return 2
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"--log {path}: {error.strerror}; name a file that you may write") from None


def destination_text(flow: Any) -> str:
    """The destination by name where it is known, with its port."""
    host, port = flow.remote
    host = flow.host or (f"[{host}]" if ":" in host else host)
    return f"{host}:{port}"


def flow_record(flow: InterceptedFlow, seconds: float) -> dict[str, Any]:
    """A flow as plain data: the JSON line."""
    return {
        "id": flow.id,
        "protocol": flow.protocol,
        "process": process_record(flow.process) if flow.process else None,
        "local": flow.local,
        "remote": flow.remote,
        "host": flow.host,
        "outcome": flow.outcome,
        "by": flow.by,
        "reason": flow.reason,
        "error": int(flow.error),
        "out": flow.bytes_out,
        "in": flow.bytes_in,
        "seconds": round(seconds, 6),
    } | ({"allowed_by": flow.admitted_by} if flow.admitted_by else {})


def filter_record(flow: Any, outcome: str) -> dict[str, Any]:
    """What filters have decided of a flow (a `FilteredFlow`) as plain data."""
    return {
        "id": flow.id,
        "protocol": protocol_name(flow.protocol_number),
        "direction": flow.direction.name.lower(),
        "process": process_record(flow.process) if flow.process else None,
        "local": flow.local,
        "remote": flow.remote,
        "host": flow.host,
        "name_source": flow.name_source,
        "url": flow.url,
        "interface": flow.interface,
        "outcome": outcome,
        "by": flow.by,
        "reason": flow.reason,
    }


def process_record(process: ProcessInfo) -> dict[str, Any]:
    """A process as plain data, without its arguments: command lines hold passwords, and logs are passed around."""
    return {key: value for key, value in process.to_dict().items() if key != "arguments"}


def size_text(count: int) -> str:
    """Bytes for people: 512 B, 1.5 KiB, 2.0 GiB."""
    if count < 1024:
        return f"{count} B"
    value = count / 1024
    for unit in "KMG":
        if value < 1023.95:  # what would be rounded to 1024.0 is one of the next unit
            return f"{value:.1f} {unit}iB"
        value /= 1024
    return f"{value:.1f} TiB"


def duration_text(seconds: float) -> str:
    """Seconds for people: 12 ms, 3.4 s, 2 min 5 s."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    return f"{round(seconds) // 60} min {round(seconds) % 60} s"
