"""`netext run`, as scenarios use it: what the command said, and what the log tells about each flow."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from tests.netlab import REPOSITORY, NetLab

EXAMPLES = REPOSITORY / "examples"


class Run(NamedTuple):
    """A run that has ended."""

    status: int
    output: str
    """What the command wrote to standard output."""
    log: str
    """Standard error: that of the command, and our log."""

    def records(self, event: str) -> list[dict[str, Any]]:
        """The log's records of one kind (of a run with --json)."""
        return [record for record in log_records(self.log) if record["event"] == event]

    @property
    def flows(self) -> list[tuple[int, str, str]]:
        """Destination port, what was decided, and by whom, of each flow."""
        return [(record["remote"][1], record["outcome"], record["by"]) for record in self.records("flow")]


def log_records(log: str) -> list[dict[str, Any]]:
    """All records of a log in JSON Lines. What else is there is the command's, which may be in the middle of a line."""
    found = (line.find('{"event"') for line in log.splitlines())
    return [json.loads(line[at:]) for line, at in zip(log.splitlines(), found, strict=True) if at >= 0]


def netext_run(lab: NetLab, *words: str, timeout: float = 30, log: str = "--json") -> Run:
    """Run `netext run` in `near` as nobody; `words` are its options, "--" and the command."""
    result = lab.run(*([log] if log else []), *words, timeout=timeout)
    return Run(result.returncode, result.stdout, result.stderr)


def example(name: str, **config: object) -> tuple[str, ...]:
    """The words for a provider of `examples/` and its configuration."""
    words: tuple[str, ...] = ("--provider", str(EXAMPLES / f"{name}.py"))
    for key, value in config.items():
        words += ("--config", f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    return words
