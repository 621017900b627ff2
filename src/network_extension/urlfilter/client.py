"""The URL filter as programs use it: NEURLFilterManager and NEURLFilter in Python's spelling (reference §2.19).

    filters = URLFilter("org.example.app")
    await filters.load_from_preferences()
    filters.set_configuration(pir_server_url="https://filter.example.org", pir_authentication_token=token)
    await filters.save_to_preferences()                  # starts it, as it is enabled
    if (await filters.verdict_for(url)) is Verdict.DENY:
        ...                                              # fail the request
    await filters.close()

A configuration is kept as a file of the user's, so what one program saves another loads. The filter itself lives in the
program that saved or started it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import NetworkExtensionError
from ..provider import StopReason
from .control_provider import URLFilterControlProvider
from .filter_session import FilterSession, Log, silent
from .lookup_client import PATIENCE
from .url_filter_configuration import DEFAULT_IDENTIFIER, URLFilterConfiguration
from .url_filter_errors import URLFilterError, URLFilterErrorCode
from .url_filter_status import Status, StatusEvent, status_after
from .url_filter_store import ConfigurationStore
from .verdicts import Verdict, VerdictReport

__all__ = ["Status", "URLFilter", "URLFilterControlProvider", "URLFilterError", "URLFilterErrorCode", "Verdict"]


class URLFilter:
    """The URL filter of one app. For one event loop; close it at the end."""

    def __init__(
        self,
        app_bundle_identifier: str = DEFAULT_IDENTIFIER,
        *,
        control_provider: URLFilterControlProvider | None = None,
        directory: Path | None = None,
        ca_file: str | None = None,
        patience: float = PATIENCE,
        log: Log = silent,
    ) -> None:
        """`directory` holds the configurations ($XDG_CONFIG_HOME/netext/url-filter), `ca_file` is trusted in place of
        the system's authorities, `control_provider` used in place of the one that a configuration names; `patience`
        is the seconds that a lookup looks for an answer.
        """
        self.app_bundle_identifier = app_bundle_identifier
        self.last_disconnect_error: NetworkExtensionError | None = None
        """What stopped the filter last."""
        self._store = ConfigurationStore(app_bundle_identifier, directory)
        self._control, self._ca_file, self._log = control_provider, ca_file, log
        self._patience = patience
        self._is_loaded, self._revision = False, ""
        self._stored: URLFilterConfiguration | None = None
        self._draft: URLFilterConfiguration | None = None
        self._session: FilterSession | None = None
        self._status = Status.INVALID
        self._status_watchers: set[asyncio.Queue[Status]] = set()
        self._configuration_watchers: set[asyncio.Queue[bool]] = set()
        self._changing = asyncio.Lock()

    # Configuration

    @property
    def configuration(self) -> URLFilterConfiguration | None:
        """The configuration as it would be saved now; None while there is none. Raises URLFilterError (NOT_LOADED)."""
        if not self._is_loaded:
            raise URLFilterError(
                URLFilterErrorCode.CONFIGURATION_NOT_LOADED, "URL filter: call load_from_preferences first"
            )
        return self._draft

    def set_configuration(
        self,
        pir_server_url: str,
        pir_privacy_pass_issuer_url: str | None = None,
        pir_authentication_token: str | None = None,
        control_provider: str = "service",
    ) -> None:
        """The four values of Apple's setConfiguration; saved by `save_to_preferences`. Raises URLFilterError."""
        values: dict[str, Any] = {
            "pir_server_url": pir_server_url,
            "pir_privacy_pass_issuer_url": pir_privacy_pass_issuer_url,
            "pir_authentication_token": pir_authentication_token,
            "control_provider": control_provider,
        }
        draft = self.configuration
        if draft is None:
            self._draft = URLFilterConfiguration(**values, app_bundle_identifier=self.app_bundle_identifier)
        else:
            self._draft = replace(draft, **values)

    def change(self, **settings: Any) -> None:
        """Change other settings by name (is_enabled, should_fail_closed, prefilter_fetch_interval, system, …).

        Saved by `save_to_preferences`. Raises URLFilterError (CONFIGURATION_INVALID).
        """
        try:
            self._draft = replace(self._configured(), **settings)
        except TypeError as error:
            raise URLFilterError(URLFilterErrorCode.CONFIGURATION_INVALID, f"URL filter: {error}") from None

    def _configured(self) -> URLFilterConfiguration:
        if self.configuration is None:
            raise URLFilterError(
                URLFilterErrorCode.CONFIGURATION_INVALID,
                "URL filter: there is no configuration; set_configuration first",
            )
        return self.configuration

    async def load_from_preferences(self) -> None:
        """Read what is stored, in place of what was not saved. Raises URLFilterError."""
        async with self._changing:
            self._stored, self._revision = await asyncio.to_thread(self._store.load)
            self._draft, self._is_loaded = self._stored, True
            if self._stored is not None and self._status is Status.INVALID:
                self._become(StatusEvent.CONFIGURED)

    async def save_to_preferences(self) -> None:
        """Store the configuration, and start the filter, or stop it, as `is_enabled` says.

        Raises URLFilterError: UNCHANGED, STALE (somebody else has saved meanwhile), INVALID, NOT_LOADED,
        PERMISSION_DENIED, INTERNAL_ERROR. That the filter does not start is no error of saving: see
        `last_disconnect_error`.
        """
        async with self._changing:
            draft = self._configured()
            self._check_revision(await asyncio.to_thread(self._store.revision))
            if draft == self._stored:
                raise URLFilterError(
                    URLFilterErrorCode.CONFIGURATION_UNCHANGED, "URL filter: the configuration is stored as it is"
                )
            self._revision = await asyncio.to_thread(self._store.save, draft)
            self._stored = draft
            await self._stop(StopReason.SUPERSEDED)
            self._become(StatusEvent.CONFIGURED)
            self._tell_configuration_changed()
            if draft.is_enabled:
                await self._start(draft)

    async def remove_from_preferences(self) -> None:
        """Stop the filter and remove what is stored; as with Apple this is no configuration change that is told.

        Raises URLFilterError (NOT_LOADED, STALE, CANNOT_BE_REMOVED).
        """
        async with self._changing:
            self._configured()
            self._check_revision(await asyncio.to_thread(self._store.revision))
            await asyncio.to_thread(self._store.remove)
            await self._stop(StopReason.CONFIGURATION_REMOVED)
            self._stored = self._draft = None
            self._revision = ""
            if self._status is not Status.INVALID:
                self._become(StatusEvent.REMOVED)

    def _check_revision(self, stored: str) -> None:
        if stored != self._revision:
            raise URLFilterError(
                URLFilterErrorCode.CONFIGURATION_STALE,
                "URL filter: the configuration was changed elsewhere since it was loaded; load it again",
            )

    # Life

    async def start(self) -> None:
        """Start the stored configuration, as a program does that finds it after its own start.

        Raises URLFilterError: NOT_LOADED, INVALID, DISABLED, or what kept the filter from starting.
        """
        async with self._changing:
            if not self._configured().is_enabled:
                raise URLFilterError(
                    URLFilterErrorCode.CONFIGURATION_DISABLED,
                    "URL filter: switched off; change(is_enabled=True) and save",
                )
            if self._status is Status.STOPPED and self._stored is not None:
                await self._start(self._stored)
                if self.last_disconnect_error is not None:
                    raise self.last_disconnect_error

    async def close(self) -> None:
        """Stop the filter, keeping its configuration."""
        async with self._changing:
            await self._stop(StopReason.USER_INITIATED)

    async def _start(self, configuration: URLFilterConfiguration) -> None:
        self.last_disconnect_error = None
        self._become(StatusEvent.START)
        session = FilterSession(
            configuration, self._control, ca_file=self._ca_file, patience=self._patience, log=self._log
        )
        try:
            await session.start()
        except NetworkExtensionError as error:
            self.last_disconnect_error = error
            self._become(StatusEvent.FAILED)
            self._log("error", f"URL filter: {error}")
            await session.stop(StopReason.PROVIDER_FAILED)
            return
        except BaseException:
            self._become(StatusEvent.FAILED)
            await session.stop(StopReason.NONE)
            raise
        self._session = session
        self._become(StatusEvent.STARTED)

    async def _stop(self, reason: StopReason) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        self._become(StatusEvent.STOP)
        try:
            await session.stop(reason)
        finally:
            self._become(StatusEvent.STOPPED)

    # What it says

    @property
    def status(self) -> Status:
        """The status now."""
        return self._status

    async def verdict_for(self, url: str) -> Verdict:
        """Decide a URL. UNKNOWN while the filter is off, or could not find out and fails open."""
        return (await self.explain(url)).verdict

    async def explain(self, url: str) -> VerdictReport:
        """The verdict, with each step by which it was found."""
        if self._session is None:
            return VerdictReport(url, Verdict.UNKNOWN)
        return await self._session.verdict_for(url)

    def refresh_pir_parameters(self) -> None:
        """Have the service's configuration fetched anew before the next lookup. Raises URLFilterError (DISABLED)."""
        self._running().lookups.session.refresh()

    def reset_pir_cache(self) -> None:
        """Forget the answers of the service. Raises URLFilterError (DISABLED)."""
        self._running().decider.cache.clear()

    async def refresh_prefilter(self) -> bool:
        """Fetch the prefilter before its time; whether there was a newer one. Raises URLFilterError (DISABLED)."""
        return await self._running().refresh_prefilter()

    def _running(self) -> FilterSession:
        if self._session is None:
            raise URLFilterError(
                URLFilterErrorCode.CONFIGURATION_DISABLED, f"URL filter: it is {self._status.name.lower()}, not running"
            )
        return self._session

    async def handle_status_change(self) -> AsyncIterator[Status]:
        """Each status from now on, in order."""
        queue: asyncio.Queue[Status] = asyncio.Queue()
        self._status_watchers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._status_watchers.discard(queue)

    async def handle_config_change(self) -> AsyncIterator[bool]:
        """Whether the filter is enabled, each time that a configuration was saved."""
        queue: asyncio.Queue[bool] = asyncio.Queue()
        self._configuration_watchers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._configuration_watchers.discard(queue)

    def _become(self, event: StatusEvent) -> None:
        before, self._status = self._status, status_after(self._status, event)
        if self._status is not before:
            for queue in self._status_watchers:
                queue.put_nowait(self._status)

    def _tell_configuration_changed(self) -> None:
        for queue in self._configuration_watchers:
            queue.put_nowait(bool(self._stored and self._stored.is_enabled))
