"""Row 6: what a command costs when it does nothing."""

from __future__ import annotations

import compileall
import json

from bench.evidence import NotProven
from bench.figures import OURS, Row
from bench.network import HERE
from bench.ways import Way, netext, python
from tests.netlab import REPOSITORY

GOAL = 120


def startup_row() -> Row:
    """The row."""

    def reached(row: Row) -> bool | None:
        own = row.median(OURS)
        return None if own is None else own <= GOAL

    row = Row("netext run --quiet -- true", "ms", f"{GOAL} ms", reached)
    row.less_is_more = True
    return row


class Unshare(Way):
    """The namespaces alone, without any network: the floor for everybody."""

    name = "unshare"

    def words(self, command: list[str]) -> list[str]:
        """By util-linux."""
        return ["unshare", "--user", "--net", "--mount", *command]


class Quiet(Way):
    """`netext run --quiet`, as the goal says."""

    name = OURS

    def words(self, command: list[str]) -> list[str]:
        """Without a provider."""
        return [*netext(), "run", "--quiet", "--", *command]


def warm_up() -> None:
    """Byte code as after an installation; without it every start would compile the package."""
    compileall.compile_dir(REPOSITORY / "src", quiet=1)


def measure(way: Way) -> tuple[float, str]:
    """Milliseconds for `true`, and the proof: the same way, once more, asked for its namespace."""
    inside = way.lab.run_as_user(way.words(["readlink", "/proc/self/ns/net"]), timeout=30, prefix=way.prefix())
    namespace = inside.output.strip()
    if (namespace == way.lab.near_namespace) != (way.name == "native") or not namespace.startswith("net:"):
        raise NotProven(f"{way.name}: the command ran in {namespace or 'no namespace'}: {inside.errors.strip()[-200:]}")
    words = [*python(), str(HERE / "load.py"), "time", "1", *way.words(["true"])]
    ran = way.lab.run_as_user(words, timeout=60, prefix=way.prefix())
    if ran.status:
        raise NotProven(f"{way.name}: {ran.errors.strip()[-300:]}")
    return float(json.loads(ran.output)[0]), f"the command ran in {namespace}"
