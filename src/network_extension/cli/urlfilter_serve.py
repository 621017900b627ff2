"""`netext urlfilter serve`: the back end of Apple's URL filter in one command."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import ArgumentParser

if TYPE_CHECKING:
    from socket import socket

    from ..urlfilter.service.configuration import ServiceConfiguration
    from ..urlfilter.stores import Store

STORE_VARIABLE = "NETEXT_URLFILTER_STORE"
LIMITS = (
    ("--queue", "N", 128, "lookups that wait for a core; more are sent away with 503"),
    ("--tokens-per-hour", "N", 0, "tokens for one user token (no limit)"),
    ("--body-limit", "MIB", 10, "the largest body of a request"),
    ("--key-cache", "MIB", 512, "parsed evaluation keys that stay in memory"),
    ("--key-space", "GIB", 0, "evaluation keys on disk; the oldest go first (what leaves 5 %% of the disk)"),
)
DESCRIPTION = """\
Answer devices: private lookups, tokens (Privacy Pass) and Oblivious HTTP, on one port.

SIGHUP reads the configuration and the database again, without a lost request; so does a new version of the database.
SIGTERM ends after what was begun has been answered. Keys and tokens are kept in the store: a restart loses nothing.
"""


def main(arguments: list[str]) -> int:
    """Serve until a signal says stop; the exit status."""
    parser = ArgumentParser(
        prog="netext urlfilter serve", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="DIR|FILE", help="of netext urlfilter build, or a service configuration")
    parser.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:8080", help="(127.0.0.1:8080)")
    parser.add_argument(
        "--store",
        metavar="FILE|redis://…",
        help=f"where keys and spent tokens are kept (DIR/service); one with a password goes into {STORE_VARIABLE}",
    )
    parser.add_argument("--issuer-name", metavar="HOST", default="localhost", help="as tokens name it (localhost)")
    parser.add_argument("--tls-cert", metavar="FILE", type=Path, help="PEM; with it HTTPS, HTTP/2 by ALPN")
    parser.add_argument("--tls-key", metavar="FILE", type=Path, help="PEM")
    parser.add_argument("--no-tokens", action="store_true", help="for development: everybody may ask")
    parser.add_argument("--no-gateway", action="store_true", help="without Oblivious HTTP")
    parser.add_argument("--workers", metavar="N", type=int, default=0, help="lookups computed at a time (the cores)")
    limits = parser.add_argument_group("limits")
    for name, unit, default, text in LIMITS:
        words = f"{text} ({default})" if default else text
        limits.add_argument(name, metavar=unit, type=_count, default=default, help=words)
    options = parser.parse_args(arguments)
    if (options.tls_cert is None) != (options.tls_key is None):
        parser.error("--tls-cert and --tls-key go together")
    if options.store and "@" in options.store.partition("://")[2]:
        # Everybody on this machine can read the words of a command.
        parser.error(f"--store holds a password: put it into the environment variable {STORE_VARIABLE}")
    options.store = options.store or os.environ.get(STORE_VARIABLE)
    host, _, port = options.listen.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        parser.error(f"--listen {options.listen}: HOST:PORT is wanted")
    return _serve(options, host.strip("[]"), int(port))


def _count(text: str) -> int:
    """A number from 0."""
    if not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text}: a whole number is wanted")
    return int(text)


def _serve(options: argparse.Namespace, host: str, port: int) -> int:
    from ..urlfilter.service.configuration import read_configuration
    from ..urlfilter.service.serving import listen
    from ..urlfilter.stores import open_store

    source = Path(options.source)
    configuration = read_configuration(source)
    folder = (source if source.is_dir() else source.parent) / "service"
    if not options.store:
        folder.mkdir(mode=0o700, exist_ok=True)
    listener = listen(host, port)
    configuration, notes = _with_user(configuration, folder, options.no_tokens)
    store = open_store(options.store or str(folder / "state.sqlite"), options.key_space << 30)
    url = f"{'https' if options.tls_cert else 'http'}://{host}:{listener.getsockname()[1]}"
    asyncio.run(_answer(options, configuration, store, listener, _welcome(url, notes, not options.no_gateway)))
    return 0


async def _answer(
    options: argparse.Namespace, configuration: ServiceConfiguration, store: Store, listener: socket, welcome: str
) -> None:
    from ..urlfilter.service.application import application, device_application
    from ..urlfilter.service.event_log import now
    from ..urlfilter.service.exchange import Exchanges
    from ..urlfilter.service.gateway_routes import ServiceGateway
    from ..urlfilter.service.issuer_gate import IssuerGate
    from ..urlfilter.service.lookup_engine import LookupEngine
    from ..urlfilter.service.service import Service
    from ..urlfilter.service.serving import TLSFiles, serve
    from ..urlfilter.service.settings import ServiceSettings

    gate = IssuerGate(store, options.issuer_name, now)
    settings = ServiceSettings(
        workers=options.workers,
        queue_limit=options.queue,
        tokens_per_hour=options.tokens_per_hour,
        body_bytes=options.body_limit << 20,
        key_cache_bytes=options.key_cache << 20,
    )
    service = Service(configuration, store, LookupEngine(), gate, settings=settings)
    gateway = ServiceGateway(store, device_application(service), now)
    service.also_keep.append(gateway.open)
    routes = () if options.no_gateway else gateway.routes(service.bodies, Exchanges(service.metrics, service.log))
    app = application(service, *routes)
    tls = TLSFiles(options.tls_cert, options.tls_key) if options.tls_cert else None
    await serve(service, app, listener, tls=tls, started=lambda: print(welcome, file=sys.stderr, flush=True))


def _with_user(
    configuration: ServiceConfiguration, folder: Path, no_tokens: bool
) -> tuple[ServiceConfiguration, list[str]]:
    """A built directory names no users: one is made for development."""
    from ..urlfilter.service.user_tokens import DEVELOPMENT_TIER, development_token

    if no_tokens:
        return replace(configuration, tiers={}), ["tokens      none are asked for (--no-tokens)"]
    if configuration.tiers or not configuration.source.is_dir():
        return configuration, []
    path = folder / "user-token"
    token, is_new = development_token(path)
    made = "a user token for development was made" if is_new else "user token for development"
    return replace(configuration, tiers={token: DEVELOPMENT_TIER}), [
        f"user token  {path} ({made}; an app gives it to setConfiguration)",
        f"ask         netext urlfilter check URL --server {{url}} --user-token-file {path}",
    ]


def _welcome(url: str, notes: list[str], has_gateway: bool) -> str:
    lines = [
        "netext urlfilter serve: ready",
        f"lookups     {url}/config, /key, /queries; prefilter {url}/prefilter",
        f"issuer      {url}/.well-known/private-token-issuer-directory",
    ]
    if has_gateway:
        lines.append(f"gateway     {url}/gateway (Oblivious HTTP; keys at {url}/ohttp-keys)")
    lines.append(f"operators   {url}/health, {url}/metrics; SIGHUP reloads, SIGTERM ends")
    return "\n  ".join([*lines, *(note.replace("{url}", url) for note in notes)])
