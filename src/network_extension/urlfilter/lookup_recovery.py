"""What a client does when a step of a lookup fails: forget something, wait, try again, or give up. Sans-IO.

A private lookup takes up to five steps, each an exchange with the service (specification §1.1):

    ISSUER ──▶ TOKENS ──▶ CONFIGURATION ──▶ KEY ──▶ QUERY
    the key of   anonymous   what the database   the evaluation   the question
    the issuer   tokens      looks like          key is stored    itself

Each rests on what the ones before it have brought, and a service that was restarted, updated or restored may have
forgotten any of that. Its answer says which (§1.2): 401 the token, 410 the configuration, 400 "Evaluation key not
found" the key. Apple's clients show error 9 then until somebody connects anew; here the remedy is to forget exactly
what the service has forgotten and to go on at once: `LookupSession` then finds the step to go back to.

Rule 1: what to forget, and how soon to try again, depends on the step and its outcome only: `REACTIONS` has it all.
Rule 2: only what cannot heal by itself ends a lookup at once (`Pace.NEVER`): a user token that the issuer refuses, a
use case that the service does not have, an answer of something that is no such service.
Rule 3: nothing is repeated without bounds. The patience of a lookup, in seconds, bounds all of it; at most
`MOST_AT_ONCE` tries come without a pause, and pauses grow to `LONGEST_PAUSE`, unless the service names one itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, Flag, auto
from typing import NamedTuple

MOST_AT_ONCE = 12
"""Recoveries without a pause in one lookup: more than one for each step and each thing that can be forgotten."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds. The first lost connection is tried again at once: a server that restarts has closed all idle ones."""
KEY_NOT_FOUND = "Evaluation key not found"
"""Apple's text for a 400 that means: upload the key again (§1.2)."""


class Stage(Enum):
    """The step of a lookup that an answer belongs to."""

    ISSUER = "issuer"
    TOKENS = "tokens"
    CONFIGURATION = "config"
    KEY = "key"
    QUERY = "query"


class Outcome(Enum):
    """How a step failed."""

    LOST = "no answer"
    """Refused, reset, timed out, or the relay could not reach the service."""
    BUSY = "busy"
    UNAUTHORIZED = "unauthorized"
    GONE = "gone"
    KEY_MISSING = "evaluation key not found"
    NOT_FOUND = "not found"
    UNPROCESSABLE = "unprocessable"
    REFUSED = "refused"
    """Any other 4xx."""
    FAULT = "server fault"
    """Any other 5xx."""
    UNREADABLE = "unreadable"
    """Answered with 200, and what came cannot be read or does not hold what it must."""


class Forget(Flag):
    """What a client holds and must not use again."""

    NOTHING = 0
    TOKENS = auto()
    """With the issuer's key that they were made under."""
    CONFIGURATION = auto()
    UPLOAD = auto()
    """That the service has the evaluation key."""


class Pace(Enum):
    """How soon to try again."""

    AT_ONCE = "at once"
    BACK_OFF = "after a pause"
    NEVER = "never"


class Reaction(NamedTuple):
    """What follows from an outcome."""

    forget: Forget
    pace: Pace


_GIVE_UP = Reaction(Forget.NOTHING, Pace.NEVER)
_WAIT = Reaction(Forget.NOTHING, Pace.BACK_OFF)
_NEW_TOKENS = Reaction(Forget.TOKENS, Pace.AT_ONCE)
_NEW_CONFIGURATION = Reaction(Forget.CONFIGURATION, Pace.AT_ONCE)

