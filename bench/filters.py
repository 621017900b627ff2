#!/usr/bin/env python3
"""The second half of `make bench`: the speed of `netext filter` beside native and beside OpenSnitch, in one run.

Each way has two hosts of its own, so that no rule of one switches connection tracking on for another, and the rounds
are interleaved as in `run.py`. The kernel's count of the packets that it queued proves for each measurement that flows
were asked about, and for the stream that it was not, once decided.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen, SubprocessError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import attribution, floor
from bench.evidence import NotProven
from bench.figures import NATIVE, OURS, Row, table
from bench.filter_providers import PAUSED_PORT
from bench.network import ECHO_PORT, FAR4, HERE, HTTP_PORT, IPERF_PORT, BenchLab, raise_file_limit
from bench.opensnitch import QUEUE as OPENSNITCH_QUEUE
from bench.opensnitch import OpenSnitch, prove_asked, queued
from bench.run import machine, say
from bench.tls import TLS_PORT, start_tls_server
from tests.netlab import wait_for

FILTER, HELLO, RULES = "netext filter", "netext filter, ClientHello", "netext filter, 1,000 rules"
PROVIDERS = {FILTER: "AllowAll", HELLO: "ReadsHello", RULES: "ThousandRules"}
ROWS = ("stream", "connections", "hello", "rules", "paused", "attribution")
CLIENT = (sys.executable, str(HERE / "load.py"))
QUEUED_AT_MOST = 60
"""Packets of a stream that may be queued: its first ones, and those of iperf3's own control connection."""


class Way:
    """One way, with its lab. What it needs is started for each measurement and ended after it.

    Else the native rounds would carry the cost of ours: what notes the owners of sockets serves the whole machine.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._lab: BenchLab | None = BenchLab()
        self._queues: Sequence[int] = ()

    @property
    def lab(self) -> BenchLab:
        """Its two hosts."""
        assert self._lab is not None
        return self._lab

    @contextmanager
    def running(self) -> Iterator[None]:
        """While it is in force."""
        if self.name not in PROVIDERS:
            yield
            return
        with ExitStack() as stack:
            self._queues = start_filter(self.lab, PROVIDERS[self.name], stack)
            yield

    def close(self) -> None:
        """Take its hosts away."""
        if self._lab is not None:
            self._lab.close()

    def count(self) -> int | None:
        """Packets queued so far, over all queues; None where there is none."""
        counts = [count for number in self._queues if (count := queued(self.lab, number)) is not None]
        return sum(counts) if counts else None

    def client(self, *words: str, timeout: float = 60) -> str:
        """What a program in `near` prints."""
        done = self.lab.near.run(*words, timeout=timeout)
        if done.returncode:
            raise NotProven(f"{words[0]} failed: {(done.stderr or done.stdout)[-300:]}")
        return done.stdout

    def load(self, *words: str, timeout: float = 60) -> dict[str, float]:
        """The JSON of one of `load.py`'s clients."""
        result: dict[str, float] = json.loads(self.client(*CLIENT, *words, timeout=timeout))
        return result


class Rival(Way):
    """OpenSnitch, which has a lab of its own as long as it runs."""

    def __init__(self, peer: OpenSnitch) -> None:
        self.name, self._peer, self._lab, self._queues = peer.name, peer, None, (OPENSNITCH_QUEUE,)

    @contextmanager
    def running(self) -> Iterator[None]:
        """While it is in force."""
        self._lab = self._peer.start()
        try:
            yield
        finally:
            self._lab = None
            self._peer.stop()


