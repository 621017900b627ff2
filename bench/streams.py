"""Rows 1 and 2: bulk TCP by iperf3, one stream and eight, both directions."""

from __future__ import annotations

import json
from typing import Any

from bench.evidence import NotProven, Ran, Traffic, require
from bench.figures import Row, at_least_ratio
from bench.network import FAR4, IPERF_PORT, BenchLab
from bench.ways import Native, Ours, Way, WithoutProvider

GOAL = 0.80


def stream_rows() -> list[tuple[Row, int, bool]]:
    """The rows, each with its number of streams and whether the server sends."""
    return [
        (
            Row(
                f"{streams} TCP stream{'s' if streams > 1 else ''}, {'down' if reverse else 'up'}",
                "Gbit/s",
                f"{GOAL:.2f} of native, ahead of all peers",
                at_least_ratio(GOAL),
                digits=2,
            ),
            streams,
            reverse,
        )
        for streams in (1, 8)
        for reverse in (False, True)
    ]


def measure(way: Way, streams: int, reverse: bool, seconds: int) -> tuple[float, str]:
    """Gbit/s as the receiving end counts them, and the proof."""
    words = ["iperf3", "-c", FAR4, "-p", str(IPERF_PORT), "-J", "--get-server-output", "-t", str(seconds)]
    ran = way.run([*words, "-P", str(streams), *(["-R"] if reverse else [])], timeout=seconds + 30)
    result = _result(ran)
    end = result["end"]
    moved = int(end["sum_received"]["bytes"])
    traffic = Traffic(
        sent=0 if reverse else moved,
        received=moved if reverse else 0,
        flows=streams + 1,
        seen_from=frozenset({result["server_output_json"]["start"]["accepted_connection"]["host"]}),
        in_flight=int(end["sum_sent"]["bytes"]) - moved,
        local=result["start"]["connected"][0]["local_host"],
    )
    return float(end["sum_received"]["bits_per_second"]) / 1e9, way.prove(ran, traffic)


def _result(ran: Ran) -> dict[str, Any]:
    """iperf3's JSON, or NotProven with its complaint."""
    try:
        result: dict[str, Any] = json.loads(ran.output)
    except ValueError:
        raise NotProven(f"iperf3 said nothing, exit status {ran.status}: {ran.errors.strip()[-300:]}") from None
    require("error" not in result, f"iperf3: {result.get('error')}")
    return result


def controls(lab: BenchLab, seconds: int) -> list[str]:
    """That the assertion can fail: traffic that went natively, or through no provider, must not pass as ours."""
    said = []
    ours = Ours(lab)
    for way in (Native(lab), WithoutProvider(lab)):
        way.prove = ours.prove  # type: ignore[method-assign]
        try:
            measure(way, 1, False, seconds)
        except NotProven as refusal:
            said.append(f"control '{way.name}' is not taken for ours: {refusal}")
        else:
            raise NotProven(f"the control run '{way.name}' passed the assertion that is meant for ours")
    return said
