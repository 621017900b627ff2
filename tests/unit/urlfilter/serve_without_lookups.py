"""A program for tests: serves `service_without_lookups` on a port that it prints, until a signal says stop.

    python -m tests.unit.urlfilter.serve_without_lookups CONFIGURATION [CERTIFICATE KEY]

A line on standard input opens the gate that lookups wait at; so does its end.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

from network_extension.urlfilter.service.application import application, device_application
from network_extension.urlfilter.service.configuration import read_configuration
from network_extension.urlfilter.service.event_log import now
from network_extension.urlfilter.service.exchange import Exchanges
from network_extension.urlfilter.service.gateway_routes import ServiceGateway
from network_extension.urlfilter.service.service import Service
from network_extension.urlfilter.service.serving import TLSFiles, listen, serve
from network_extension.urlfilter.service.settings import ServiceSettings
from network_extension.urlfilter.stores import open_store

from .service_without_lookups import TextEngine, WordGate


async def run(configuration: Path, tls: TLSFiles | None) -> None:
    store, engine = open_store(str(configuration.parent / "state.sqlite3")), TextEngine()
    engine.gate.clear()
    threading.Thread(target=_open_when_told, args=(engine.gate,), daemon=True).start()
    settings = ServiceSettings(workers=2, body_seconds=0.5)
    service = Service(read_configuration(configuration), store, engine, WordGate(store), settings=settings)
    gateway = ServiceGateway(store, device_application(service), now)
    service.also_keep.append(gateway.open)
    app = application(service, *gateway.routes(service.bodies, Exchanges(service.metrics, service.log)))
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    await serve(service, app, listener, tls=tls, started=lambda: _say(port))


def _open_when_told(gate: threading.Event) -> None:
    sys.stdin.readline()
    gate.set()


def _say(port: int) -> None:
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    words = [Path(word) for word in sys.argv[1:]]
    asyncio.run(run(words[0], TLSFiles(words[1], words[2]) if len(words) == 3 else None))
