"""What a URL filter says about a URL, and each step by which it came to that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, IntEnum
from typing import NamedTuple

from ..errors import NetworkExtensionError


class Verdict(IntEnum):
    """NEURLFilterVerdict by its raw values. Whoever asked must fail the request on DENY."""

    UNKNOWN = 1
    """No decision: the filter is off, or could not find out and fails open."""
    ALLOW = 2
    DENY = 3


class StepName(Enum):
    """The steps from a URL to a verdict, in their order."""

    FETCH = "fetch"
    """Of the prefilter: not once for each URL, but once a day."""
    FORMS = "forms"
    PREFILTER = "prefilter"
    CACHE = "cache"
    ISSUER = "issuer"
    TOKEN = "token"
    CONFIGURATION = "config"
    KEY = "key"
    QUERY = "query"
    VERDICT = "verdict"


class Step(NamedTuple):
    """One step as it went. A step that was repeated is there as often as it was tried."""

    name: StepName
    text: str
    """What came of it, in one line."""
    seconds: float
    is_well: bool = True
    details: tuple[str, ...] = ()
    """Further lines: the strings of the URL, the bits of the prefilter."""


class RunningStep:
    """A step under way: say with `text` what came of it."""

    __slots__ = ("details", "is_well", "text")

    def __init__(self) -> None:
        self.text, self.is_well = "", True
        self.details: tuple[str, ...] = ()


class StepLog:
    """The steps of one verdict. `clock` gives seconds."""

    __slots__ = ("_clock", "steps")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.steps: list[Step] = []

    @contextmanager
    def step(self, name: StepName) -> Iterator[RunningStep]:
        """Time a step, and note it at its end; one that raises is noted as gone wrong, with the error's text."""
        running, began = RunningStep(), self._clock()
        try:
            yield running
        except BaseException as error:
            running.is_well = False
            running.text = running.text or str(error) or type(error).__name__
            raise
        finally:
            seconds = self._clock() - began
            self.steps.append(Step(name, running.text, seconds, running.is_well, running.details))


class VerdictReport(NamedTuple):
    """A verdict, and how it was found."""

    url: str
    verdict: Verdict
    steps: tuple[Step, ...] = ()
    matched: str | None = None
    """The string of the URL that the list has."""
    error: NetworkExtensionError | None = None
    """Why nothing could be found out. With `should_fail_closed` the verdict is DENY nevertheless."""

    @property
    def fault(self) -> Step | None:
        """The step that the answer was lost in; None if there is one."""
        if self.error is None:
            return None
        return next((step for step in reversed(self.steps) if not step.is_well), None)
