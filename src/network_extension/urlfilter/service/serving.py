"""From a service to a listening socket: granian in this process, signals, and an end that loses no request.

One process: the lookups' kernels release the GIL, so its threads use all cores, and evaluation keys and databases are
in memory once. SIGHUP reloads; SIGTERM and SIGINT stop: the listening socket closes, what was begun is answered, then
the process ends. A second one of these signals does not wait.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from granian import net
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server
from starlette.types import ASGIApp

from ...errors import ConfigurationError, NetworkExtensionError
from .event_log import EventLog

BACKLOG = 1024
"""Connections that wait to be accepted, and requests that are in this process at a time."""
HEADER_TIMEOUT_MS = 10_000
GRACE = 30.0
"""Seconds that requests have to end after SIGTERM."""


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """PEM files. With them clients choose HTTP/2 or HTTP/1.1 by ALPN."""

    certificate: Path
    key: Path


class Served(Protocol):
    """What is served: `Service`, or a part of it alone."""

    is_ready: bool
    log: EventLog

    async def start(self) -> None:
        """Before the first request."""

    async def watch(self) -> None:
        """Look for changes until it is cancelled, or return."""

    async def keep_house(self) -> None:
        """Housekeeping until it is cancelled, or return."""

    async def reload(self) -> None:
        """SIGHUP."""

    async def stop(self) -> None:
        """After the last request."""


_SocketHolder: Any = net.SocketHolder  # type: ignore[attr-defined]  # granian's types leave its constructor out


class _Granian(Server):
    """Takes a socket that listens already: so the port may be 0, and a port that is taken is told before all else."""

    def __init__(self, listener: socket.socket, **options: Any) -> None:
        super().__init__(**options)
        self._listener = listener

    def _init_shared_socket(self) -> None:
        attributes: Any = self
        attributes._ssp = None
        # The descriptor is granian's from here on: it closes it as the first thing of a graceful stop.
        attributes._shd = _SocketHolder(self._listener.detach(), False, BACKLOG)


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises `ConfigurationError`."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigurationError(f"{host} port {port}: {reason}; choose another one with --listen") from error


async def serve(
    service: Served, app: ASGIApp, listener: socket.socket, *, tls: TLSFiles | None, started: Callable[[], None]
) -> None:
    """Start the service, answer until a signal says stop, and stop it. `started` is called once it listens and is
    ready. Raises what `start` raises.
    """
    loop = asyncio.get_running_loop()
    # What is loaded now is the newest; without this a reload that comes so early would end the process.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    with listener:
        try:
            await service.start()
            server = _server(app, listener, tls)
            stopping = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, _stop, service, server, stopping)
            async with asyncio.TaskGroup() as tasks:
                reloads: set[asyncio.Task[None]] = set()
                loop.add_signal_handler(signal.SIGHUP, _reload, service, tasks, reloads)
                background = [tasks.create_task(service.watch()), tasks.create_task(service.keep_house())]
                answering = tasks.create_task(server.serve())
                started()
                await _until_stopped(answering, stopping)
                for task in (*background, *reloads):
                    task.cancel()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)
            await service.stop()


def _server(app: ASGIApp, listener: socket.socket, tls: TLSFiles | None) -> _Granian:
    return _Granian(
        listener,
        target=app,
        interface=Interfaces.ASGINL,
        http=HTTPModes.auto,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_MS),
        websockets=False,
        backlog=BACKLOG,
        log_enabled=False,
        ssl_cert=tls and tls.certificate,
        ssl_key=tls and tls.key,
        ssl_protocol_min=SSLProtocols.tls12,
    )


def _stop(service: Served, server: _Granian, stopping: asyncio.Event) -> None:
    if stopping.is_set():  # the second signal
        raise SystemExit(1)
    service.is_ready = False
    service.log.write("stopping", grace_seconds=GRACE)
    stopping.set()
    stop: Callable[[], None] = server.stop
    stop()


def _reload(service: Served, tasks: asyncio.TaskGroup, reloads: set[asyncio.Task[None]]) -> None:
    task = tasks.create_task(service.reload())
    reloads.add(task)
    task.add_done_callback(reloads.discard)


async def _until_stopped(answering: asyncio.Task[None], stopping: asyncio.Event) -> None:
    """Until the server has ended, or GRACE seconds after the signal."""
    is_asked = False

    def ended(_: asyncio.Task[None]) -> None:
        nonlocal is_asked
        is_asked = stopping.is_set()
        stopping.set()

    answering.add_done_callback(ended)
    await stopping.wait()
    await asyncio.wait({answering}, timeout=GRACE)
    if not answering.done():
        answering.cancel()
    elif not is_asked:
        raise NetworkExtensionError("the web server ended by itself; its own log says why")