class Floor(Way):
    """Conntrack alone, or with the barest reader of a queue (`floor.py`)."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        reader = floor.READERS.get(name)
        ends = ("-j", "NFQUEUE", "--queue-num", str(floor.NUMBER)) if reader else ("-j", "ACCEPT")
        self.client(*floor.TRACKED, *ends)

    @contextmanager
    def running(self) -> Iterator[None]:
        """While its reader runs."""
        reader = floor.READERS.get(self.name)
        if reader is None:
            yield
            return
        process = self.lab.near.start(sys.executable, str(HERE / "floor.py"), str(floor.NUMBER), reader, stderr=None)
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "bound\n":
                raise RuntimeError(f"{self.name}: its reader does not run")
            self._queues = (floor.NUMBER,)
            yield
        finally:
            _stop(process)


def start_filter(lab: BenchLab, provider: str, stack: ExitStack) -> Sequence[int]:
    """`netext filter` in `near`; the numbers of its queues once flows pass through it."""
    words = lab.netext("filter", "--quiet", "--provider", f"{HERE / 'filter_providers.py'}:{provider}")
    process = lab.near.start(*words, stderr=PIPE)
    stack.callback(_stop, process)

    def queues() -> list[int]:
        if process.poll() is not None:
            assert process.stderr is not None
            raise RuntimeError(f"netext filter ended: {process.stderr.read()[-400:]}")
        return _bound(lab)

    numbers: list[int] = wait_for(queues, 20, "the queue of netext filter")
    wait_for(lambda: "netext" in lab.near.run("nft", "list", "tables").stdout, 20, "its table")
    wait_for(lambda: _answers(lab), 20, "a flow through it")
    return numbers


def _bound(lab: BenchLab) -> list[int]:
    return [int(line.split()[0]) for line in _queue_table(lab).splitlines()]


def _queue_table(lab: BenchLab) -> str:
    return lab.near.run("cat", "/proc/net/netfilter/nfnetlink_queue").stdout


def _answers(lab: BenchLab) -> bool:
    before = _queue_table(lab)
    done = lab.near.run(*CLIENT, "hello", FAR4, str(ECHO_PORT), "1")
    return done.returncode == 0 and _queue_table(lab) != before


def _stop(process: Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except SubprocessError:
            process.kill()


class Bench:
    """One run."""

    def __init__(self, rounds: int, seconds: int, ways: dict[str, Way], missing: dict[str, str]) -> None:
        self.rounds, self.seconds, self.ways, self.missing = rounds, seconds, ways, missing
        self.rows: list[Row] = []
        self.attribution_rows: list[Row] = []
        self.failures: list[str] = []

    def measure(self, rows: Sequence[Row], names: Sequence[str], action: Callable[[Way], None]) -> None:
        """All rounds of rows that are measured together."""
        self.rows += rows
        for number in range(self.rounds):
            say(f"{rows[0].name}: round {number + 1} of {self.rounds}")
            for name in names:
                if name not in self.ways:
                    rows[0].missing[name] = self.missing.get(name, "not asked for")
                    continue
                try:
                    with self.ways[name].running():
                        action(self.ways[name])
                except (NotProven, SubprocessError, OSError, ValueError, RuntimeError, AssertionError) as error:
                    self.failures.append(f"{rows[0].name}: {name}: {str(error)[:300]}")
                    say(self.failures[-1])

    def stream(self) -> None:
        """One TCP stream whose verdict was given, both directions."""
        for reverse in (False, True):
            goal = _ratio_of(FILTER, 0.97)
            row = Row(f"1 TCP stream, {'down' if reverse else 'up'}", "Gbit/s", "0.97 of native", goal, digits=2)

            def action(way: Way, row: Row = row, reverse: bool = reverse) -> None:
                words = ["iperf3", "-c", FAR4, "-p", str(IPERF_PORT), "-J", "-t", str(self.seconds)]
                before = way.count()
                result = json.loads(way.client(*words, *(["-R"] if reverse else []), timeout=self.seconds + 30))
                rate = result["end"]["sum_received"]["bits_per_second"] / 1e9
                row.add(way.name, rate, _prove_quiet(way, before))

            self.measure([row], (NATIVE, floor.CONNTRACK, FILTER), action)

    def connections(self) -> None:
        """New connections: one after the other, many at once, and what connect() takes longer."""
        names = (NATIVE, floor.CONNTRACK, floor.QUEUE, floor.TWO_HOPS, FILTER, "OpenSnitch 1.5.8")
        one = Row("connections, one after the other", "per second", "6 × OpenSnitch", _ahead(0.0))
        many = Row("connections, 32 at once", "per second", "0.60 of native, 6 × OpenSnitch", _ahead(0.60))
        p50 = Row("connect(), p50", "µs", "native + 100 µs", _added(100))
        p99 = Row("connect(), p99", "µs", "native + 1,000 µs", _added(1000))
        p50.less_is_more = p99.less_is_more = True

        def sequential(way: Way) -> None:
            before, count = way.count(), 1500 if way.name.startswith("Open") else 4000
            result = way.load("connect", FAR4, str(ECHO_PORT), str(count))
            proof = _prove_asked(way, before, count)
            one.add(way.name, result["rate"], proof)
            p50.add(way.name, result["p50"] / 1000, proof)
            p99.add(way.name, result["p99"] / 1000, proof)

        def parallel(way: Way) -> None:
            before = way.count()
            rate, requests = _wrk(way, self.seconds)
            many.add(way.name, rate, _prove_asked(way, before, requests))

        self.measure([one, p50, p99], names, sequential)
        self.measure([many], names, parallel)

    def hello(self) -> None:
        """Connections of which each has its ClientHello read before it goes on."""
        names = (NATIVE, HELLO)
        tls = Row(
            "TLS connections, 32 at once, ClientHello read", "per second", "0.45 of native", _ratio_of(FILTER, 0.45)
        )
        bare = Row("bare hellos, one after the other", "per second", "", lambda row: None)
        for name in names:
            start_tls_server(self.ways[name].lab)

        def whole(way: Way) -> None:
            before = way.count()
            rate, requests = _wrk(way, self.seconds, f"https://{FAR4}:{TLS_PORT}/")
            tls.add(_column(way), rate, _prove_asked(way, before, requests))

        def only_hellos(way: Way) -> None:
            before = way.count()
            result = way.load("hello", FAR4, str(ECHO_PORT), "3000")
            bare.add(_column(way), result["rate"], _prove_asked(way, before, 3000))

        self.measure([tls], names, whole)
        self.measure([bare], names, only_hellos)

    def rules(self) -> None:
        """The same filter with a thousand rules before it."""

        def reached(row: Row) -> bool | None:
            without, with_rules = row.median(FILTER), row.median(RULES)
            return None if without is None or with_rules is None else with_rules >= 0.95 * without

        row = Row("connections, 1,000 rules", "per second", "within 5 % of no rules", reached)

        def action(way: Way) -> None:
            before = way.count()
            result = way.load("connect", FAR4, str(ECHO_PORT), "4000")
            row.add(way.name, result["rate"], _prove_asked(way, before, 4000))

        self.measure([row], (FILTER, RULES), action)

    def paused(self) -> None:
        """Does a flow that waits for ten seconds change what other flows see?"""

        def reached(row: Row) -> bool | None:
            alone, beside = row.median(FILTER), row.median("beside a paused flow")
            return None if alone is None or beside is None else beside <= alone * 1.25 + 10

        row = Row("connect(), p50, beside a paused flow", "µs", "as without one", reached)
        row.less_is_more = True
        way = self.ways.get(FILTER)
        if way is None:
            return

        def action(_: Way) -> None:
            alone = way.load("connect", FAR4, str(ECHO_PORT), "2000")
            row.add(FILTER, alone["p50"] / 1000, "no flow is paused")
            waiting = way.lab.near.start(*CLIENT, "connect", FAR4, str(PAUSED_PORT), "1")
            beside = way.load("connect", FAR4, str(ECHO_PORT), "2000")
            if waiting.poll() is not None:
                raise NotProven("the paused flow was not held")
            row.add("beside a paused flow", beside["p50"] / 1000, "one flow is held all the while")
            waiting.kill()
            waiting.wait()

        self.measure([row], (FILTER,), action)

    def attribution(self) -> None:
        """How long it takes to tell whose a flow is, and what noting it costs each socket."""
        rows = attribution.attribution_rows()
        self.attribution_rows = list(rows.values())
        lab = self.ways[NATIVE].lab
        for number in range(self.rounds):
            say(f"attribution: round {number + 1} of {self.rounds}")
            try:
                times, proof = attribution.measure(lab, 500)
                for name, value in times.items():
                    rows[name].add(OURS, value, proof)
                native, ours = attribution.measure_socket(lab, 4000)
                proof = "the same program, before and while the owners are noted"
                rows["socket"].add(NATIVE, native, proof)
                rows["socket"].add(OURS, ours, proof)
            except (NotProven, OSError, AssertionError) as error:
                self.failures.append(f"attribution: {str(error)[:300]}")

    def report(self) -> str:
        """All that is to be said at the end."""
        lines = [machine(), f"Medians of {self.rounds} interleaved rounds, least and most in parentheses.", ""]
        lines.append(table(self.rows, FILTER))
        if self.attribution_rows:
            lines += ["", table(self.attribution_rows)]
        for row in (*self.rows, *self.attribution_rows):
            for way in row.values:
                figures = f"{way} {row.text(way)} {row.unit}, {row.ratio_text(way)} of native"
                lines.append(f"{row.name}: {figures}: {row.proofs[way]}")
        lines += [f"{name} missing: {why}" for name, why in self.missing.items()]
        if self.failures:
            lines += ["", "NOT PROVEN, so these figures say nothing:", *self.failures]
        return "\n".join(lines)


def _column(way: Way) -> str:
    """All of ours stand in one column of the table, whichever provider they run."""
    return FILTER if way.name == HELLO else way.name


def _wrk(way: Way, seconds: int, url: str = f"http://{FAR4}:{HTTP_PORT}/") -> tuple[float, int]:
    words = ["wrk", "-t", "1", "-c", "32", "-d", f"{seconds}s", "-H", "Connection: close", url]
    output = way.client(*words, timeout=seconds + 30)
    match = re.search(r"(\d+) requests in ([\d.]+)s", output)
    if match is None or "Socket errors" in output:
        raise NotProven(f"wrk: {output[-300:]}")
    return int(match[1]) / float(match[2]), int(match[1])


def _prove_asked(way: Way, before: int | None, flows: int) -> str:
    if way.name == NATIVE:
        return _prove_native(way)
    if way.name == floor.CONNTRACK:
        return _prove_tracked(way)
    if way.name in floor.READERS:  # its rule takes a few for packets of connections that conntrack has not forgotten
        flows -= flows // 500
    return prove_asked(before, way.count(), flows)


def _prove_quiet(way: Way, before: int | None) -> str:
    """The stream's flow was queued when it began, and not afterwards."""
    if way.name == NATIVE:
        return _prove_native(way)
    if way.name == floor.CONNTRACK:
        return _prove_tracked(way)
    after = way.count()
    if before is None or after is None or not 1 <= after - before <= QUEUED_AT_MOST:
        raise NotProven(f"the queue's count went from {before} to {after}, not by 1 to {QUEUED_AT_MOST}")
    return f"{after - before} packets were queued, the rest was the kernel's"


