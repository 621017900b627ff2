"""Row 3: new connections per second, by wrk with `Connection: close` against nginx."""

from __future__ import annotations

import re

from bench.evidence import NotProven, Traffic, require
from bench.figures import OURS, Row
from bench.network import FAR4, HTTP_PORT
from bench.ways import Way

GOAL = 2500
RIVAL = "mitmproxy local"
PARALLEL = 32
ANSWER = len("HTTP/1.1 200 OK\r\n\r\nhello\n")  # at least


def connection_row() -> Row:
    """The row."""

    def reached(row: Row) -> bool | None:
        own, rival = row.median(OURS), row.median(RIVAL)
        return None if own is None else own >= GOAL and own > (rival or 0)

    return Row("new connections", "per second", f"{GOAL}, ahead of mitmproxy", reached)


def measure(way: Way, seconds: int) -> tuple[float, str]:
    """Connections that were opened, used for one request and closed, per second; and the proof."""
    url = f"http://{FAR4}:{HTTP_PORT}/"
    words = ["wrk", "-t", "1", "-c", str(PARALLEL), "-d", f"{seconds}s", "-H", "Connection: close", url]
    way.lab.http_clients()
    ran = way.run(words, timeout=seconds + 30)
    match = re.search(r"(\d+) requests in ([\d.]+)s", ran.output)
    if match is None:
        raise NotProven(f"wrk said nothing of requests, exit status {ran.status}: {(ran.output + ran.errors)[-300:]}")
    trouble = re.search(r"(Socket errors.*|Non-2xx.*)", ran.output)
    require(trouble is None, f"wrk: {trouble[1] if trouble else ''}")
    requests, clients = int(match[1]), way.lab.http_clients()
    require(len(clients) >= requests, f"nginx answered {len(clients)} requests, wrk counted {requests}")
    traffic = Traffic(
        sent=40 * requests, received=ANSWER * requests, flows=requests, seen_from=frozenset(clients), in_flight=1 << 40
    )
    return requests / float(match[2]), way.prove(ran, traffic)
