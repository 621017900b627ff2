"""Row 4: round trips of 64 bytes on a connection that is open."""

from __future__ import annotations

import json

from bench.evidence import NotProven, Traffic
from bench.figures import NATIVE, OURS, Row
from bench.network import ECHO_PORT, FAR4, HERE
from bench.ways import Way, python

GOALS = {"p50": 100, "p99": 500}


def latency_rows() -> dict[str, Row]:
    """One row for each quantile."""

    def make(name: str, goal: int) -> Row:
        def reached(row: Row) -> bool | None:
            own, native = row.median(OURS), row.median(NATIVE)
            return None if own is None or native is None else own - native <= goal

        row = Row(f"round trip of 64 bytes, {name}", "µs", f"native + {goal} µs", reached)
        row.less_is_more = True
        return row

    return {name: make(name, goal) for name, goal in GOALS.items()}


def measure(way: Way, count: int) -> tuple[dict[str, float], str]:
    """Microseconds by quantile, and the proof."""
    ran = way.run([*python(), str(HERE / "load.py"), "ping", FAR4, str(ECHO_PORT), str(count)], timeout=60)
    try:
        result = json.loads(ran.output)
    except ValueError:
        raise NotProven(f"the client said nothing, exit status {ran.status}: {ran.errors.strip()[-300:]}") from None
    seen = frozenset({result["seen"]})
    traffic = Traffic(result["bytes"], result["bytes"], flows=1, seen_from=seen, local=result["local"])
    return {name: result[name] / 1000 for name in GOALS}, way.prove(ran, traffic)