def _prove_native(way: Way) -> str:
    if way.count() is not None or way.lab.near.run("nft", "list", "ruleset").stdout.strip():
        raise NotProven("there are rules or queues in the native lab")
    return "no rules, no queues"


def _prove_tracked(way: Way) -> str:
    tracked = int(way.client("cat", "/proc/sys/net/netfilter/nf_conntrack_count"))
    if not tracked:
        raise NotProven("no connection is tracked")
    return f"{tracked} connections are tracked, none is queued"


def _ratio_of(way: str, goal: float) -> Callable[[Row], bool | None]:
    return lambda row: None if row.ratio(way) is None else (row.ratio(way) or 0) >= goal


def _ahead(goal: float) -> Callable[[Row], bool | None]:
    def reached(row: Row) -> bool | None:
        own, rival, ratio = row.median(FILTER), row.median("OpenSnitch 1.5.8"), row.ratio(FILTER)
        return None if own is None or ratio is None else ratio >= goal and own >= 6 * (rival or 0)

    return reached


def _added(goal: float) -> Callable[[Row], bool | None]:
    def reached(row: Row) -> bool | None:
        own, native = row.median(FILTER), row.median(NATIVE)
        return None if own is None or native is None else own - native <= goal

    return reached


def start(chosen: Sequence[str], peers: bool, stack: ExitStack) -> tuple[dict[str, Way], dict[str, str]]:
    """All ways that can be measured, and why the others cannot."""
    ways: dict[str, Way] = {}
    missing = {}
    for name in (NATIVE, FILTER, *((HELLO,) if "hello" in chosen else ()), *((RULES,) if "rules" in chosen else ())):
        ways[name] = Way(name)
        stack.callback(ways[name].close)
    floors = ((floor.CONNTRACK, ("stream", "connections")), *((name, ("connections",)) for name in floor.READERS))
    for name, rows in floors:
        if any(row in chosen for row in rows):
            ways[name] = Floor(name)
            stack.callback(ways[name].close)
    if peers and "connections" in chosen:
        peer = OpenSnitch()
        if (why := peer.missing()) is None:
            ways[peer.name] = Rival(peer)
        else:
            missing[peer.name] = why
    return ways, missing


def main() -> int:
    """Measure, print, and say by the exit status whether the datapath was proven."""
    parser = argparse.ArgumentParser(prog="bench/filters.py", description="The speed of netext filter, as ratios.")
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--only", action="append", choices=ROWS, default=[], help=f"of {', '.join(ROWS)}")
    parser.add_argument("--runs", type=int, metavar="N", help="rounds (5; with --quick 2)")
    parser.add_argument("--no-peers", action="store_true", help="without OpenSnitch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    options = parser.parse_args()
    if os.geteuid():
        raise SystemExit("bench: needs root to make network namespaces and to filter in them")
    raise_file_limit()
    chosen = options.only or ROWS
    with ExitStack() as stack:
        ways, missing = start(chosen, not options.no_peers, stack)
        bench = Bench(options.runs or (2 if options.quick else 5), 1 if options.quick else 3, ways, missing)
        for name in chosen:
            getattr(bench, name)()
        print(bench.report())
    if options.json:
        options.json.write_text(
            json.dumps(
                {"machine": machine(), "rows": [row.to_dict() for row in (*bench.rows, *bench.attribution_rows)]},
                indent=1,
            )
        )
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
