"""A URL filter at work: its prefilter, its lookups, and what has to be done from time to time.

A new prefilter comes into force in the order of publication (specification §7.2): the service has the database first,
so the client asks it for its present configuration, forgets what it remembers, and only then takes the prefilter. A
string that was added is so never looked up in a database that is older; one that was removed is not asked about at all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from ..errors import NetworkExtensionError
from ..provider import StopReason
from .control_provider import URLFilterControlProvider, control_provider_for
from .deciding import Decider
from .lookup_client import PATIENCE, LookupClient, TokenSource, seconds_since_boot
from .url_filter_configuration import URLFilterConfiguration
from .url_filter_errors import LookupFailed, URLFilterError, URLFilterErrorCode
from .verdicts import StepLog, VerdictReport
from .web_exchange import DirectTransport, Transport

if TYPE_CHECKING:
    from .prefilter import Prefilter

T = TypeVar("T")
Log = Callable[[str, str], None]
"""Takes a level (error, warning, info, debug) and a line."""
RETRY_FETCH = 300.0
"""Seconds after which a prefilter that could not be fetched is fetched again."""
MAINTENANCE = 3600.0
"""Seconds between two looks at what is due, at most."""


def silent(level: str, text: str) -> None:
    """A log that nobody reads."""


class FilterSession:
    """One configuration at work, from `start` to `stop`. For one event loop."""

    def __init__(
        self,
        configuration: URLFilterConfiguration,
        control_provider: URLFilterControlProvider | None = None,
        *,
        ca_file: str | None = None,
        patience: float = PATIENCE,
        clock: Callable[[], float] = seconds_since_boot,
        log: Log = silent,
    ) -> None:
        """`control_provider` replaces the one that the configuration names, `ca_file` the system's authorities;
        `patience` is the seconds that a lookup looks for an answer.
        """
        self.configuration, self._clock, self._log = configuration, clock, log
        self._direct = DirectTransport(ca_file)
        self._transport = _transport_for(configuration, self._direct, ca_file)
        self._control = control_provider
        issuer = _issuer_for(configuration, self._direct)
        server, use_case = configuration.pir_server_url, configuration.use_case
        self.lookups = LookupClient(server, use_case, self._transport, issuer, patience=patience, clock=clock)
        self.decider = Decider(
            self.lookups, clock, system=configuration.system, fails_closed=configuration.should_fail_closed
        )
        self._next_fetch = 0.0
        self._wake = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    @property
    def prefilter(self) -> Prefilter | None:
        """The prefilter in force."""
        return self.decider.prefilter

    async def start(self) -> None:
        """Fetch the prefilter, and make sure that the service can be asked. Raises URLFilterError.

        A service that is away for the moment is no error: lookups find it when it is back.
        """
        prefilter = await self.bring_prefilter()
        self._log("info", f"prefilter {prefilter.tag[:16]} of {prefilter.bit_count} bits is in force")
        try:
            await self.lookups.prepare(StepLog(self._clock))
        except LookupFailed as error:
            if error.is_permanent:
                raise
            self._log("warning", f"the service cannot be asked yet: {error}")
        self._next_fetch = self._clock() + self.configuration.prefilter_fetch_interval
        self._work = asyncio.get_running_loop().create_task(self._maintain(), name="URL filter maintenance")

    async def bring_prefilter(self) -> Prefilter:
        """Start the control provider, and put its prefilter into force. Raises URLFilterError."""
        if self._control is None:
            self._control = control_provider_for(self.configuration, self._direct)
        await _called(self._control, "start", self._control.start())
        prefilter = await self._fetch(None)
        if prefilter is None:
            text = f"control provider {type(self._control).__name__}: no prefilter, although there is none yet"
            raise URLFilterError(URLFilterErrorCode.EXTENSION_FAILED_TO_LOAD, text)
        self.decider.prefilter = prefilter
        return prefilter

    async def stop(self, reason: StopReason = StopReason.USER_INITIATED) -> None:
        """End it; safe to call at any time."""
        if self._work is not None:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._work
            self._work = None
        if self._control is not None:
            control, self._control = self._control, None
            try:
                await _called(control, "stop", control.stop(reason))
            except URLFilterError as error:
                self._log("warning", str(error))
        await self._transport.close()
        await self._direct.close()

    async def verdict_for(self, url: str) -> VerdictReport:
        """Decide a URL."""
        report = await self.decider.decide(url)
        if self.lookups.session.wanted_tokens(self._clock()):
            self._wake.set()
        return report

    # What is due from time to time

    async def _maintain(self) -> None:
        while True:
            rest = min(self._next_fetch - self._clock(), MAINTENANCE)
            # Not wait_for, which loses a cancellation that comes together with the event (CPython 3.11).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(rest, 0.0)):
                    await self._wake.wait()
            self._wake.clear()
            await self.do_what_is_due()

    async def do_what_is_due(self) -> None:
        """Fetch the prefilter if it is time, rotate keys, fill up tokens. What fails is logged, and tried again."""
        if self._clock() >= self._next_fetch:
            await self.refresh_prefilter()
        try:
            await self.lookups.maintain(StepLog(self._clock))
        except LookupFailed as error:
            self._log("warning", f"{error.stage}: {error}; tried again later")

    async def refresh_prefilter(self) -> bool:
        """Ask the control provider for a newer prefilter; whether there was one."""
        before = self.prefilter
        try:
            found = await self._fetch(before.tag if before else None)
        except NetworkExtensionError as error:
            self._log("warning", f"{error}; the prefilter of before stays in force")
            self._next_fetch = self._clock() + min(RETRY_FETCH, self.configuration.prefilter_fetch_interval)
            return False
        self._next_fetch = self._clock() + self.configuration.prefilter_fetch_interval
        if found is None:
            return False
        self.lookups.session.refresh()
        try:
            await self.lookups.prepare(StepLog(self._clock))
        except LookupFailed as error:
            self._log("warning", f"new prefilter, but its database cannot be asked yet: {error}")
        self.decider.cache.clear()
        self.decider.prefilter = found
        self._log("info", f"prefilter {found.tag[:16]} is in force now")
        return True

    async def _fetch(self, tag: str | None) -> Prefilter | None:
        assert self._control is not None
        return await _called(self._control, "fetch_prefilter", self._control.fetch_prefilter(tag))


async def _called(control: URLFilterControlProvider, what: str, result: Awaitable[T]) -> T:
    """Await a method of a control provider, whose author's exceptions become ours. Raises URLFilterError."""
    try:
        return await result
    except URLFilterError:
        raise
    except Exception as error:
        name = type(control).__name__
        code = URLFilterErrorCode.EXTENSION_FAILED_TO_LOAD
        text = f"control provider {name}: {what} raised {type(error).__name__}: {error}"
        raise URLFilterError(code, text) from error


def _issuer_for(configuration: URLFilterConfiguration, direct: Transport) -> TokenSource | None:
    token = configuration.pir_authentication_token
    if token is None:
        return None
    from .token_issuance import IssuerAccount

    return IssuerAccount(configuration.issuer_url, token, direct)


def _transport_for(configuration: URLFilterConfiguration, direct: Transport, ca_file: str | None) -> Transport:
    gateway = configuration.oblivious_gateway_url
    if gateway is None:
        return direct
    from .oblivious_transport import ObliviousTransport

    return ObliviousTransport(gateway, configuration.oblivious_relay_url, ca_file)
