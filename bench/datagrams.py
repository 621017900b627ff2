"""Row 5: UDP datagrams of 1,200 bytes without loss."""

from __future__ import annotations

import json

from bench.evidence import NotProven, Traffic
from bench.figures import OURS, Row
from bench.network import FAR4, HERE, wait_for_seconds
from bench.ways import Way, python

GOAL = 100_000
SIZE = 1200
PORT = 7070
RATES = (25_000, 50_000, 75_000, 100_000, 125_000, 150_000, 200_000, 250_000, 300_000, 400_000)
_ports = iter(range(PORT, PORT + 10_000))


def datagram_rows() -> tuple[Row, Row]:
    """What is lost at the goal's rate, and the highest rate at which nothing is."""

    def lossless(row: Row) -> bool | None:
        own = row.median(OURS)
        return None if own is None else own == 0

    def fast_enough(row: Row) -> bool | None:
        own = row.median(OURS)
        return None if own is None else own >= GOAL

    loss = Row(f"UDP, lost of {GOAL:,} datagrams per second", "per million", "0", lossless)
    loss.less_is_more = True
    return loss, Row("UDP without loss, one second", "datagrams/s", f"{GOAL}", fast_enough)


def measure(way: Way, rate: int, seconds: float) -> tuple[float, float, str]:
    """The share of lost datagrams, the rate that the sender reached, and the proof."""
    port = next(_ports)
    with way.lab.load_server("count", str(port)) as server:
        assert server.stdout is not None
        server.stdout.readline()
        words = [*python(), str(HERE / "load.py"), "send", FAR4, str(port), str(rate), f"{seconds:g}"]
        ran = way.run(words, timeout=seconds * 3 + 30)
        wait_for_seconds(0.2)
        output, _ = server.communicate(timeout=10)
    way.lab.far.processes.remove(server)
    try:
        sent, got = json.loads(ran.output), json.loads(output)
    except ValueError:
        raise NotProven(f"the sender said nothing, exit status {ran.status}: {ran.errors.strip()[-300:]}") from None
    traffic = Traffic(
        sent=got["received"] * SIZE,
        received=0,
        flows=1,
        seen_from=frozenset(got["seen"]),
        local=sent["local"],
        in_flight=(sent["sent"] - got["received"]) * SIZE,
    )
    return 1 - got["received"] / sent["sent"], sent["sent"] / sent["seconds"], way.prove(ran, traffic)


def highest_lossless(way: Way) -> tuple[float, str]:
    """The highest of `RATES` that loses nothing in one second (the best of two tries at each), and the proof."""
    best, proof = 0.0, "nothing came through"
    for rate in RATES:
        for _ in range(2):
            loss, reached, said = measure(way, rate, 1.0)
            if not loss and reached >= rate * 0.98:
                best, proof = float(rate), said
                break
        else:
            return best, proof
    return best, proof
