#!/usr/bin/env python3
"""`make bench`: the speed of `netext run` beside native and beside other programs, all in one run.

Rounds are interleaved: every way is measured once before any is measured again, so that what else the machine does
meets them all. Medians of at least five rounds; ratios count, absolute figures are this machine's.

Every measurement proves which datapath carried it (`bench/evidence.py`). The exit status is 1 if one of ours could not,
and 0 otherwise, however slow it was: `reached` and `missed` are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from subprocess import SubprocessError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import connections, datagrams, idle, latency, startup, streams
from bench.evidence import NotProven
from bench.figures import NATIVE, OURS, Row, table
from bench.network import BenchLab, raise_file_limit
from bench.peers import Mitmproxy, Redsocks, Sshuttle
from bench.ways import Native, Ours, Pasta, Slirp, SlirpJumbo, Way

ROWS = ("streams", "connections", "latency", "datagrams", "startup", "idle")


class Options(argparse.Namespace):
    """The command line."""

    quick: bool
    only: list[str]
    json: Path | None
    runs: int | None
    no_peers: bool

    @property
    def rounds(self) -> int:
        """How often each way is measured."""
        return self.runs or (2 if self.quick else 5)

    @property
    def seconds(self) -> int:
        """How long one measurement of throughput takes."""
        return 1 if self.quick else 2


class Bench:
    """One run of the benchmark."""

    def __init__(self, options: Options, lab: BenchLab, peers: list[Way], missing: dict[str, str]) -> None:
        self.options, self.lab, self.peers, self.missing = options, lab, peers, missing
        self.rows: list[Row] = []
        self.failures: list[str] = []
        self.controls: list[str] = []

    def measure(self, rows: Sequence[Row], ways: Sequence[Way], action: Callable[[Way], None]) -> None:
        """All rounds of one or more rows that are measured together."""
        for row in rows:
            row.missing |= {name: why for name, why in self.missing.items() if ways[-1].name not in (NATIVE, OURS)}
        self.rows += rows
        for number in range(self.options.rounds):
            say(f"{rows[0].name}: round {number + 1} of {self.options.rounds}")
            for way in ways:
                if way.name not in rows[0].missing:
                    self._guarded(rows, way, action)

    def _guarded(self, rows: Sequence[Row], way: Way, action: Callable[[Way], None]) -> None:
        try:
            action(way)
        except (NotProven, SubprocessError, OSError, AssertionError) as error:
            text = f"{rows[0].name}: {way.name}: {str(error)[:400]}"
            say(text)
            if way.name in (NATIVE, OURS):
                self.failures.append(text)
            for row in rows:
                row.missing[way.name] = str(error)[:400]

    def streams(self) -> None:
        """Rows 1 and 2."""
        try:
            self.controls = streams.controls(self.lab, 1)
        except NotProven as error:
            self.failures.append(str(error))
        ways = [Native(self.lab), Ours(self.lab), *self.peers]
        for row, count, reverse in streams.stream_rows():

            def action(way: Way, row: Row = row, count: int = count, reverse: bool = reverse) -> None:
                row.add(way.name, *streams.measure(way, count, reverse, self.options.seconds))

            self.measure([row], ways, action)

    def connections(self) -> None:
        """Row 3."""
        row = connections.connection_row()
        ways = [Native(self.lab), Ours(self.lab), *self.peers]
        self.measure([row], ways, lambda way: row.add(way.name, *connections.measure(way, self.options.seconds)))

    def latency(self) -> None:
        """Row 4."""
        rows = latency.latency_rows()
        ways = [Native(self.lab), Ours(self.lab), *(way for way in self.peers if way.for_latency)]

        def action(way: Way) -> None:
            times, proof = latency.measure(way, 2000 if self.options.quick else 20000)
            for name, row in rows.items():
                row.add(way.name, times[name], proof)

        self.measure(list(rows.values()), ways, action)
        for row in rows.values():
            own, native = row.median(OURS), row.median(NATIVE)
            if own is not None and native is not None:
                row.notes.append(f"{own - native:.0f} µs more than native")

    def datagrams(self) -> None:
        """Row 5."""
        loss, highest = datagrams.datagram_rows()
        ways = [Native(self.lab), Ours(self.lab)]

        def lose(way: Way) -> None:
            share, rate, proof = datagrams.measure(way, datagrams.GOAL, 1.0 if self.options.quick else 5.0)
            loss.add(way.name, share * 1e6, proof)
            if rate < datagrams.GOAL * 0.98:
                loss.notes.append(f"{way.name}: the sender came to {rate:.0f} per second only")

        self.measure([loss], ways, lose)
        self.measure([highest], ways, lambda way: highest.add(way.name, *datagrams.highest_lossless(way)))

    def startup(self) -> None:
        """Row 6."""
        startup.warm_up()
        row = startup.startup_row()
        namespaces = [way for way in self.peers if way.for_latency]
        ways = [Native(self.lab), startup.Quiet(self.lab), startup.Unshare(self.lab), *namespaces]
        self.measure([row], ways, lambda way: row.add(way.name, *startup.measure(way)))

    def idle(self) -> None:
        """Row 7."""
        row = idle.idle_row()
        count = idle.most_flows(2000 if self.options.quick else idle.FLOWS)

        def action(way: Way) -> None:
            one, _ = idle.measure(way, 1)
            held, proof = idle.measure(way, count)
            each = (held.resident - one.resident) / (count - 1)
            row.add(way.name, one.resident + each * (idle.FLOWS - 1), proof)
            parts = ", ".join(f"{name} {size:.0f}" for name, size in held.processes.items())
            row.notes = [
                (
                    f"{count:,} flows held {held.resident:.0f} MiB resident ({parts}), {held.proportional:.0f} MiB "
                    f"proportional; without flows {one.resident:.0f} and {one.proportional:.0f}; "
                    f"{each * 1024:.1f} KiB a flow"
                )
            ]
            if count != idle.FLOWS:
                row.notes.append(f"{count:,} flows are what the limit of open files allows here; scaled to 10,000")

        self.measure([row], [Ours(self.lab)], action)

    def report(self) -> str:
        """All that is to be said at the end."""
        lines = [machine(), f"Medians of {self.options.rounds} interleaved rounds, least and most in parentheses.", ""]
        lines.append(table(self.rows))
        for row in self.rows:
            lines += [f"{row.name}: {note}" for note in row.notes]
        reasons = {f"{way} missing: {why}" for row in self.rows for way, why in row.missing.items()}
        lines += ["", *sorted(reasons), "", "Which datapath was under test:", *self.controls]
        for row in self.rows:
            lines += [f"{row.name}: {way}: {proof}" for way, proof in row.proofs.items() if way in (NATIVE, OURS)]
        if self.failures:
            lines += ["", "NOT PROVEN, so these figures say nothing:", *self.failures]
        return "\n".join(lines)


def machine() -> str:
    """Where and when."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, Linux {platform.release()}, {len(names)} × {names[0] if names else 'CPU'}, "
        f"Python {platform.python_version()}, load {load:.1f} at the end"
    )


