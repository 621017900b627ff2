"""The status of a URL filter (NEURLFilterManager.Status) and how it changes. Sans-IO.

    INVALID ──configured──▶ STOPPED ──start──▶ STARTING ──started──▶ RUNNING
       ▲                     │  ▲  ▲              │ failed              │ stop, failed
       └──────removed────────┘  │  └──────────────┘                     ▼
                                └───────────── stopped ───────────── STOPPING

A service that cannot be reached does not change the status: lookups find their own way back, and what they cannot
answer is a matter of `should_fail_closed`. Only what cannot heal by itself ends the filter, with
`last_disconnect_error`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum

from .url_filter_errors import URLFilterError, URLFilterErrorCode


class Status(IntEnum):
    """NEURLFilterManager.Status by its raw values."""

    INVALID = 0
    """There is no configuration."""
    STOPPED = 1
    STARTING = 2
    RUNNING = 3
    STOPPING = 4


class StatusEvent(Enum):
    """What changes a status."""

    CONFIGURED = "configured"
    REMOVED = "removed"
    START = "start"
    STARTED = "started"
    FAILED = "failed"
    STOP = "stop"
    STOPPED = "stopped"


TRANSITIONS: Mapping[tuple[Status, StatusEvent], Status] = {
    (Status.INVALID, StatusEvent.CONFIGURED): Status.STOPPED,
    (Status.STOPPED, StatusEvent.CONFIGURED): Status.STOPPED,
    (Status.STOPPED, StatusEvent.REMOVED): Status.INVALID,
    (Status.STOPPED, StatusEvent.START): Status.STARTING,
    (Status.STARTING, StatusEvent.STARTED): Status.RUNNING,
    (Status.STARTING, StatusEvent.FAILED): Status.STOPPED,
    (Status.STARTING, StatusEvent.STOP): Status.STOPPING,
    (Status.RUNNING, StatusEvent.STOP): Status.STOPPING,
    (Status.RUNNING, StatusEvent.FAILED): Status.STOPPING,
    (Status.STOPPING, StatusEvent.STOPPED): Status.STOPPED,
}
"""What is not here cannot happen."""


def status_after(status: Status, event: StatusEvent) -> Status:
    """The next status. Raises URLFilterError (INTERNAL_ERROR) for an event that cannot happen now."""
    following = TRANSITIONS.get((status, event))
    if following is None:
        text = f"URL filter: {event.value!r} cannot happen while it is {status.name.lower()}"
        raise URLFilterError(URLFilterErrorCode.INTERNAL_ERROR, text)
    return following
