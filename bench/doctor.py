#!/usr/bin/env python3
"""How long `netext doctor PATH` takes, start-up included: the figures of docs/benchmarks.md.

    bench/doctor.py [--rounds N]

The three real apps of the tests, and the wheels that they come in, are examined by the command, each in a process of
its own, in turns with what other programs take for a part of it: hashes alone by openssl, and entitlements by npm's
macho-entitlements. What was examined is proven by the report: every hash of the code holds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.unit.doctor.corpus import CORPUS, VERSIONS, app, executables, wheel

NETEXT = Path(sys.executable).with_name("netext")


def timed(command: Sequence[str | Path]) -> tuple[float, str]:
    """Seconds, and what was printed."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return time.perf_counter() - started, done.stdout


def doctor(path: Path) -> float:
    """One examination. The report has to say that it looked at both members, and that all holds."""
    seconds, said = timed([NETEXT, "doctor", path, "--json"])
    found = json.loads(said)
    assert found["worst"] == "INFO" and len(found["verified"]) == 2, found
    return seconds


def openssl(version: str) -> float:
    """The SHA-256 of every file of the app: what no examination can do without."""
    return timed(["openssl", "dgst", "-sha256", *(path for path in app(version).rglob("*") if path.is_file())])[0]


def entitlements(version: str) -> float | None:
    """npm's reader of entitlements, over app and extension; None where it is not there (the tests install it)."""
    folder = CORPUS / "node" / "node_modules"
    if not folder.is_dir() or shutil.which("node") is None:
        return None
    script = "for (const p of process.argv.slice(1)) require(process.env.HERE + '/macho-entitlements').parseFile(p)"
    with TemporaryDirectory() as made:
        thin = []
        for number, path in enumerate(executables(version)):
            data = path.read_bytes()
            offset, size = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
            thin.append(Path(made) / str(number))
            thin[-1].write_bytes(data[offset : offset + size])
        return timed(["env", f"HERE={folder}", "node", "-e", script, *thin])[0]


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="How long netext doctor PATH takes.")
    parser.add_argument("--rounds", type=int, default=7)
    rounds: int = parser.parse_args().rounds
    rows: dict[str, Callable[[], float | None]] = {}
    for version in VERSIONS:
        rows[f"netext doctor, app of {version}"] = lambda version=version: doctor(app(version))  # type: ignore[misc]
        rows[f"netext doctor, wheel of {version}"] = lambda version=version: doctor(wheel(version))  # type: ignore[misc]
    rows["openssl dgst of all files, 0.12.15"] = lambda: openssl("0.12.15")
    rows["macho-entitlements (node), 0.12.15"] = lambda: entitlements("0.12.15")
    rows["python -c pass"] = lambda: timed([sys.executable, "-c", "pass"])[0]
    taken: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, once in rows.items():
            seconds = once()
            if seconds is not None:
                taken[name].append(seconds)
    for name, times in taken.items():
        middle, least, most = (of(times) * 1000 if times else 0.0 for of in (median, min, max))
        print(f"{name:40} {middle:6.0f} ms  ({least:.0f} to {most:.0f})" if times else f"{name:40} not here")
    print(f"most memory of any of them: {getrusage(RUSAGE_CHILDREN).ru_maxrss // 1024} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