REACTIONS: Mapping[tuple[Stage, Outcome], Reaction] = {
    **{(stage, outcome): _GIVE_UP for stage in Stage for outcome in Outcome},
    **{(stage, outcome): _WAIT for stage in Stage for outcome in (Outcome.LOST, Outcome.BUSY, Outcome.FAULT)},
    # The issuer's key has changed between its directory and our request: other keys, another signature.
    (Stage.TOKENS, Outcome.UNPROCESSABLE): _NEW_TOKENS,
    (Stage.TOKENS, Outcome.REFUSED): _NEW_TOKENS,
    (Stage.TOKENS, Outcome.UNREADABLE): _NEW_TOKENS,
    # A token of keys that the service does not have any more, or one that it has seen.
    (Stage.CONFIGURATION, Outcome.UNAUTHORIZED): _NEW_TOKENS,
    (Stage.KEY, Outcome.UNAUTHORIZED): _NEW_TOKENS,
    (Stage.QUERY, Outcome.UNAUTHORIZED): _NEW_TOKENS,
    # Another database: a key that does not fit it, a configuration that is gone, an answer of another shape.
    (Stage.KEY, Outcome.REFUSED): _NEW_CONFIGURATION,
    (Stage.KEY, Outcome.GONE): _NEW_CONFIGURATION,
    (Stage.QUERY, Outcome.GONE): _NEW_CONFIGURATION,
    (Stage.QUERY, Outcome.REFUSED): _NEW_CONFIGURATION,
    (Stage.QUERY, Outcome.UNREADABLE): _NEW_CONFIGURATION,
    (Stage.QUERY, Outcome.KEY_MISSING): Reaction(Forget.UPLOAD, Pace.AT_ONCE),
}
"""Every outcome of every step. Read it with rule 2: whatever is not named below the first two lines ends the lookup."""


class Retry(NamedTuple):
    """Forget, wait, and ask the session what to do next."""

    forget: Forget
    delay: float
    """Seconds; 0 for at once."""


class GiveUp(NamedTuple):
    """The lookup ends without an answer."""

    is_permanent: bool
    """Whether the same will happen again until somebody changes something: Apple's serverSetupIncomplete."""


def outcome_of(status: int, body: bytes = b"") -> Outcome | None:
    """What an HTTP status means; None for success. `body` tells a missing key from other refusals (§1.2)."""
    if status == 400 and KEY_NOT_FOUND.encode() in body:
        return Outcome.KEY_MISSING
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 200 <= status < 300:
        return None
    return Outcome.FAULT if status >= 500 else Outcome.REFUSED


_BY_STATUS: Mapping[int, Outcome | None] = {
    401: Outcome.UNAUTHORIZED,
    404: Outcome.NOT_FOUND,
    410: Outcome.GONE,
    422: Outcome.UNPROCESSABLE,
    429: Outcome.BUSY,
    502: Outcome.LOST,  # of a relay or gateway: nobody is behind it now
    503: Outcome.BUSY,
    504: Outcome.LOST,
}


class Recovery:
    """The failures of one lookup so far. `fraction` gives random numbers from 0 to 1, so that clients that failed
    together do not come back together.
    """

    __slots__ = ("_at_once", "_deadline", "_fraction", "_pauses", "_unreadable")

    def __init__(self, now: float, patience: float, fraction: Callable[[], float]) -> None:
        self._deadline = now + patience
        self._fraction = fraction
        self._at_once = self._pauses = self._unreadable = 0

    def after(self, stage: Stage, outcome: Outcome, now: float, retry_after: float | None = None) -> Retry | GiveUp:
        """What to do after a step failed; `retry_after` is the service's own wish in seconds, if it has one."""
        reaction = REACTIONS[stage, outcome]
        if outcome is Outcome.UNREADABLE:
            self._unreadable += 1
        # A second answer that cannot be read is no accident of a restart any more.
        if reaction.pace is Pace.NEVER or self._unreadable > 1:
            return GiveUp(is_permanent=True)
        delay = self._delay(reaction.pace, outcome, retry_after)
        return Retry(reaction.forget, delay) if now + delay <= self._deadline else GiveUp(is_permanent=False)

    def _delay(self, pace: Pace, outcome: Outcome, retry_after: float | None) -> float:
        if pace is Pace.AT_ONCE and self._at_once < MOST_AT_ONCE:
            self._at_once += 1
            return 0.0
        self._pauses += 1
        if retry_after is not None:
            return retry_after * (1 + self._fraction() / 10)
        if self._pauses == 1 and outcome is Outcome.LOST:
            return 0.0
        longest = min(FIRST_PAUSE * 2.0 ** min(self._pauses - 1, 16), LONGEST_PAUSE)
        return longest * (1 + self._fraction()) / 2
