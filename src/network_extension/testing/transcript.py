"""What was said between the system and a provider, line by line.

    >> new flow curl → telemetry.example:443 tcp
    << drop

`>>` is what came to the provider, `<<` what it decided, `--` what became of it. Compare it as text:

    assert transcript == '''
        >> new flow curl → telemetry.example:443 tcp
        << drop
        -- refused
    '''
"""

from __future__ import annotations

import textwrap

from ..filter_flow import FilterFlow
from ..filter_verdicts import FLOW_BYTES_MAX, FilterVerdict, VerdictKind

CAME, DECIDED, BECAME = ">>", "<<", "--"
SHOWN_BYTES = 24


class Transcript:
    """The lines so far. Equal to a text that has the same lines, whatever its indentation."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self.lines: list[str] = []

    def came(self, text: str) -> None:
        """Something came to the provider."""
        self.lines.append(f"{CAME} {text}")

    def decided(self, text: str) -> None:
        """The provider decided something."""
        self.lines.append(f"{DECIDED} {text}")

    def became(self, text: str) -> None:
        """Something became of it."""
        self.lines.append(f"{BECAME} {text}")

    def clear(self) -> None:
        """Forget the lines so far."""
        self.lines.clear()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Transcript):
            return self.lines == other.lines
        if isinstance(other, str):
            return self.lines == lines_of(other)
        return NotImplemented

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def __repr__(self) -> str:
        return f"<Transcript\n{textwrap.indent(str(self), '  ')}\n>"


def lines_of(text: str) -> list[str]:
    """The lines of a text as a transcript has them: without indentation, empty lines and spaces at the end."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def shown(data: bytes) -> str:
    """Bytes for a line: as a literal, short."""
    return repr(data) if len(data) <= SHOWN_BYTES else f"{data[:SHOWN_BYTES]!r}… ({len(data)} bytes)"


def flow_words(flow: FilterFlow) -> str:
    """A flow in the words of a transcript."""
    return repr(flow).removeprefix("<FilterFlow ").removesuffix(">")


def verdict_words(verdict: FilterVerdict) -> str:
    """A verdict in the words of a transcript."""
    if verdict.kind is VerdictKind.DATA:
        return f"pass {_count(verdict.pass_bytes)}, peek {_count(verdict.peek_bytes)}"
    if verdict.kind is VerdictKind.FILTER_DATA:
        outbound = f"outbound {_count(verdict.peek_outbound)}" if verdict.filter_outbound else ""
        inbound = f"inbound {_count(verdict.peek_inbound)}" if verdict.filter_inbound else ""
        return f"filter data: {', '.join(filter(None, (outbound, inbound))) or 'nothing'}"
    if verdict.kind is VerdictKind.DROP and verdict.silent:
        return "drop silently"
    rules = " and update rules" if verdict.update_rules and verdict.kind is not VerdictKind.UPDATE_RULES else ""
    words: str = verdict.kind.value.replace("-", " ")
    return words + rules


def _count(number: int) -> str:
    return "all" if number >= FLOW_BYTES_MAX else str(number)
