"""What `netext urlfilter gateway` and `netext urlfilter relay` have in common: where they listen, how they end."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import ArgumentParser

if TYPE_CHECKING:
    from ..urlfilter.oblivious_services import ObliviousService

SIGNALS = """\
SIGTERM and SIGINT end after what was begun has been answered (30 s at most); a second one does not wait.
Exit status: 0 ended by a signal; 64 wrong usage; 69 a package is missing; 78 wrong settings, or a port that is taken.
"""


def parser(name: str, description: str, port: int) -> ArgumentParser:
    """With the options of both."""
    made = ArgumentParser(
        prog=f"netext urlfilter {name}",
        description=description,
        epilog=SIGNALS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    address = f"127.0.0.1:{port}"
    made.add_argument("--listen", metavar="HOST:PORT", default=address, help=f"({address}; port 0: any that is free)")
    made.add_argument("--tls-cert", metavar="FILE", type=Path, help="PEM; with it HTTPS, HTTP/2 by ALPN")
    made.add_argument("--tls-key", metavar="FILE", type=Path, help="PEM")
    made.add_argument("--json", action="store_true", help="say where it is as one JSON object on standard output")
    return made


def run(
    parser: ArgumentParser,
    options: argparse.Namespace,
    service: Callable[[], ObliviousService],
    places: Callable[[str], dict[str, str]],
) -> int:
    """Serve until a signal says stop; the exit status. `places` says, for the URL it has got, what is where."""
    if (options.tls_cert is None) != (options.tls_key is None):
        parser.error("--tls-cert and --tls-key go together")
    host, _, port = options.listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        parser.error(f"--listen {options.listen}: HOST:PORT is wanted")
    from ..urlfilter.service.serving import TLSFiles, listen, serve

    tls = TLSFiles(options.tls_cert, options.tls_key) if options.tls_cert else None
    with listen(host.strip("[]"), int(port)) as listener:
        told = places(f"{'https' if tls else 'http'}://{host}:{listener.getsockname()[1]}")

        def started() -> None:
            if options.json:
                print(json.dumps(told), flush=True)
            else:
                lines = [f"{parser.prog}: ready", *(f"{name:11} {text}" for name, text in told.items())]
                print("\n  ".join(lines), file=sys.stderr, flush=True)

        served = service()
        asyncio.run(serve(served, served.application, listener, tls=tls, started=started))
    return 0
