"""OpenSnitch of Debian as a peer: fetched and unpacked, never installed, run in a lab of its own.

One rule that allows everything, its process monitor `proc` and its iptables backend, which are what works without a
configuration of its own (its nft backend needs the queue expression that some kernels lack).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from bench.evidence import NotProven
from bench.network import BenchLab, find_program, wait_for_seconds
from tests.netlab import REPOSITORY, wait_for

FOLDER = REPOSITORY / "build" / "bench" / "opensnitch"
PACKAGES = ("opensnitch", "libnetfilter-queue1", "libnfnetlink0")
QUEUE = 0
_RULE = {
    "created": "2026-01-01T00:00:00Z",
    "updated": "2026-01-01T00:00:00Z",
    "name": "allow-all",
    "enabled": True,
    "precedence": True,
    "action": "allow",
    "duration": "always",
    "operator": {"type": "regexp", "operand": "process.path", "sensitive": False, "data": ".*", "list": []},
}
_OVERLAY = """
set -e
mount -t tmpfs none "$1" && mkdir "$1/upper" "$1/work"
mount -t overlay none -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc
mkdir -p /etc/opensnitchd/rules && cp "$2"/etc/opensnitchd/*.json /etc/opensnitchd/
cp "$3" /etc/opensnitchd/rules/allow-all.json
exec "$2/usr/bin/opensnitchd" -process-monitor-method proc -rules-path /etc/opensnitchd/rules -queue-num 0
"""


class OpenSnitch:
    """A lab with OpenSnitch in `near`."""

    name = "OpenSnitch 1.5.8"

    def __init__(self) -> None:
        self.lab: BenchLab | None = None

    def missing(self) -> str | None:
        """Why it cannot be measured here; None if it can. Fetches it at the first call."""
        if find_program("apt-get") is None or find_program("dpkg") is None:
            return "it is fetched as a Debian package, and this is no Debian"
        if not (FOLDER / "usr/bin/opensnitchd").exists():
            return _fetch()
        return None

    def start(self) -> BenchLab:
        """Start it, and wait until its rules hold."""
        self.lab = lab = BenchLab()
        scratch, rule = lab.folder / "overlay", lab.folder / "rule.json"
        scratch.mkdir()
        rule.write_text(json.dumps(_RULE))
        libraries = next(FOLDER.glob("usr/lib/*/libnetfilter_queue.so.1")).parent
        with open(lab.folder / "opensnitch.log", "w") as log:
            lab.near.start(
                "unshare", "--mount", "--propagation", "private", "sh", "-c", _OVERLAY, "sh",
                str(scratch), str(FOLDER), str(rule),
                stdout=log, stderr=subprocess.STDOUT, cwd="/",
                env=os.environ | {"LD_LIBRARY_PATH": str(libraries)},
            )  # fmt: skip
        try:
            wait_for(lambda: queued(lab, QUEUE) is not None, 20, "OpenSnitch's queue")
            wait_for_seconds(1.0)
        except AssertionError:
            text = (lab.folder / "opensnitch.log").read_text(errors="replace")[-400:]
            self.stop()
            raise RuntimeError(f"it did not start: {text}") from None
        return lab

    def stop(self) -> None:
        """End it with its lab."""
        if self.lab is not None:
            self.lab.close()
            self.lab = None


def queued(lab: BenchLab, number: int) -> int | None:
    """How many packets a queue of `near` has handed out since it was bound; None while nobody has it."""
    table = lab.near.run("cat", "/proc/net/netfilter/nfnetlink_queue").stdout
    for line in table.splitlines():
        fields = line.split()
        if int(fields[0]) == number:
            return int(fields[7])
    return None


def prove_asked(before: int | None, after: int | None, flows: int) -> str:
    """That at least `flows` packets went through the queue. Raises NotProven."""
    if before is None or after is None or after - before < flows:
        raise NotProven(f"{flows} flows, but the queue's count went from {before} to {after}")
    return f"{after - before} packets in the queue for {flows} flows"


def _fetch() -> str | None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            ["apt-get", "-qq", "download", *PACKAGES], cwd=FOLDER, capture_output=True, text=True, timeout=120
        )
        for package in FOLDER.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package.name, "."], cwd=FOLDER, check=True, capture_output=True, timeout=60)
    except (subprocess.SubprocessError, OSError) as error:
        shutil.rmtree(FOLDER, ignore_errors=True)
        return f"it cannot be fetched: {error}"
    if not Path(FOLDER / "usr/bin/opensnitchd").exists():
        shutil.rmtree(FOLDER, ignore_errors=True)
        return f"it cannot be fetched: {done.stderr.strip()[-200:]}"
    return None
