"""The service's state, and what happens to it between requests: start, reload, housekeeping, stop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Protocol

from ...errors import NetworkExtensionError
from ..stores import Store, StoreUnavailable
from . import event_log
from .admission import Admission
from .bodies import BodyReader
from .catalogue import Catalogue, ServedVersion
from .configuration import BuiltUseCase, ServiceConfiguration, read_configuration
from .evaluation_keys import EvaluationKeys, KeyReader
from .event_log import EventLog
from .issuance_limit import IssuanceLimit
from .loading import Loader, VersionFiles
from .metrics import Metrics
from .settings import ServiceSettings
from .token_gate import TokenGate
from .user_tokens import UserTokens


class Engine(KeyReader, Protocol):
    """What computes: `lookup_engine.LookupEngine`."""

    def open_version(self, files: VersionFiles) -> ServedVersion:
        """Open all shards of a version, and describe them. Raises `PirError` and OSError."""


class Service:
    """One instance. `start` before the first request, `stop` after the last one.

    `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        configuration: ServiceConfiguration,
        store: Store,
        engine: Engine,
        tokens: TokenGate,
        *,
        settings: ServiceSettings | None = None,
        log: EventLog | None = None,
        clock: Callable[[], float] = event_log.now,
    ) -> None:
        self.configuration = configuration
        self.store = store
        self.settings = settings = settings or ServiceSettings()
        self.clock = clock
        self.log = log or EventLog(clock=clock)
        self.metrics = Metrics()
        self.catalogue = Catalogue()
        self.users = UserTokens(configuration.tiers)
        self.issuance = IssuanceLimit(settings.tokens_per_hour, monotonic)
        self.tokens = tokens
        self.keys = EvaluationKeys(store, engine, clock, settings.key_cache_bytes)
        self.admission = Admission(settings.lookups_at_a_time, settings.queue_limit, settings.patience, monotonic)
        self.bodies = BodyReader(settings.body_bytes, settings.all_bodies_bytes, settings.body_seconds)
        self.is_ready = False
        """Whether requests are welcome: after `start`, until it is about to stop."""
        self.also_keep: list[Callable[[], Awaitable[None]]] = []
        """What else has keys: called at the start, and with the rest of the housekeeping to make them anew in time."""
        self._loader = Loader(engine.open_version, lambda text: self.log.write("warning", level="warning", cause=text))
        self._reloading = asyncio.Lock()
        self._served_current: dict[Path, str] = {}
        self._warned: set[str] = set()
        self._watch_gauges()

    @property
    def needs_tokens(self) -> bool:
        """Whether clients need Privacy Pass tokens: as soon as there are users."""
        return bool(self.configuration.tiers)

    async def start(self) -> None:
        """Open databases and keys. Raises `ConfigurationError`, and `StoreUnavailable`."""
        began = monotonic()
        self._note_current(self.configuration)
        self.catalogue = await asyncio.to_thread(self._loader.load, self.configuration, Catalogue())
        await self.store.check()
        await self._warn()
        if self.needs_tokens:
            await self.tokens.open(set(self.configuration.tiers.values()))
        for keep in self.also_keep:
            await keep()
        self._count_versions()
        self.is_ready = True
        self.log.write("started", seconds=round(monotonic() - began, 3), versions=self._labels())

    async def reload(self) -> None:
        """Read the configuration again and serve what it says now. What fails changes nothing, and is logged.

        Requests that are under way keep the databases that they began with.
        """
        async with self._reloading:
            began = monotonic()
            try:
                configuration = self._with_same_users(
                    await asyncio.to_thread(read_configuration, self.configuration.source)
                )
                self._note_current(configuration)
                catalogue = await asyncio.to_thread(self._loader.load, configuration, self.catalogue)
                if configuration.tiers:
                    await self.tokens.open(set(configuration.tiers.values()))
            except Exception as error:
                # Also a defect must not end a service that has a database to serve.
                self.metrics.reloads.labels("failed").inc()
                self.log.write(
                    "reload failed",
                    level="error",
                    cause=_cause(error),
                    next_step="serving goes on as before; mend the cause and send SIGHUP again",
                )
                return
            self.users = self.users.changed(configuration.tiers)
            self.configuration, self.catalogue = configuration, catalogue
            self.metrics.reloads.labels("done").inc()
            self._count_versions()
            self.log.write("reloaded", seconds=round(monotonic() - began, 3), versions=self._labels())

    async def watch(self) -> None:
        """Reload when DIR/current is another version. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(self.settings.watch_seconds)
            before = dict(self._served_current)
            if any(_target(directory) not in ("", served) for directory, served in before.items()):
                await self.reload()

    async def keep_house(self) -> None:
        """Forget what has expired, make new issuer keys in time. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(self.settings.housekeeping_seconds)
            try:
                self.metrics.expired.inc(await self.store.expire(self.clock()))
                await self._warn()
                if self.needs_tokens:
                    await self.tokens.open(set(self.configuration.tiers.values()))
                for keep in self.also_keep:
                    await keep()
            except Exception as error:
                if isinstance(error, StoreUnavailable):
                    self.metrics.store_failures.inc()
                self.log.write(
                    "housekeeping failed", level="warning", cause=_cause(error), next_step="none: it is tried again"
                )

    async def stop(self) -> None:
        """After the last request: finish what runs, close the store."""
        self.is_ready = False
        await asyncio.to_thread(self.admission.close)
        await self.store.close()
        self.log.write("stopped")

    async def _warn(self) -> None:
        """What the store has to say, each thing once."""
        for text in await self.store.warnings():
            if text not in self._warned:
                self._warned.add(text)
                cause, _, next_step = text.partition("; ")
                self.log.write("warning", level="warning", cause=cause, next_step=next_step or None)

    def _with_same_users(self, configuration: ServiceConfiguration) -> ServiceConfiguration:
        """A built directory names no users: those of the command line stay."""
        if configuration.source.is_dir():
            return replace(configuration, tiers=self.configuration.tiers)
        return configuration

    def _note_current(self, configuration: ServiceConfiguration) -> None:
        """Before loading: a switch during it is seen by the next look."""
        built = [item for item in configuration.use_cases if isinstance(item, BuiltUseCase)]
        self._served_current = {item.directory: _target(item.directory) for item in built}

    def _labels(self) -> list[str]:
        return [
            f"{name}: {version.label}, {len(version.shards)} shard(s)"
            for name, versions in self.catalogue.versions.items()
            for version in versions
        ]

    def _count_versions(self) -> None:
        self.metrics.shards.clear()
        self.metrics.versions.clear()
        for name, versions in self.catalogue.versions.items():
            self.metrics.shards.labels(name).set(len(versions[0].shards))
            self.metrics.versions.labels(name).set(len(versions))

    def _watch_gauges(self) -> None:
        watch = self.metrics.watch
        watch("lookups_pending", "Lookups that wait or run.", lambda: self.admission.pending)
        watch("lookups_limit", "Lookups that may wait or run.", lambda: self.admission.limit)
        watch("key_cache_bytes", "Parsed evaluation keys in memory.", lambda: self.keys.cached_bytes)
        watch("key_cache_hits", "Lookups whose key was in memory.", lambda: self.keys.hits)
        watch("key_cache_misses", "Lookups whose key was read from the store.", lambda: self.keys.misses)
        watch("ready", "1 when requests are served.", lambda: self.is_ready)


def _cause(error: Exception) -> str:
    """For the log; an error that is none of ours is named by its type as well."""
    return str(error) if isinstance(error, NetworkExtensionError) else f"{type(error).__name__}: {error}"


def _target(directory: Path) -> str:
    """Where DIR/current leads to; empty when there is no such link now."""
    try:
        return os.readlink(directory / "current")
    except OSError:
        return ""