def say(text: str) -> None:
    """Progress."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def parse(arguments: list[str] | None = None) -> Options:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench/run.py", description="The speed of netext run, as ratios to native.")
    parser.add_argument("--quick", action="store_true", help="two short rounds: to see that it works, not for figures")
    rows = ", ".join(ROWS)
    parser.add_argument("--only", action="append", choices=ROWS, default=[], metavar="NAME", help=f"of {rows}")
    parser.add_argument("--runs", type=int, metavar="N", help="rounds (5; with --quick 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--no-peers", action="store_true", help="native and netext run only")
    return parser.parse_args(arguments, namespace=Options())


def start_peers(lab: BenchLab, stack: ExitStack) -> tuple[list[Way], dict[str, str]]:
    """All peers that can be measured here, started; and why the others cannot."""
    peers: list[Way] = []
    missing = {}
    for way in (Pasta(lab), Slirp(lab), SlirpJumbo(lab), Redsocks(), Sshuttle(), Mitmproxy()):
        say(f"starting {way.name}")
        why = way.missing()
        if why is None:
            try:
                way.start()
            except (RuntimeError, SubprocessError, OSError, AssertionError) as error:
                why = f"could not be started: {error}"
        if why is None:
            stack.callback(way.stop)
            peers.append(way)
        else:
            missing[way.name] = why
    missing["nsproxy"] = "no package of it can be installed here; in an earlier measurement it had 0.45 of native"
    return peers, missing


def main() -> int:
    """Measure, print, and say by the exit status whether the datapath was proven."""
    options = parse()
    if os.geteuid():
        raise SystemExit("bench: needs root to make network namespaces; what is measured runs as nobody")
    raise_file_limit()
    with ExitStack() as stack:
        lab = BenchLab()
        stack.callback(lab.close)
        chosen = options.only or ROWS
        alone = options.no_peers or not {*chosen} & {"streams", "connections", "latency", "startup"}
        bench = Bench(options, lab, *(([], {}) if alone else start_peers(lab, stack)))
        for name in chosen:
            getattr(bench, name)()
    print(bench.report())
    if options.json:
        content = {"machine": machine(), "rounds": options.rounds, "rows": [row.to_dict() for row in bench.rows]}
        content |= {"controls": bench.controls, "failures": bench.failures}
        options.json.write_text(json.dumps(content, indent=1))
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
