"""The base of all providers (NEProvider, reference §2.6): configuration, path, sleep and wake, and tracked
work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, Self, TypeVar

from .network_settings import TunnelNetworkSettings
from .path import Path

T = TypeVar("T")
Observer = Callable[[Any], None]


class StopReason(IntEnum):
    """Why a provider is stopped (NEProviderStopReason)."""

    NONE = 0
    USER_INITIATED = 1
    PROVIDER_FAILED = 2
    NO_NETWORK_AVAILABLE = 3
    UNRECOVERABLE_NETWORK_CHANGE = 4
    PROVIDER_DISABLED = 5
    AUTHENTICATION_CANCELED = 6
    CONFIGURATION_FAILED = 7
    IDLE_TIMEOUT = 8
    CONFIGURATION_DISABLED = 9
    CONFIGURATION_REMOVED = 10
    SUPERSEDED = 11
    """A configuration of higher priority was started. Apple spells it `superceded`."""
    USER_LOGOUT = 12
    USER_SWITCH = 13
    CONNECTION_FAILED = 14
    SLEEP = 15
    """The machine goes to sleep, and the configuration says to disconnect then."""
    APP_UPDATE = 16
    INTERNAL_ERROR = 17


class ProviderStage(Protocol):
    """What a provider runs in (memory, sandbox, system), as the provider sees it."""

    def apply_settings(self, settings: TunnelNetworkSettings | None) -> None:
        """Put checked settings into force."""

    def cancel(self, error: BaseException | None) -> None:
        """The provider ends itself."""

    def log(self, level: str, text: str) -> None:
        """`level` is error, warning, info or debug."""


class Provider:
    """Base of all providers. One instance serves one session and is made without arguments.

    Work that outlives a callback belongs into `spawn`: when the provider is stopped, it is awaited for the
    grace period, then cancelled. A task started otherwise is treated the same as long as something keeps a
    reference to it.
    """

    kind: ClassVar[str] = ""
    """What the runtime calls this kind of provider."""

    _stage: ProviderStage | None
    _configuration: Mapping[str, Any]
    _default_path: Path
    _observers: dict[str, list[Observer]]
    _tasks: set[asyncio.Task[Any]]

    # In __new__, so that a subclass whose __init__ does not call ours still works.
    def __new__(cls, *_arguments: object, **_keywords: object) -> Self:
        """An instance with all its state in place."""
        provider = super().__new__(cls)
        provider._stage = None
        provider._configuration = MappingProxyType({})
        provider._default_path = Path()
        provider._observers = {}
        provider._tasks = set()
        return provider

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The provider's configuration (`--config`), read-only. Empty in the constructor; it may change in a
        session.
        """
        return self._configuration

    @property
    def default_path(self) -> Path:
        """The best path for the provider's own connections, as last seen."""
        return self._default_path

    def observe(self, name: str, callback: Observer) -> Callable[[], None]:
        """Call `callback(new value)` whenever "configuration" or "default_path" changes; returns what ends
        that.

        Apple's key-value observation. Raises ValueError for any other name.
        """
        if name not in ("configuration", "default_path"):
            raise ValueError(f"{name!r} cannot be observed; configuration and default_path can")
        observers = self._observers.setdefault(name, [])
        observers.append(callback)

        def unsubscribe() -> None:
            if callback in observers:
                observers.remove(callback)

        return unsubscribe

    async def default_path_updates(self) -> AsyncIterator[Path]:
        """The path now, then each new one. A slow reader gets the newest and misses those between."""
        changed = asyncio.Event()
        changed.set()
        unsubscribe = self.observe("default_path", lambda _path: changed.set())
        try:
            while True:
                await changed.wait()
                changed.clear()
                yield self._default_path
        finally:
            unsubscribe()

    async def sleep(self) -> None:
        """The machine is about to sleep: quiesce, and return soon."""

    def wake(self) -> Awaitable[None] | None:
        """The machine just woke: make again what the sleep has broken. May be a coroutine."""
        return None

    async def display_message(self, message: str) -> bool:
        """Show a text to the user; False says that it cannot be shown, which is always so here."""
        return False

    def spawn(self, work: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Start work that outlives this call. It is kept, named, reported if it raises, and awaited at the
        stop.
        """
        task = asyncio.get_running_loop().create_task(work, name=name or getattr(work, "__qualname__", None))
        self._tasks.add(task)
        task.add_done_callback(self._work_ended)
        return task

    def log(self, text: str, level: str = "info") -> None:
        """One line for the runtime's log; `level` is error, warning, info or debug."""
        if self._stage is not None:
            self._stage.log(level, text)

    def _work_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log(f"{task.get_name()} raised {type(error).__name__}: {error}", "error")

    def _change(self, name: str, value: Any) -> None:
        """The stage's way to set `configuration` or `default_path`: observers hear of real changes only."""
        if getattr(self, f"_{name}") == value:
            return
        setattr(self, f"_{name}", value)
        for observer in tuple(self._observers.get(name, ())):
            try:
                observer(value)
            except Exception as error:  # one observer's fault must not keep the others from hearing
                self.log(f"observer of {name} raised {type(error).__name__}: {error}", "error")
